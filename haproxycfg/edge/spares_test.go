package edge_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// TestSpares requires 2 spare servers for each cluster from HAProxy 3.0 on, and none before.
func TestSpares(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		version   haproxycfg.Version
		set, want int
	}{
		{haproxycfg.Version{}, 0, 0},
		{haproxycfg.Version{Major: 2, Minor: 6}, 0, 0},
		{haproxycfg.Version{Major: 3}, 0, 2},
		{haproxycfg.Version{Major: 3, Minor: 4}, 0, 2},
		{haproxycfg.Version{Major: 3, Minor: 4}, -1, 0},
		{haproxycfg.Version{Major: 3, Minor: 4}, 5, 5},
		{haproxycfg.Version{Major: 2, Minor: 6}, 5, 5},
	} {
		e := edge.Edge{Global: haproxycfg.Global{Version: tt.version}, SpareNodes: tt.set}
		require.Equal(t, tt.want, e.Spares(), "%+v", tt)
		config, problems := e.Config(tableOf(t, runtimeRoute("www.example.com", "/", to("web"))), []edge.Upstream{onNodes("web", 30080, 0, 1, 2)})
		require.Empty(t, problems)
		spares, nodes := 0, 0
		for _, b := range config.Backends {
			for _, s := range b.Servers {
				if haproxycfg.IsSpare(s.Slot) {
					spares++
				} else if b.Name == "nodes.eu-1" {
					nodes++
				}
			}
		}
		require.Equal(t, tt.want, spares, "%+v", tt)
		require.Equal(t, 2, nodes, "%+v", tt)
	}
}

// TestNewNodesAtRunTime lets a service use nodes that no service has used. As long as there are spare
// servers, this needs no reload, no request fails, and the agent of the new node can drain the node.
func TestNewNodesAtRunTime(t *testing.T) {
	t.Parallel()
	ports := haproxytest.Ports(t, 2)
	agentPort := ports[1]
	f := newRuntimeEdge(t)
	f.edge.AgentInterval, f.edge.CheckInterval = 100*time.Millisecond, 100*time.Millisecond
	f.edge.Defaults.Check = time.Minute
	if !f.edge.Global.Version.AtLeast(3, 0) {
		f.edge.SpareNodes = edge.DefaultSpareNodes // later versions have these by default
	}
	f.deploy.Check = nil // to save time
	agents := map[int]*agent{}
	for i := 1; i <= 6; i++ {
		agents[i] = startAgent(t, node(i).Addr, f.nodeAgent, "up ready 100%")
		startAgent(t, node(i).Addr, agentPort, "up ready 100%")
		serveText(t, netip.AddrPortFrom(node(i).Addr, uint16(ports[0])))
	}
	web := runtimeRoute("www.example.com", "/", to("web"))
	nodes := func(list ...int) []edge.Upstream {
		return []edge.Upstream{onNodes("web", ports[0], agentPort, list...)}
	}
	answering := func(what string, list ...int) {
		t.Helper()
		var want []string
		for _, i := range list {
			want = append(want, netip.AddrPortFrom(node(i).Addr, uint16(ports[0])).String())
		}
		poll(t, what, func() bool {
			got := map[string]bool{}
			for range 4 * len(list) {
				r := newClient(t, f.frontend).do("GET", "www.example.com", "/", "Connection: close\r\n")
				got[r.Header.Get("X-Server")] = true
			}
			for server := range got {
				if !slices.Contains(want, server) {
					return false
				}
			}
			return len(got) == len(want)
		})
	}
	change := func(what string, want deploy.ReloadReason, list ...int) {
		t.Helper()
		before := f.worker()
		stop := f.requests("www.example.com")
		e := f.apply(nodes(list...), web)
		failed := stop()
		require.Equal(t, want, e.Reload, "%s: %s", what, e.Detail)
		require.Equal(t, want == "", f.worker() == before, what)
		if want == "" {
			require.Empty(t, failed, what)
		}
		poll(t, what, func() bool { f.apply(nodes(list...), web); return f.oldServersAreAway() })
		f.agree()
	}
	spares := func() (inUse []string) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(f.dir, haproxytest.ConfigFile))
		require.NoError(t, err)
		for line := range strings.Lines(string(text)) {
			words := strings.Fields(line)
			if len(words) > 2 && words[0] == "server" && haproxycfg.IsSpare(words[1]) && words[len(words)-1] != "disabled" {
				inUse = append(inUse, words[1])
			}
		}
		return inUse
	}

	f.apply(nodes(1, 2), web)
	change("a new node", "", 1, 3)
	require.Equal(t, []string{"spare1"}, spares())
	answering("a new node", 1, 3)
	agents[3].set("drain")
	answering("the agent of the new node drains it", 1)
	change("a second new node", "", 1, 3, 4)
	require.Equal(t, []string{"spare1", "spare2"}, spares())
	answering("a second new node", 1, 4)
	require.Empty(t, f.apply(nodes(1, 3, 4), web).Reload, "nothing has changed")

	require.NoError(t, f.deploy.Reload(t.Context())) // as after a crash of HAProxy
	f.agree()
	answering("after a reload that the Dir has not begun", 1, 4)

	change("no spare server is left", deploy.ReloadServers, 1, 3, 4, 5)
	require.Empty(t, spares(), "after a reload, each node has a server of its own name")
	state, err := os.ReadFile(f.edge.Global.StateFile)
	require.NoError(t, err)
	require.NotContains(t, string(state), " spare")
	saved, err := runtimeapi.ParseServersState(string(state))
	require.NoError(t, err)
	drained := false
	for _, s := range saved {
		drained = drained || s.Backend == "nodes.eu-1" && s.Addr.Addr() == node(3).Addr && s.Admin&runtimeapi.ForcedDrain != 0
	}
	require.True(t, drained, "the new worker begins with the drain of the node")
	answering("no spare server is left", 1, 4, 5)

	change("a spare server is free again", "", 1, 6)
	answering("a spare server is free again", 1, 6)
	change("the new node goes", "", 1)
	require.Empty(t, spares())
	poll(t, "the spare server is in maintenance again", func() bool {
		f.apply(nodes(1), web)
		servers, err := f.stats.Servers(t.Context())
		require.NoError(t, err)
		return slices.ContainsFunc(servers, func(s runtimeapi.ServerState) bool {
			return s.Name == "spare1" && s.Addr.Addr() == haproxycfg.SpareAddr && s.Admin&runtimeapi.ForcedMaint != 0
		})
	})
	change("another new node", "", 1, 2)
	answering("another new node", 1, 2)
}
