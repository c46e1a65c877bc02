package main

import (
	"bytes"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/controllermetrics"
	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// TestObserveCounts starts HAProxy with the configuration of -observe. /metrics must show the
// counters that the terminator reads from HAProxy through the master socket. After the end of
// HAProxy, /metrics must not show them.
func TestObserveCounts(t *testing.T) {
	w := newWorld(t)
	dir := haproxytest.Dir(t)
	stats := filepath.Join(dir, haproxytest.StatsSocket)
	w.write("eu-1/objects.yaml", manyServices(1))
	w.write("routes.yaml", "routes:\n"+manyRoutes(1, 1, func(int) string { return "s01" }))
	address := "127.0.0.1:" + strconv.Itoa(haproxytest.Ports(t, 1)[0])
	code, _, stderr := w.runAlone("-out", w.path("out"), "-once", "-observe", "-stats-socket", stats, "-http", address)
	require.Equal(t, cli.ExitOK, code, stderr)
	haproxy := haproxytest.StartMaster(t, dir, w.read("out/haproxy.cfg"))
	registry := controllermetrics.New(program, func() (s controller.Status) { return s })
	master := filepath.Join(dir, haproxytest.MasterSocket)
	worker := (&settings{reload: master}).counters()
	worker.Master.Timeout = 30 * time.Second
	registry.Observe(worker.Worker, slog.New(slog.DiscardHandler))
	counts := func() map[string]float64 {
		families, err := registry.Gather()
		require.NoError(t, err)
		got := map[string]float64{}
		for _, f := range families {
			if f.GetName() != "headgate_terminator_observed_total" {
				continue
			}
			for _, m := range f.Metric {
				got[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
		return got
	}
	require.Len(t, counts(), 12)
	require.Zero(t, counts()["dot-segment"])
	r, err := http.Get("http://" + address + "/a/%2e%2e/b")
	require.NoError(t, err)
	require.NoError(t, r.Body.Close())
	require.Equal(t, 1.0, counts()["dot-segment"])
	// After a refused reload, the master may list the worker as an old one.
	require.NoError(t, os.WriteFile(filepath.Join(dir, haproxytest.ConfigFile), []byte("nonsense\n"), 0o600))
	require.Error(t, deploy.Reloader{Master: runtimeapi.Socket{Path: master}}.Reload(t.Context()))
	require.Equal(t, 1.0, counts()["dot-segment"])
	haproxy.Stop()
	require.Empty(t, counts())
}

// TestObserveErrors checks the case that HAProxy does not show its counters. /metrics then has none
// of these metrics, and the log has the reason only once.
func TestObserveErrors(t *testing.T) {
	var answer atomic.Value
	answer.Store("Permission denied\n\n")
	s := &settings{}
	s.Builder.Edge.Global.StatsSocket = haproxytest.FakeSocket(t, "unix", func(string) string { return answer.Load().(string) })
	var log bytes.Buffer
	worker := s.counters()
	worker.Stats.Timeout = 30 * time.Second
	m := controllermetrics.New(program, func() (s controller.Status) { return s })
	m.Observe(worker.Worker, slog.New(slog.NewTextHandler(&log, nil)))
	count := func() int {
		families, err := m.Gather()
		require.NoError(t, err)
		for _, f := range families {
			if f.GetName() == "headgate_terminator_observed_total" {
				return len(f.Metric)
			}
		}
		return 0
	}
	for range 2 {
		require.Zero(t, count())
	}
	require.Equal(t, 1, strings.Count(log.String(), "Permission denied"), log.String())
	answer.Store("# table: observed, type: integer, size:1, used:0\n\n")
	require.Equal(t, 12, count())
}
