package haproxyproc_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/internal/haproxyproc"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
	"github.com/stretchr/testify/require"
)

func config(dir string, port int) string {
	return fmt.Sprintf(`global
    stats socket %s/stats.sock level admin
defaults
    mode http
    timeout client 5s
    timeout server 5s
    timeout connect 1s
frontend f
    bind 127.0.0.1:%d
`, dir, port)
}

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
			require.Empty(t, groupMembers(t, p.Pid()))
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
	require.Empty(t, groupMembers(t, p.Pid()))
}

func TestMasterSocketAloneTellsReady(t *testing.T) {
	dir := haproxytest.Dir(t)
	file := filepath.Join(dir, "haproxy.cfg")
	require.NoError(t, os.WriteFile(file, []byte(config(dir, haproxytest.Ports(t, 1)[0])), 0o600))
	p, err := haproxyproc.Start(context.Background(), haproxyproc.Options{Config: file, MasterSocket: filepath.Join(dir, "m.sock")})
	require.NoError(t, err)
	p.Stop()
}

func TestStartTellsWhatHAProxyPrinted(t *testing.T) {
	dir := haproxytest.Dir(t)
	file := filepath.Join(dir, "haproxy.cfg")
	require.NoError(t, os.WriteFile(file, []byte("global\n    nonsense here\n"), 0o600))
	_, err := haproxyproc.Start(context.Background(), haproxyproc.Options{Config: file, StatsSocket: filepath.Join(dir, "s")})
	var start *haproxyproc.StartError
	require.ErrorAs(t, err, &start)
	require.Contains(t, start.Output, "nonsense")
	require.Contains(t, err.Error(), "ended before it was ready")
}

func TestStartGivesUpWhenNotReady(t *testing.T) {
	dir := haproxytest.Dir(t)
	file := filepath.Join(dir, "haproxy.cfg")
	require.NoError(t, os.WriteFile(file, []byte(config(dir, haproxytest.Ports(t, 1)[0])), 0o600))
	_, err := haproxyproc.Start(context.Background(), haproxyproc.Options{
		Config: file, StatsSocket: filepath.Join(dir, "other.sock"), ReadyTimeout: 100 * time.Millisecond,
	})
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestStartNeedsConfigAndSocket(t *testing.T) {
	_, err := haproxyproc.Start(context.Background(), haproxyproc.Options{StatsSocket: "x"})
	require.ErrorContains(t, err, "configuration file")
	_, err = haproxyproc.Start(context.Background(), haproxyproc.Options{Config: "x"})
	require.ErrorContains(t, err, "socket")
}

func TestFind(t *testing.T) {
	path, err := haproxyproc.Find()
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(path, "haproxy"), path)
	require.Contains(t, haproxyproc.ErrNotFound.Error(), "apt-get install haproxy")
	require.False(t, errors.Is(err, haproxyproc.ErrNotFound))
}

// groupMembers reads the processes of a group from /proc, zombies left out.
func groupMembers(t *testing.T, group int) []int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	var pids []int
	for _, file := range stats {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // ended meanwhile
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
