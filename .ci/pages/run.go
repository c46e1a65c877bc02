package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// runner runs the steps of pages.
type runner struct {
	dir                        string
	env                        []string
	deadline, internetDeadline time.Duration
	log                        io.Writer
}

// environment returns the environment variables of the commands, and writes two files into dir: one
// for Git, and one for apt. With the file for Git, "git clone" of headgate's URL copies the
// directory "checkout". With the file for apt, apt-get waits while another apt-get runs.
func environment(dir, checkout string) ([]string, error) {
	home := filepath.Join(dir, "home")
	git := fmt.Sprintf("[safe]\n\tdirectory = *\n[url \"file://%s\"]\n\tinsteadOf = https://github.com/headgate/headgate\n", checkout)
	err := errors.Join(os.Mkdir(home, 0o700),
		os.WriteFile(filepath.Join(home, "gitconfig"), []byte(git), 0o600),
		os.WriteFile(filepath.Join(home, "apt.conf"), []byte("DPkg::Lock::Timeout \"300\";\n"), 0o644))
	if err != nil {
		return nil, err
	}
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "HEADGATE_") && !strings.HasPrefix(v, "MAKE") {
			env = append(env, v)
		}
	}
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH"} {
		out, err := exec.Command("go", "env", name).Output()
		if err != nil {
			return nil, fmt.Errorf("go env %s: %w", name, err)
		}
		env = append(env, name+"="+strings.TrimSpace(string(out)))
	}
	return append(env, "HOME="+home, "GIT_CONFIG_GLOBAL="+filepath.Join(home, "gitconfig"), "APT_CONFIG="+filepath.Join(home, "apt.conf"),
		"DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", "TERM=dumb"), nil
}

// The text in start is the first input of the shell. The shell is process 1 of its own process
// namespace. So the kernel ends all processes of the page when the shell ends.
const start = "mount -t proc proc /proc\nexport SHELLOPTS\n"

// The commands in isolate replace the shell by a new one in a network that has only loopback. The
// exported variable SHELLOPTS passes the option -e to the new shell.
const isolate = "exec unshare --net bash --noprofile --norc\nip link set lo up\n"

// run runs the steps of a page.
func (r runner) run(ctx context.Context, page string, steps []step) error {
	for _, s := range steps {
		if err := checkSyntax(ctx, s.commands); err != nil {
			return fmt.Errorf("%s:%d: %w", page, s.line, err)
		}
	}
	// The kernel kills the shell when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sh, err := r.startShell(ctx)
	if err != nil {
		return err
	}
	defer sh.wait()
	defer cancel()
	isolated := false
	for _, s := range steps {
		if !s.internet && !isolated {
			isolated = true
			sh.send(isolate)
		}
		limit := r.deadline
		if s.internet {
			limit = r.internetDeadline
		}
		fmt.Fprintf(r.log, "%s:%d\n%s", page, s.line, indent("$ ", s.commands))
		began := time.Now()
		out, err := sh.do(ctx, s.commands, limit)
		fmt.Fprintf(r.log, "%s(%s)\n", indent("  ", out), time.Since(began).Round(time.Millisecond))
		if err == nil {
			err = s.compare(out)
		}
		if err != nil {
			failure := fmt.Sprintf("%s:%d: %v\nthe commands:\n%s", page, s.line, err, indent("    ", s.commands))
			if errors.Is(err, errOutput) {
				failure += "the output on the page:\n" + indent("    ", s.output)
			}
			return errors.New(failure + "the output:\n" + indent("    ", out))
		}
	}
	return nil
}

// checkSyntax returns an error if the commands of a block are not complete, so that the shell would
// wait for further lines.
func checkSyntax(ctx context.Context, commands string) error {
	cmd := exec.CommandContext(ctx, "bash", "-n")
	cmd.Stdin = strings.NewReader(commands)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		return fmt.Errorf("the commands are no complete bash commands: %s", strings.TrimSpace(string(out)))
	}
	return nil
}

func indent(prefix, text string) string {
	var b strings.Builder
	for _, line := range lines(text) {
		b.WriteString(prefix + line + "\n")
	}
	return b.String()
}

// shell is a running bash.
type shell struct {
	cmd   *exec.Cmd
	stdin io.Writer
	lines <-chan string
	token string
	steps int
}

func (r runner) startShell(ctx context.Context) (*shell, error) {
	cmd := exec.CommandContext(ctx, "bash", "--noprofile", "--norc", "-e")
	cmd.Dir, cmd.Env = r.dir, r.env
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID,
		// CLONE_NEWNS is in Unshareflags and not in Cloneflags: with Unshareflags, package syscall
		// also makes all mounts private. So mounts of the page do not appear in the mount namespace
		// of the machine.
		Unshareflags: syscall.CLONE_NEWNS,
		Pdeathsig:    syscall.SIGKILL,
		Setpgid:      true,
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		out.Close()
		return nil, fmt.Errorf("start bash in new namespaces, which needs root: %w", err)
	}
	read := make(chan string)
	go readLines(out, read)
	sh := &shell{cmd: cmd, stdin: in, lines: read, token: "end-of-step-" + rand.Text()}
	sh.send(start)
	return sh, nil
}

// readLines sends the lines of f until all processes that write to f have ended.
func readLines(f *os.File, to chan<- string) {
	defer f.Close()
	defer close(to)
	r := bufio.NewReader(f)
	for {
		line, err := r.ReadString('\n')
		if line != "" {
			to <- line
		}
		if err != nil {
			return
		}
	}
}

// send writes to the standard input of the shell. If the shell has ended, the next call of the
// method "do" returns an error.
func (sh *shell) send(text string) { _, _ = io.WriteString(sh.stdin, text) }

// do runs commands, and returns their output.
func (sh *shell) do(ctx context.Context, commands string, limit time.Duration) (string, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	sh.steps++
	end := fmt.Sprintf("%s-%d", sh.token, sh.steps)
	sh.send(commands + "\nprintf '\\n%s\\n' " + end + "\n")
	var out strings.Builder
	for {
		select {
		case line, ok := <-sh.lines:
			if !ok {
				sh.wait()
				return out.String(), fmt.Errorf("a command failed: the shell ended with %v", sh.cmd.ProcessState)
			}
			if strings.TrimSpace(line) == end {
				return strings.TrimSuffix(out.String(), "\n"), nil
			}
			out.WriteString(line)
		case <-timer.C:
			return out.String(), fmt.Errorf("the commands have not ended within %s", limit)
		case <-ctx.Done():
			return out.String(), ctx.Err()
		}
	}
}

// wait waits for the end of the shell, and reads the rest of its output.
func (sh *shell) wait() {
	for range sh.lines {
	}
	_ = sh.cmd.Wait()
}
