package edge_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// TestUnresolvedUpstream adds an Upstream whose Unresolved is true. The configuration is the same
// as without the Upstream, but Config no longer reports the unknown service.
func TestUnresolvedUpstream(t *testing.T) {
	web, other := ref("eu-1", "web"), ref("eu-1", "other")
	table := tableOf(t,
		route("a.example.com", "/", weighted{other, 1}),
		route("b.example.com", "/", weighted{other, 1}, weighted{web, 1}),
	)
	ups := []edge.Upstream{{Ref: web, NodePort: 31000, Nodes: []edge.Node{{Name: "n1", Addr: netip.MustParseAddr("10.0.0.1")}}}}
	e := edge.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}}
	want, problems := e.Config(table, ups)
	require.Len(t, problems, 2)
	config, problems := e.Config(table, append(ups, edge.Upstream{Ref: other, Unresolved: true}))
	require.Empty(t, problems)
	require.Equal(t, want, config)
}

// TestEdgeProblems adds one bad route or upstream to a good one. The problem names the place of the
// bad declaration, and the configuration still serves the good route.
func TestEdgeProblems(t *testing.T) {
	at := func(r routes.Route) routes.Route { r.Position = routes.Position{File: "f.yaml", Line: 7}; return r }
	web, other := ref("eu-1", "web"), ref("eu-1", "other")
	good := route("good.example.com", "/", weighted{web, 100})
	node1 := edge.Node{Name: "n1", Addr: netip.MustParseAddr("10.0.0.1")}
	ups := func(us ...edge.Upstream) []edge.Upstream {
		return append([]edge.Upstream{{Ref: web, NodePort: 31000, Nodes: []edge.Node{node1}}}, us...)
	}
	for _, tt := range []struct {
		name      string
		route     routes.Route
		upstreams []edge.Upstream
		want      string
	}{
		{"unknown service", at(route("a.example.com", "/", weighted{other, 1})), ups(), "f.yaml:7: backends: service eu-1/media/other:http is not known"},
		{"no nodes", at(route("a.example.com", "/", weighted{other, 1})), ups(edge.Upstream{Ref: other, NodePort: 1}), "f.yaml:7: backends: service eu-1/media/other:http has no nodes"},
		{"no node port", at(route("a.example.com", "/", weighted{web, 1})), ups(edge.Upstream{Ref: other}), "service eu-1/media/other:http has no node port"},
		{"service given twice", at(route("a.example.com", "/", weighted{web, 1})), ups(edge.Upstream{Ref: web, NodePort: 2}), "service eu-1/media/web:http is given twice; the first counts"},
		{"node without address", at(route("a.example.com", "/", weighted{web, 1})), ups(edge.Upstream{Ref: other, NodePort: 1, Nodes: []edge.Node{{Name: "n9"}}}), `service eu-1/media/other:http: node "n9": invalid IP is no address to connect to`},
		{"link-local node", at(route("a.example.com", "/", weighted{web, 1})), ups(edge.Upstream{Ref: other, NodePort: 1, Nodes: []edge.Node{{Name: "n9", Addr: netip.MustParseAddr("fe80::1%eth0")}}}), `service eu-1/media/other:http: node "n9": fe80::1%eth0 is no address to connect to`},
		{"own servers, none", at(route("a.example.com", "/", weighted{other, 1})), ups(edge.Upstream{Ref: other, Servers: []netip.AddrPort{}}), "f.yaml:7: backends: service eu-1/media/other:http has no servers"},
		{"own server without port", at(route("a.example.com", "/", weighted{web, 1})), ups(edge.Upstream{Ref: other, Servers: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:0")}}), "service eu-1/media/other:http: 10.0.0.1:0 is no address to connect to"},
		{"own server anywhere", at(route("a.example.com", "/", weighted{web, 1})), ups(edge.Upstream{Ref: other, Servers: []netip.AddrPort{netip.MustParseAddrPort("[::]:80")}}), "service eu-1/media/other:http: [::]:80 is no address to connect to"},
		{"monitor", at(route("a.example.com", "/ready", weighted{web, 1})), ups(), `f.yaml:7: path: "/ready" is the path of the monitor, which hides it`},
		{
			"two names of one port", at(route("a.example.com", "/", weighted{other, 1}, weighted{web, 1})), ups(edge.Upstream{Ref: other, NodePort: 31000, Nodes: []edge.Node{node1}}),
			"f.yaml:7: backends: service eu-1/media/web:http: another service of the route is at 10.0.0.1:31000 too",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := edge.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}, Monitor: "/ready"}
			config, problems := e.Config(tableOf(t, tt.route, good), tt.upstreams)
			var got []string
			for _, p := range problems {
				got = append(got, p.Error())
			}
			require.Equal(t, []string{tt.want}, got)
			files, err := config.Render("")
			require.NoError(t, err)
			require.Contains(t, string(files[1].Data), "good.example.com/ eu-1.media.web.http\n")
		})
	}
}

