package haproxyproc

import (
	"os/exec"
	"syscall"
)

// setProcAttr gives the child its own process group, so that a Ctrl-C in a
// terminal reaches only the owner, who then stops HAProxy in order, and lets
// the kernel end it when the owner dies.
func setProcAttr(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
