package procfs

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestGroup measures the process group of the test itself, after the test has used processor time,
// memory and descriptors.
func TestGroup(t *testing.T) {
	own := Group(syscall.Getpgrp())
	processes, err := own.Processes()
	require.NoError(t, err)
	pids := make([]int, 0, len(processes))
	for _, p := range processes {
		pids = append(pids, p.PID)
	}
	require.Contains(t, pids, os.Getpid())

	_, err = Group(1 << 30).Processes()
	require.ErrorContains(t, err, "no process")
	_, err = Group(1 << 30).CPU()
	require.Error(t, err)
}

func TestProcessTime(t *testing.T) {
	before, err := processTime(os.Getpid())
	require.NoError(t, err)
	var own syscall.Rusage
	for used := time.Duration(0); used < 30*time.Millisecond; {
		require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &own))
		after, err := processTime(os.Getpid())
		require.NoError(t, err)
		require.GreaterOrEqual(t, after, before)
		used = after - before
	}
	after, err := processTime(os.Getpid())
	require.NoError(t, err)
	require.InDelta(t, float64(own.Utime.Nano()+own.Stime.Nano()), float64(after), float64(200*time.Millisecond))
}

func TestDescriptors(t *testing.T) {
	own := Group(syscall.Getpgrp())
	memory, err := own.Memory()
	require.NoError(t, err)
	require.GreaterOrEqual(t, memory.RSS, memory.PSS)
	require.Positive(t, memory.PSS)
	n, err := own.Descriptors()
	require.NoError(t, err)
	require.GreaterOrEqual(t, n, 3)
	busy, err := Busy(0)
	require.NoError(t, err)
	require.Positive(t, busy)
}

func TestEndedProcess(t *testing.T) {
	ended := exec.Command("true")
	require.NoError(t, ended.Run())
	pid := ended.Process.Pid
	_, err := processTime(pid)
	require.True(t, hasEnded(err), "%v", err)
	_, err = os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	require.True(t, hasEnded(err), "%v", err)
	require.False(t, hasEnded(nil))
	require.False(t, hasEnded(os.ErrPermission))
}