func TestEdgeLeavesOutMisplacedBinds(t *testing.T) {
	secure := haproxycfg.Bind{Address: ":443", TLS: &haproxycfg.TLS{Certificates: "/certs"}}
	plain := haproxycfg.Bind{Address: ":80"}
	config, problems := edge.Edge{HTTP: []haproxycfg.Bind{plain, secure}, HTTPS: []haproxycfg.Bind{plain, secure}}.Config(routes.Table{}, nil)
	require.Len(t, problems, 2)
	require.Equal(t, "HTTP: bind :443 has TLS; it is left out", problems[0].Error())
	require.Equal(t, "HTTPS: bind :80 has no TLS; it is left out", problems[1].Error())
	require.Equal(t, []haproxycfg.Bind{plain}, config.Frontends[0].Binds)
	require.Equal(t, []haproxycfg.Bind{secure}, config.Frontends[1].Binds)
}

// TestEdgeWithMoreServersThanRoundRobinHandles gives one route more servers than roundrobin allows.
// The configuration is valid, and only this route uses another algorithm.
func TestEdgeWithMoreServersThanRoundRobinHandles(t *testing.T) {
	web, small := ref("eu-1", "web"), ref("eu-1", "small")
	table, problems := routes.New(route("a.example.com", "/", weighted{web, 1}), route("b.example.com", "/", weighted{small, 1}))
	require.Empty(t, problems)
	big := edge.Upstream{Ref: web, NodePort: 31000}
	for i := range 4096 {
		big.Nodes = append(big.Nodes, edge.Node{Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})})
	}
	e := edge.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}}
	config, problems := e.Config(table, []edge.Upstream{big, {Ref: small, NodePort: 31001, Nodes: big.Nodes[:1]}})
	require.Empty(t, problems)
	valid, err := config.Valid()
	require.NoError(t, err)
	require.NoError(t, deploy.Checker{Haproxy: haproxytest.Binary(t)}.Check(t.Context(), valid))
	balance := map[string]haproxycfg.Balance{}
	for _, b := range config.Backends {
		balance[b.Name] = b.Balance
	}
	require.Equal(t, haproxycfg.LeastConn, balance["eu-1.media.web.http"])
	require.Equal(t, haproxycfg.LeastConn, balance["nodes.eu-1"], "random would need half a minute for 4,096 nodes")
	require.Empty(t, balance["eu-1.media.small.http"], "the default")
}

// TestEdgeIsDeterministic changes the order of routes, upstreams and nodes: no byte changes.
// Without one of the routes, the backends of the others stay the same.
func TestEdgeIsDeterministic(t *testing.T) {
	table, upstreams := goldenRoutes(t)
	e := edge.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}}
	render := func(table routes.Table, ups []edge.Upstream) []haproxycfg.RenderedFile {
		c, _ := e.Config(table, ups)
		files, err := c.Render("/etc/haproxy")
		require.NoError(t, err)
		return files
	}
	want := render(table, upstreams)
	require.Equal(t, want, render(table, upstreams))
	turned := slices.Clone(upstreams)
	slices.Reverse(turned)
	for i := range turned {
		turned[i].Nodes = slices.Clone(turned[i].Nodes)
		slices.Reverse(turned[i].Nodes)
	}
	require.Equal(t, want, render(table, turned))
	backwards := slices.Clone(table.Routes())
	slices.Reverse(backwards)
	require.Equal(t, want, render(tableOf(t, backwards...), upstreams))

	backend := func(files []haproxycfg.RenderedFile, name string) string {
		text := string(files[len(files)-1].Data)
		from := strings.Index(text, "\nbackend "+name+"\n")
		require.GreaterOrEqual(t, from, 0, name)
		text, _, _ = strings.Cut(text[from+1:], "\n\n")
		return text
	}
	fewer := render(tableOf(t, table.Routes()[1:]...), upstreams)
	for _, name := range []string{"eu-1.media.chat.http:6ad45bb9d5", "eu-1.media.web.http", "nodes.eu-1"} {
		require.Equal(t, backend(want, name), backend(fewer, name))
	}
}

