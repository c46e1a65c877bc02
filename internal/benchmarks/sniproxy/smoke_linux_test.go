package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/report"
	"github.com/stretchr/testify/require"
)

// smoke returns settings of a run that takes a second.
func smoke(t *testing.T, args ...string) settings {
	s, err := parse(append([]string{"-quick", "-connections=500", "-hosts=20", "-time=30ms", "-bulk=1", "-limit=1m", "-start-limit=30s"}, args...), t.Output())
	require.NoError(t, err)
	s.few = report.Size{Cores: 1, Open: 20, Hosts: 4}
	return s
}

// TestRun runs the whole benchmark with the router that needs no installation.
func TestRun(t *testing.T) {
	result, err := run(t.Context(), smoke(t, "-peers=plain", "-rounds=2"), t.Output())
	require.NoError(t, err)
	require.Len(t, result.Routers, 1)
	plain := result.Routers[0]
	require.Len(t, plain.Points, 2*3)
	for _, p := range plain.Points {
		require.Empty(t, p.Problem)
		require.Greater(t, p.Figures[report.ConnCPU], 1.0)
		require.Greater(t, p.Figures[report.RoundTripP50], 1.0)
		require.GreaterOrEqual(t, p.Figures[report.RoundTripP99], p.Figures[report.RoundTripP50])
		require.Positive(t, p.Figures[report.Memory])
		require.Positive(t, p.Figures[report.Ready])
	}
	require.Equal(t, 2, plain.At(result.Base, report.BulkCPU).N)
	require.Positive(t, plain.At(result.Base, report.BulkCPU).Min)
	// A connection needs its two sockets and the pipes through which io.Copy splices. Pipes that
	// the runtime kept from the warm-up serve some connections, so the tolerance is large.
	require.InDelta(t, 6, plain.At(result.ManyOpen, report.IdleFiles).Median, 2)
	require.Zero(t, plain.At(result.ManyHosts, report.BulkCPU).N)

	require.Contains(t, result.Markdown(), "| plain Go ")
	file := filepath.Join(t.TempDir(), "result.json")
	require.NoError(t, writeJSON(file, result))
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	var read report.Result
	require.NoError(t, json.Unmarshal(data, &read))
	require.Equal(t, result, read)
}

// TestPaired measures two routers that run at the same time.
func TestPaired(t *testing.T) {
	dir := t.TempDir()
	_, err := find(t.Context(), "plain", dir, "")
	require.NoError(t, err)
	plain := filepath.Join(dir, "plainrouter") + " -listen {listen} -hosts {hosts}"
	result, err := pair(t.Context(), smoke(t, "-paired", "-peers=plain", "-other="+plain, "-rounds=3"), t.Output())
	require.NoError(t, err)
	require.Len(t, result.Routers, 2)
	for _, r := range result.Routers {
		require.Len(t, r.Points, 3)
		for _, p := range r.Points {
			require.Empty(t, p.Problem)
			require.Greater(t, p.Figures[report.ConnCPU], 1.0)
			require.Greater(t, p.Figures[report.RoundTripCPU], 1.0)
		}
	}
	require.Contains(t, result.Markdown(), "| other snirouter |")

	_, err = pair(t.Context(), smoke(t, "-paired", "-peers=plain", "-other=false {listen}"), t.Output())
	require.ErrorContains(t, err, "false ended (exit status 1)")
}

// TestRunBroken: the row of a router that does not work stays empty, and the run continues.
func TestRunBroken(t *testing.T) {
	for name, test := range map[string]struct{ command, limit, problem string }{
		"ends at once":   {"false {listen}", "30s", "ended (exit status 1)"},
		"never listens":  {"cat /dev/zero {hosts}", "50ms", "not ready after"},
		"does not exist": {"/nonexistent/router", "30s", "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			result, err := run(t.Context(), smoke(t, "-peers=snirouter", "-start-limit="+test.limit, "-snirouter="+test.command), t.Output())
			require.NoError(t, err)
			require.Len(t, result.Routers[0].Points, 3)
			for _, p := range result.Routers[0].Points {
				require.Contains(t, p.Problem, test.problem)
			}
			require.Contains(t, result.Markdown(), test.problem)
		})
	}
}

func TestRunEnds(t *testing.T) {
	_, err := run(t.Context(), smoke(t, "-peers=snirouter", "-limit=200ms", "-start-limit=1m", "-snirouter=sleep 60"), t.Output())
	require.ErrorContains(t, err, "not done after 200ms")
	// No process is left, not even as a zombie.
	_, err = syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
	require.ErrorIs(t, err, syscall.ECHILD)
}

func TestParse(t *testing.T) {
	s, err := parse(nil, t.Output())
	require.NoError(t, err)
	require.Equal(t, allPeers, s.peers)
	require.EqualValues(t, 1<<30, s.bulk)
	require.Equal(t, report.Sizes{
		Base:      report.Size{Cores: 1, Open: 100, Hosts: 10},
		Idle:      report.Size{Cores: 1, Open: 2000, Hosts: 10},
		ManyOpen:  report.Size{Cores: 1, Open: 5000, Hosts: 10},
		ManyHosts: report.Size{Cores: 1, Open: 100, Hosts: 100000},
	}, s.sizes())

	s, err = parse([]string{"-time=1s", "-quick", "-peers=nginx,plain"}, t.Output())
	require.NoError(t, err)
	require.Equal(t, []string{"nginx", "plain"}, s.peers)
	require.Equal(t, time.Second, s.phase, "what is given counts")
	require.Equal(t, 1, s.rounds)

	s, err = parse([]string{"-hellos"}, t.Output())
	require.NoError(t, err)
	require.Equal(t, []string{"nginx", "haproxy", "sniproxy", "tcpproxy", "plain", "snirouter"}, s.peers)

	for _, args := range [][]string{
		{"-peers=nginx,apache"},
		{"-peers="},
		{"-rounds=0"},
		{"-time=0"},
		{"-connections=5"},
		{"-hosts=2000000"},
		{"-bulk=0"},
		{"extra"},
		{"-unknown"},
		{"-peers=nginx:"},
		{"-peers=nginx:../trixie"},
		{"-peers=snirouter:trixie"},
		{"-scaling", "-hellos"},
		{"-paired", "-hellos"},
		{"-paired", "-scaling"},
		{"-other=snirouter"},
		{"-scaling", "-connections=100"},
		{"-page=README.md"},
		{"-from=x"},
	} {
		_, err := parse(args, t.Output())
		require.Error(t, err, args)
	}
}

func TestCommand(t *testing.T) {
	require.Equal(t, "cd internal/benchmarks && go run ./sniproxy", command(nil))
	require.Equal(t, `cd internal/benchmarks && go run ./sniproxy -quick '-snirouter=x {listen} it'\''s'`, command([]string{"-quick", "-snirouter=x {listen} it's"}))
}
