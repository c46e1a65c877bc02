package haproxyproc

import (
	"os/exec"
	"syscall"
)

// setProcAttr puts the child into its own process group. So Ctrl-C in a terminal reaches only the
// parent, and the parent stops HAProxy in order. If the parent dies, the kernel ends the child.
func setProcAttr(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