// TestServerNamesDiffer requires different names for servers with different addresses, ports or
// agent ports. If the names were equal, a changed server would get the state of the old server from
// the state file.
func TestServerNamesDiffer(t *testing.T) {
	names := map[string]haproxycfg.Server{}
	for _, addr := range []string{"10.0.0.1", "10.0.0.11", "fd00::1", "fd00::1:3100", "fd00::1:1", "fd00::"} {
		for _, port := range []uint16{1, 3100, 31000, 31001, 65535} {
			for _, agent := range []uint16{0, 1, 9801, 31001} {
				s := haproxycfg.Server{Addr: netip.AddrPortFrom(netip.MustParseAddr(addr), port), AgentPort: agent}
				other, taken := names[s.Name()]
				require.False(t, taken, "%v and %v are both %s", s, other, s.Name())
				names[s.Name()] = s
			}
		}
	}
	a := haproxycfg.Server{Addr: netip.MustParseAddrPort("[fd00::1]:31000"), AgentPort: 9801, Weight: 5, Check: true}
	require.Equal(t, "fd00::1:31000-9801", a.Name())
}

// TestBackendNames checks the names of backends. The backend of a single service with default
// settings has a readable name. All other names end with a hash. Different backends have different
// names.
func TestBackendNames(t *testing.T) {
	a, b := ref("eu-1", "a"), ref("eu-1", "b")
	variants := []routes.Route{
		route("h0.x", "/", weighted{a, 100}),
		route("h1.x", "/", weighted{a, 0}),
		route("h2.x", "/", weighted{a, 100}, weighted{b, 100}),
		route("h3.x", "/", weighted{a, 100}, weighted{b, 50}),
		route("h4.x", "/", weighted{a, 100}, weighted{b, 0}),
		route("h5.x", "/", weighted{b, 100}),
		with(route("h6.x", "/", weighted{a, 100}), func(r *routes.Route) { r.Timeouts.Server = time.Second }),
		with(route("h7.x", "/", weighted{a, 100}), func(r *routes.Route) { r.Timeouts.Tunnel = time.Second }),
		with(route("h8.x", "/", weighted{a, 100}), func(r *routes.Route) { r.Check = &routes.Check{} }),
		with(route("h9.x", "/", weighted{a, 100}), func(r *routes.Route) { r.Check = &routes.Check{Path: "/h"} }),
		with(route("ha.x", "/", weighted{a, 100}), func(r *routes.Route) { r.Check = &routes.Check{Path: "/h", Interval: time.Second} }),
		with(route("hb.x", "/", weighted{a, 100}), func(r *routes.Route) { r.Check = &routes.Check{Rise: 1} }),
		with(route("hf.x", "/", weighted{a, 100}), func(r *routes.Route) { r.Protocol, r.Timeouts.Server = routes.H2C, time.Second }),
		with(route("hd.x", "/", weighted{a, 100}), func(r *routes.Route) { r.Protocol = routes.H2C }),
		with(route("he.x", "/", weighted{a, 100}), func(r *routes.Route) { r.Protocol = routes.GRPC }),
		with(route("hc.x", "/", weighted{a, 100}), func(r *routes.Route) { r.Check = &routes.Check{Fall: 1} }),
	}
	for i := range variants {
		again := variants[i]
		again.Path = "/again"
		variants = append(variants, again)
	}
	same := route("same.x", "/", weighted{a, 10}, weighted{b, 5})
	config, _ := edge.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}}.Config(tableOf(t, append(variants, same)...), nil)
	require.NoError(t, config.Validate())
	const ratios, slots = 3, 8 // of the services a and b
	require.Len(t, config.Backends, 16-ratios+slots+1)
	byKey := map[string]string{}
	prefixes := slices.IndexFunc(config.Maps, func(m haproxycfg.Map) bool { return m.Name == "prefix" })
	for _, e := range config.Maps[prefixes].Entries {
		byKey[e.Key] = e.Value
	}
	require.Equal(t, "eu-1.media.a.http", byKey["h0.x/"])
	require.Equal(t, "eu-1.media.b.http", byKey["h5.x/"])
	require.Regexp(t, `^eu-1\.media\.a\.http:[0-9a-f]{10}(-[1-7])?$`, byKey["h3.x/"])
	require.Equal(t, byKey["h3.x/"], byKey["same.x/"], "the same ratio")
	for i := range 16 {
		h := fmt.Sprintf("h%x.x", i)
		require.NotEmpty(t, byKey[h+"/"])
		require.Equal(t, byKey[h+"/"], byKey[h+"/again/"])
	}
}

