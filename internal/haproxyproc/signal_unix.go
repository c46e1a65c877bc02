//go:build unix

package haproxyproc

import (
	"errors"
	"os"
	"syscall"
	"time"
)

func terminate(p *os.Process) { _ = p.Signal(syscall.SIGTERM) }

func softStop(p *os.Process) { _ = p.Signal(syscall.SIGUSR1) }

// killGroup kills all remaining processes in the process group whose leader is pid.
func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }

// reapGroup waits at most 2 s for the killed children of this process in the process group of pid.
// exec.Cmd has already waited for the master. Its workers are children only if this process is
// process 1 or a subreaper.
func reapGroup(pid int) {
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		reaped, err := syscall.Wait4(-pid, nil, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.EINTR) || reaped > 0:
		case err != nil:
			return // ECHILD: no child is left
		default: // a killed child still runs
			time.Sleep(time.Millisecond)
		}
	}
}
