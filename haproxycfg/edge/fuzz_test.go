package edge_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/internal/configtest"
	"github.com/headgate/headgate/haproxycfg/routes"
)

// FuzzEdge declares a good route and a route with arbitrary strings. The configuration serves the
// good route, and the rendered text has exactly the sections and lines of the Config.
func FuzzEdge(f *testing.F) {
	for _, s := range []string{"a.example.com", "*.example.com", "x\ny", "x y", "a#b", "'", "\\", "\x00", "\r", "{}", "é", "not-found", "nodes", ".", ":", "/", "backend"} {
		f.Add(s, "/"+s, s, s, s, "/"+s, s, int64(time.Second), 100, false)
		f.Add("h.example.com", "/p", "eu-1", s, "http", "", "", int64(0), 0, true)
	}
	f.Add("a.example.com/b", "/", "eu-1", "s", "http", "", "", int64(-1), 257, false)
	f.Add("a.example.com", "/b/", "eu.1", "s", "http", "", "h", int64(1), -1, false)
	f.Add("a.example.com", "/b", "nodes", "eu-1", "http", "", "", int64(1)<<62, 100, false)
	f.Add("a.example.com", "/b", "eu-1", "s", "http", "/health?full=1", "h.example.com", int64(time.Second), 100, true)
	good := ref("eu-1", "good")
	node := edge.Node{Name: "n", Addr: netip.MustParseAddr("10.0.0.1")}

	f.Fuzz(func(t *testing.T, host, path, cluster, service, port, checkPath, checkHost string, d int64, weight int, exact bool) {
		fuzzed := routes.Ref{Cluster: cluster, Namespace: service, Service: service, Port: port}
		r := routes.Route{
			Host: host, Path: path, Exact: exact,
			Backends: []routes.Backend{{Ref: fuzzed, Weight: weight}, {Ref: good, Weight: 100}},
			Limits:   routes.Limits{Source: routes.Limit{Requests: weight}},
			Timeouts: routes.Timeouts{Server: time.Duration(d)},
		}
		if checkPath != "" || checkHost != "" {
			r.Check = &routes.Check{Path: checkPath, Host: checkHost, Interval: time.Duration(d)}
		}
		table, _ := routes.New(route("good.example.com", "/", weighted{good, 100}), r, routes.Route{Host: host, Path: path, Backends: r.Backends})
		e := edge.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}}
		config, _ := e.Config(table, []edge.Upstream{
			{Ref: good, NodePort: 31000, Nodes: []edge.Node{node}},
			{Ref: fuzzed, NodePort: 31001, AgentPort: 9801, Nodes: []edge.Node{node, {Name: host, Addr: netip.MustParseAddr("fe80::1%" + zone(host))}}},
		})
		files, err := config.Render("/etc/haproxy")
		require.NoError(t, err, "a bad route makes the configuration invalid")
		configtest.RequireAccounted(t, config, files)
		require.Contains(t, string(files[1].Data), "good.example.com/ eu-1.media.good.http\n")

		// A valid declaration is rendered without a problem.
		if table, faults := routes.New(r); len(faults) == 0 {
			for _, u := range []edge.Upstream{
				{Ref: fuzzed, NodePort: 31001, Nodes: []edge.Node{node}},
				{Ref: fuzzed, Servers: []netip.AddrPort{netip.AddrPortFrom(node.Addr, 31001)}},
			} {
				config, problems := e.Config(table, []edge.Upstream{{Ref: good, NodePort: 31000, Nodes: []edge.Node{node}}, u})
				require.Empty(t, problems)
				require.NoError(t, config.Validate())
			}
		}
	})
}

func zone(s string) string {
	if s == "" {
		return "z"
	}
	return s
}
