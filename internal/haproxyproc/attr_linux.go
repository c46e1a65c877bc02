package haproxyproc

import (
	"os/exec"
	"syscall"
)

// setProcAttr puts the child into a process group of its own, so that Ctrl-C in a terminal reaches
// only the parent, which then stops HAProxy in order. The kernel ends the child if the parent dies.
func setProcAttr(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
