package haproxyproc_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/headgate/headgate/internal/haproxyproc"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestStartStop(t *testing.T) {
	for _, master := range []bool{false, true} {
		t.Run(fmt.Sprintf("master=%v", master), func(t *testing.T) {
			dir := haproxytest.Dir(t)
			cfg := config(dir, haproxytest.Ports(t, 1)[0])
			start := haproxytest.Start
			if master {
				start = haproxytest.StartMaster
			}
			p := start(t, dir, cfg)
			pids := groupMembers(t, p.Pid())
			require.Contains(t, pids, p.Pid())
			if master {
				require.Len(t, pids, 2, "a master and its worker")
			}
			p.Stop()
			p.Stop()
			<-p.Done()
			requireGroupEnds(t, p.Pid())
		})
	}
}

func TestWorkerDoesNotOutliveItsMaster(t *testing.T) {
	dir := haproxytest.Dir(t)
	p := haproxytest.StartMaster(t, dir, config(dir, haproxytest.Ports(t, 1)[0]))
	proc, err := os.FindProcess(p.Pid())
	require.NoError(t, err)
	require.NoError(t, proc.Kill())
	require.Error(t, p.Err())
	requireGroupEnds(t, p.Pid())
}

const ownerDir = "HAPROXYPROC_TEST_OWNER_DIR"

// TestOwnerChild is the process that TestHAProxyEndsWithItsOwner kills.
func TestOwnerChild(t *testing.T) {
	dir := os.Getenv(ownerDir)
	if dir == "" {
		return // this is not the child process
	}
	p, err := haproxyproc.Start(context.Background(), haproxyproc.Options{
		Config: filepath.Join(dir, "haproxy.cfg"), StatsSocket: filepath.Join(dir, "stats.sock"), MasterSocket: filepath.Join(dir, "master.sock"),
	})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pid"), []byte(strconv.Itoa(p.Pid())), 0o600))
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

func TestHAProxyEndsWithItsOwner(t *testing.T) {
	dir := haproxytest.Dir(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "haproxy.cfg"), []byte(config(dir, haproxytest.Ports(t, 1)[0])), 0o600))
	child := exec.Command(os.Args[0], "-test.run=^TestOwnerChild$")
	child.Env = append(os.Environ(), ownerDir+"="+dir)
	require.Error(t, child.Run())
	text, err := os.ReadFile(filepath.Join(dir, "pid"))
	require.NoError(t, err)
	pid, err := strconv.Atoi(string(text))
	require.NoError(t, err)
	requireGroupEnds(t, pid)
}

// requireGroupEnds waits until the kernel has ended all processes of a group. A killed process needs
// processor time to end.
func requireGroupEnds(t *testing.T, group int) {
	t.Helper()
	require.Eventually(t, func() bool { return len(groupMembers(t, group)) == 0 }, time.Minute, 10*time.Millisecond)
}

// groupMembers returns the processes of a group from /proc, without zombies.
func groupMembers(t *testing.T, group int) []int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	var pids []int
	for _, file := range stats {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // the process has ended
		}
		_, rest, _ := strings.Cut(string(data), ") ")
		var state string
		var parent, pgrp, pid int
		if _, err := fmt.Sscan(rest, &state, &parent, &pgrp); err != nil || pgrp != group || state == "Z" {
			continue
		}
		_, err = fmt.Sscan(string(data), &pid)
		require.NoError(t, err)
		pids = append(pids, pid)
	}
	return pids
}

// TestSubreaperChild is the process that TestWorkersAreReaped starts. Orphans become its children,
// as orphans in a container become children of process 1.
func TestSubreaperChild(t *testing.T) {
	if os.Getenv(ownerDir) == "" {
		return // this is not the child process
	}
	require.NoError(t, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
	TestWorkerDoesNotOutliveItsMaster(t)
	_, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
	require.ErrorIs(t, err, syscall.ECHILD, "a child is left")
}

func TestWorkersAreReaped(t *testing.T) {
	child := exec.Command(os.Args[0], "-test.run=^TestSubreaperChild$")
	child.Env = append(os.Environ(), ownerDir+"=x")
	out, err := child.CombinedOutput()
	require.NoError(t, err, "%s", out)
}
