package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a program that runs on a machine. Goroutines may call its methods concurrently.
type Process struct {
	// Name is unique in the lab. The output of the process is appended to the file Log.
	Name, Log string
	// Machine is the machine that the process runs on.
	Machine *Machine

	argv []string
	env  []string

	mu      sync.Mutex
	cmd     *exec.Cmd
	done    chan struct{}
	wanted  bool // started, and neither stopped nor killed
	waitErr error
}

// Start runs the command argv in the network namespace of the machine. It searches for argv[0]
// first in the bin directory of the lab, and then on PATH. If the process ends by itself,
// [Lab.Died] reports it.
func (m *Machine) Start(name string, argv ...string) (*Process, error) {
	return m.StartEnv(name, nil, argv...)
}

// StartEnv starts a program, as Start does, with the additional environment variables env.
func (m *Machine) StartEnv(name string, env []string, argv ...string) (*Process, error) {
	if err := os.Remove(filepath.Join(m.lab.opts.Logs, name+".log")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("lab: %w", err)
	}
	p := &Process{Name: name, Machine: m, argv: slices.Clone(argv), env: env, Log: filepath.Join(m.lab.opts.Logs, name+".log")}
	if err := m.lab.own(p); err != nil {
		return nil, err
	}
	return p, p.Start()
}

// Start starts a stopped or killed process again, with the same arguments.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running() {
		return fmt.Errorf("lab: %s is running", p.Name)
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	defer log.Close()
	fmt.Fprintf(log, "--- %s %s\n", time.Now().Format("15:04:05.000"), strings.Join(p.argv, " "))
	cmd := exec.Command(p.Machine.lab.lookPath(p.argv[0]), p.argv[1:]...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	// Give the process its own process group, so that a signal to the group reaches its children
	// too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.Machine.Do(cmd.Start); err != nil {
		return fmt.Errorf("lab: start %s: %w", p.Name, err)
	}
	p.cmd, p.wanted, p.done, p.waitErr = cmd, true, make(chan struct{}), nil
	go p.wait(cmd, p.done)
	return nil
}

func (p *Process) wait(cmd *exec.Cmd, done chan<- struct{}) {
	err := cmd.Wait()
	p.mu.Lock()
	p.waitErr = err
	p.mu.Unlock()
	close(done)
}

func (p *Process) running() bool {
	if p.done == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Running reports whether the process runs.
func (p *Process) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running()
}

// PID returns the process id inside the sandbox.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}

// Signal sends a signal to the process, not to its children.
func (p *Process) Signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("lab: signal %s: %w", p.Name, err)
	}
	return nil
}

// stopTime is how long a process may run after SIGTERM.
const stopTime = 10 * time.Second

// Stop sends SIGTERM. If the process still runs after ten seconds, Stop kills it and returns an
// error.
func (p *Process) Stop() error {
	done := p.end(syscall.SIGTERM)
	select {
	case <-done:
		return nil
	case <-time.After(stopTime):
		p.Kill()
		return fmt.Errorf("lab: %s did not end within %s of SIGTERM", p.Name, stopTime)
	}
}

// Kill sends SIGKILL to the process and its children, and waits until the process is gone.
func (p *Process) Kill() { <-p.end(syscall.SIGKILL) }

// Restart stops the process and starts it again.
func (p *Process) Restart() error {
	if err := p.Stop(); err != nil {
		return err
	}
	return p.Start()
}

// The method "end" sends the signal s to the process group. The returned channel is closed when the
// process has ended.
func (p *Process) end(s syscall.Signal) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = false
	if p.done == nil {
		gone := make(chan struct{})
		close(gone)
		return gone
	}
	if p.running() {
		_ = syscall.Kill(-p.cmd.Process.Pid, s)
	}
	return p.done
}

// died returns an error if the process ended without Stop or Kill, and nil otherwise.
func (p *Process) died() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.wanted || p.running() {
		return nil
	}
	return fmt.Errorf("lab: %s ended by itself: %w", p.Name, errors.Join(p.waitErr, tail(p.Log, 15)))
}

// Run runs a command on the machine until it ends, and returns its standard output. An error
// contains its standard error.
func (m *Machine) Run(ctx context.Context, argv ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, m.lab.lookPath(argv[0]), argv[1:]...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// After the end of the child, wait at most 10 s for the output pipes: a grandchild may keep them
	// open.
	cmd.WaitDelay = 10 * time.Second
	if err := m.Do(cmd.Start); err != nil {
		return "", fmt.Errorf("lab: %s on %s: %w", argv[0], m.Name, err)
	}
	if err := cmd.Wait(); err != nil {
		return stdout.String(), fmt.Errorf("lab: %s on %s: %w: %s", argv[0], m.Name, err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Tail returns the end of the log as an error, for reports. It returns nil if the log is empty.
func (p *Process) Tail() error { return tail(p.Log, 15) }

// tail returns the last lines of a log as an error, for reports. It returns nil if the log is
// empty.
func tail(path string, lines int) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	const most = 32 << 10
	if end, err := f.Seek(0, io.SeekEnd); err == nil {
		_, _ = f.Seek(max(0, end-most), io.SeekStart)
	}
	b, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return err
	}
	if last := lastLines(string(b), lines); last != "" {
		return fmt.Errorf("last lines of %s:\n%s", filepath.Base(path), last)
	}
	return nil
}

// lastLines returns the last n lines of s, indented.
func lastLines(s string, n int) string {
	s = strings.TrimRight(s, "\n")
	if s == "" {
		return ""
	}
	all := strings.Split(s, "\n")
	all = all[max(0, len(all)-n):]
	for i, line := range all {
		if len(line) > 400 {
			line = line[:400] + "…"
		}
		all[i] = "    " + line
	}
	return strings.Join(all, "\n")
}
