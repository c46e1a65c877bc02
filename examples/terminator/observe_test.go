package main

import (
	"net/http"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/observed"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// TestObserveCounts starts HAProxy with the configuration of -observe. /metrics has the counters of
// HAProxy, and nothing after HAProxy has ended.
func TestObserveCounts(t *testing.T) {
	w := newWorld(t)
	dir := haproxytest.Dir(t)
	stats := filepath.Join(dir, haproxytest.StatsSocket)
	w.write("eu-1/objects.yaml", manyServices(1))
	w.write("routes.yaml", "routes:\n"+manyRoutes(1, 1, func(int) string { return "s01" }))
	address := "127.0.0.1:" + strconv.Itoa(haproxytest.Ports(t, 1)[0])
	code, _, stderr := w.runAlone("-out", w.path("out"), "-once", "-observe", "-stats-socket", stats, "-http", address)
	require.Equal(t, cli.ExitOK, code, stderr)
	haproxy := haproxytest.Start(t, dir, w.read("out/haproxy.cfg"))
	registry := prometheus.NewRegistry()
	registry.MustRegister(observed.Collector{Socket: runtimeapi.Socket{Path: stats}})
	counts := func() map[string]float64 {
		families, err := registry.Gather()
		require.NoError(t, err)
		got := map[string]float64{}
		for _, f := range families {
			for _, m := range f.Metric {
				got[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
		return got
	}
	require.Len(t, counts(), 8)
	require.Zero(t, counts()["dot-segment"])
	r, err := http.Get("http://" + address + "/a/%2e%2e/b")
	require.NoError(t, err)
	require.NoError(t, r.Body.Close())
	require.Equal(t, 1.0, counts()["dot-segment"])
	haproxy.Stop()
	require.Empty(t, counts())
}
