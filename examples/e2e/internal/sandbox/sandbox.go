//go:build linux

// Package sandbox runs a program in its own namespaces. Everything that the program starts and
// creates disappears with the program, however it ends.
//
// A program has three stages. Each is the same executable, started again with the same arguments:
//
//	Outside  the process that the user started. It creates the namespaces, forwards signals, and waits.
//	Init     process 1 of the new process namespace. It makes private mounts, and waits for ended processes.
//	Inside   the program itself.
//
// Processes, mounts, network namespaces, bridges and links are in namespaces that end with Init.
// Init ends when Outside ends, even after SIGKILL.
//
// The program must put its files in [Dir], which is in memory and disappears with the mount
// namespace.
package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is the directory for files that must disappear with the sandbox. A new file system is mounted
// there and hides /run of the computer. Every computer has /run, so the sandbox need not create a
// directory outside.
const Dir = "/run"

// TempDir is the value of TMPDIR inside the sandbox.
const TempDir = Dir + "/tmp"

// Stage names one of the three processes in which the program runs; see the package documentation.
type Stage string

// These are the stages in their order.
const (
	Outside Stage = ""
	Init    Stage = "init"
	Inside  Stage = "inside"
)

const (
	stageEnv = "HEADGATE_E2E_STAGE"
	pidEnv   = "HEADGATE_E2E_INIT_PID"
	// grace is how long a program may run after the first signal.
	grace = 30 * time.Second
)

var current, hostPID = take(stageEnv), take(pidEnv)

// take returns the value of a variable of the environment. It unsets the variable, so that children
// do not inherit it.
func take(env string) string {
	defer os.Unsetenv(env)
	return os.Getenv(env)
}

// Current returns the stage of this process.
func Current() Stage { return Stage(current) }

// HostPID returns the process ID by which the computer, outside the sandbox, knows the process
// Init. A user passes this ID to nsenter. HostPID returns 0 in a process outside the sandbox.
func HostPID() int {
	pid, _ := strconv.Atoi(hostPID)
	return pid
}

// RunOutside creates the sandbox, runs the program in it with the arguments of this process, and
// returns the exit status of the program. An error means that the sandbox could not be created.
//
// If the argument "foreground" is true and standard input is a terminal, the program can read from
// the terminal, and gets the signals of its keys, such as SIGINT for Ctrl-C.
func RunOutside(foreground bool) (int, error) {
	// Stay on this thread. The kernel kills the child (Pdeathsig) when the thread that created the
	// child ends, even if this process continues.
	runtime.LockOSThread()
	lifeline, hold, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("sandbox: %w", err)
	}
	defer hold.Close()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)

	cmd := again(Init)
	cmd.ExtraFiles = []*os.File{lifeline}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
		// The child has its own process group, so Ctrl-C in a terminal reaches only this process,
		// which forwards it.
		Setpgid: true,
		// A shell in the sandbox can read from the terminal only if its process group is the
		// foreground group of the terminal.
		Foreground: foreground && isTerminal(os.Stdin),
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("sandbox: new mount, process and network namespaces (in a container this takes --privileged): %w", err)
	}
	lifeline.Close()
	fmt.Fprintf(hold, "%d\n", cmd.Process.Pid)

	ended := make(chan struct{})
	forwarded := make(chan struct{})
	go forward(cmd.Process, signals, ended, forwarded)
	err = cmd.Wait()
	close(ended)
	<-forwarded
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, fmt.Errorf("sandbox: %w", err)
	}
	return status(cmd.ProcessState.Sys().(syscall.WaitStatus)), nil
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// forward sends SIGTERM to p at the first signal. It kills the sandbox at the second signal, or if
// the program still runs 30 s (grace) after the first signal.
func forward(p *os.Process, signals <-chan os.Signal, ended <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	var late <-chan time.Time
	for {
		select {
		case <-ended:
			return
		case <-late:
			_ = p.Kill()
		case <-signals:
			if late != nil {
				_ = p.Kill()
				continue
			}
			late = time.After(grace)
			_ = p.Signal(syscall.SIGTERM)
		}
	}
}

func again(s Stage) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), stageEnv+"="+string(s))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}

// status converts a wait status into the exit status that a shell reports.
func status(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}
