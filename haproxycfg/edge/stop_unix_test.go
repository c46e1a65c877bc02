//go:build unix

package edge_test

import (
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// TestMonitorFailsFirst stops HAProxy. The Monitor path fails at once, and HAProxy still serves
// requests during Grace.
func TestMonitorFailsFirst(t *testing.T) {
	w := newWorld(t)
	address := "127.0.0.1:" + strconv.Itoa(haproxytest.Ports(t, 1)[0])
	config := &haproxycfg.Config{
		Global: haproxycfg.Global{StatsSocket: w.stats.Path, Grace: 20 * time.Second, HardStopAfter: 21 * time.Second},
		Frontends: []haproxycfg.Frontend{{
			Name: "f", Binds: []haproxycfg.Bind{{Address: address}}, Monitor: "/ready", DefaultBackend: "b",
		}},
		Backends: []haproxycfg.Backend{{Name: "b", Response: &haproxycfg.FixedResponse{Status: 200, Body: "here"}}},
	}
	files, err := config.Render(w.dir)
	require.NoError(t, err)
	p := haproxytest.Start(t, w.dir, string(files[len(files)-1].Data))

	status := func(path string) int { return newClient(t, address).do("GET", "h", path, "").StatusCode }
	require.Equal(t, 200, status("/ready"))
	require.NoError(t, syscall.Kill(p.Pid(), syscall.SIGUSR1))
	require.Eventually(t, func() bool { return status("/ready") == 503 }, 30*time.Second, 10*time.Millisecond)
	require.Equal(t, 200, status("/"))
}

// TestShiftInAProcessThatStops: after a reload, the old process still serves requests of connections
// that it has kept. These requests follow the shift too.
func TestShiftInAProcessThatStops(t *testing.T) {
	w := newShiftWorld(t, edge.Edge{Shares: map[string]edge.Share{"a.example.com/": {Cluster: "new", Points: 10000}}}, nil)
	clients := make([]*client, 3)
	for i := range clients {
		clients[i] = newClient(t, w.frontend)
		_, by := clients[i].get("a.example.com", "/")
		require.Equal(t, w.new.String(), by)
	}
	require.NoError(t, syscall.Kill(w.process.Pid(), syscall.SIGUSR1))
	for _, c := range clients {
		// After the signal SIGUSR1, HAProxy closes each connection after the next response.
		poll(t, "HAProxy stops", func() bool {
			r := c.do("GET", "a.example.com", "/", "")
			require.Equal(t, w.new.String(), r.Header.Get("X-Served-By"))
			return r.Close
		})
	}
}