// TestLimitsAreNotShared declares the same service and limits for several routes. Each route has a
// backend of its own, because HAProxy counts by backend.
func TestLimitsAreNotShared(t *testing.T) {
	a := ref("eu-1", "a")
	var declared []routes.Route
	for _, host := range []string{"h.x", "h2.x"} {
		for _, path := range []string{"/", "/p", "/exact"} {
			for i := range 4 {
				declared = append(declared, with(route(host, path+strings.Repeat("/x", i), weighted{a, 100}), func(r *routes.Route) {
					r.Exact = path == "/exact"
					*[...]*int{&r.Limits.Requests, &r.Limits.Connections, &r.Limits.Source.Requests, &r.Limits.Source.Connections}[i] = 7
				}))
			}
		}
	}
	for i := range declared {
		declared[i].Path = strings.ReplaceAll(declared[i].Path, "//", "/")
	}
	config, _ := edge.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}}.Config(tableOf(t, declared...), nil)
	require.NoError(t, config.Validate())
	require.Len(t, config.Backends, len(declared)+1)
}

// TestLongNames declares the longest names that declarations allow. Config.Validate and HAProxy
// accept the names of the backends, and the names differ.
func TestLongNames(t *testing.T) {
	long := func(last string) string { return strings.Repeat("x", 63-len(last)) + last }
	var rs []routes.Route
	var upstreams []edge.Upstream
	for i, last := range []string{"a", "b"} {
		r := routes.Ref{Cluster: long(last), Namespace: long(last), Service: long(last), Port: long(last)}
		upstreams = append(upstreams, edge.Upstream{Ref: r, NodePort: 31000, Nodes: []edge.Node{node(i + 1)}})
		rs = append(rs, route(last+".example.com", "/", weighted{r, 100}), with(route(last+".example.com", "/checked", weighted{r, 100}), func(r *routes.Route) {
			r.Check = &routes.Check{Path: "/health"}
		}))
	}
	table, problems := routes.New(rs...)
	require.Empty(t, problems)
	config, problems := edge.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}}.Config(table, upstreams)
	require.Empty(t, problems)
	require.Len(t, config.Backends, 2+2+2+1, "services, checked services, nodes, and not-found")
	valid, err := config.Valid()
	require.NoError(t, err)
	require.NoError(t, deploy.Checker{Haproxy: haproxytest.Binary(t)}.Check(t.Context(), valid))
}

// TestLongNamesOfSpares declares routes with the longest labels and many ratios of weights. The names
// of the backends also contain the number of the ratio, and Config.Validate accepts them.
func TestLongNamesOfSpares(t *testing.T) {
	for _, prefix := range []string{"", "f", strings.Repeat("f", 32)} {
		for _, length := range []int{50, 51, 58, 59, 60, 63} {
			label := strings.Repeat("x", length)
			a := routes.Ref{Cluster: label, Namespace: label, Service: label, Port: label}
			b := a
			b.Service = "y" // after a in the order of the references
			var rs []routes.Route
			for i := range 60 { // 128 backends
				rs = append(rs, route(fmt.Sprintf("h%d.example.com", i), "/", weighted{a, 1}, weighted{b, 2 + i}))
			}
			config, _ := edge.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}, Fragment: prefix}.Config(tableOf(t, rs...), nil)
			require.NoError(t, config.Validate())
			require.Len(t, config.Backends, 128+1, "and not-found")
		}
	}
}

// TestBackendNamesOfOneHash declares two routes whose backends have the same short hash. The author
// of the test has found the time-outs of these routes by trial. The routes still have two backends,
// and the configuration is valid.
func TestBackendNamesOfOneHash(t *testing.T) {
	web := routes.Ref{Cluster: "eu-1", Namespace: "evil", Service: "web", Port: "http"}
	slow := func(host string, ms time.Duration) routes.Route {
		return with(route(host, "/", weighted{web, 100}), func(r *routes.Route) { r.Timeouts.Server = ms * time.Millisecond })
	}
	table, problems := routes.New(slow("a.example.com", 343592), slow("b.example.com", 934647), slow("c.example.com", 343592))
	require.Empty(t, problems)
	upstreams := []edge.Upstream{{Ref: web, NodePort: 31000, Nodes: []edge.Node{node(1)}}}
	config, problems := edge.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}}.Config(table, upstreams)
	require.Empty(t, problems)
	require.NoError(t, config.Validate())
	to := map[string]string{}
	for _, e := range config.Maps[1].Entries {
		to[e.Key] = e.Value
	}
	require.Equal(t, to["a.example.com/"], to["c.example.com/"], "one backend")
	require.Regexp(t, `^eu-1\.evil\.web\.http:0ce6b5e1fa$`, to["a.example.com/"])
	require.Regexp(t, `^eu-1\.evil\.web\.http:0ce6b5e1fa[0-9a-f]{54}$`, to["b.example.com/"])
	for _, b := range config.Backends {
		switch b.Name {
		case to["a.example.com/"]:
			require.Equal(t, 343592*time.Millisecond, b.Timeouts.Server)
		case to["b.example.com/"]:
			require.Equal(t, 934647*time.Millisecond, b.Timeouts.Server)
		}
	}
}
