//go:build linux

package sandbox

import (
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStatusIsThatOfAShell(t *testing.T) {
	for script, want := range map[string]int{
		"exit 0":        0,
		"exit 3":        3,
		"kill -KILL $$": 137,
		"kill -TERM $$": 143,
	} {
		cmd := exec.Command("sh", "-c", script)
		_ = cmd.Run()
		require.Equal(t, want, status(cmd.ProcessState.Sys().(syscall.WaitStatus)), script)
	}
}

func TestCurrentOutsideASandbox(t *testing.T) {
	require.Equal(t, Outside, Current())
	require.Zero(t, HostPID())
}
