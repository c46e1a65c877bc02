//go:build linux

// Package sandbox runs a program in namespaces of its own, so that whatever it starts
// and makes vanishes with it, however it ends.
//
// A program passes through three stages, each of which is the same executable started
// again with the same arguments:
//
//	Outside  the process that the user started. It makes the namespaces, forwards signals, and waits.
//	Init     process 1 of the new process namespace. It mounts what must be private, and reaps.
//	Inside   the program proper.
//
// Processes, mounts, network namespaces, bridges and links live in namespaces that end
// with Init, and Init ends with Outside, be it killed with SIGKILL: the kernel signals
// it then, and beside that it reads a pipe that Outside alone holds open. Files belong
// in [Dir], which is memory and ends with the mount namespace.
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
)

// Dir is where files that end with the sandbox belong. It covers the machine's /run,
// which always exists, so that nothing need be created outside.
const Dir = "/run"

// TempDir is what TMPDIR says inside.
const TempDir = Dir + "/tmp"

// Stage is how deep in the sandbox a process is.
type Stage string

// The stages, in their order.
const (
	Outside Stage = ""
	Init    Stage = "init"
	Inside  Stage = "inside"
)

const (
	stageEnv = "HEADGATE_E2E_STAGE"
	pidEnv   = "HEADGATE_E2E_INIT_PID"
	// grace is how long a program may take to end after a first signal.
	grace = 30 * time.Second
)

var current, hostPID = take(stageEnv), take(pidEnv)

// take reads a variable and removes it: what the program starts is not of the sandbox.
func take(env string) string {
	defer os.Unsetenv(env)
	return os.Getenv(env)
}

// Current returns the stage of this process.
func Current() Stage { return Stage(current) }

// HostPID is the process id of Init as the machine outside sees it: what nsenter wants.
// It is 0 when not inside.
func HostPID() int {
	pid, _ := strconv.Atoi(hostPID)
	return pid
}

// RunOutside makes the sandbox, runs the program in it with this process's arguments,
// and returns its exit status. An error means that the sandbox could not be made.
func RunOutside() (int, error) {
	// The kernel signals the child when the thread that made it ends, not the process.
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
		// A group of its own: Ctrl-C in a terminal reaches this process alone, which forwards it.
		Setpgid: true,
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

// forward passes on a first signal, and ends the sandbox at a second one or when the
// program takes too long.
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

// status is a wait status as a shell would give it.
func status(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}
