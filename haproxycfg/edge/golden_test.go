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

func TestGolden(t *testing.T) {
	t.Parallel()
	const dir = configtest.GoldenDir
	plain := edge.Edge{
		Global: haproxycfg.Global{StatsSocket: dir + "/stats.sock", StateFile: dir + "/state"},
		HTTP:   []haproxycfg.Bind{{Address: ":80"}},
		HTTPS:  []haproxycfg.Bind{{Address: ":443", TLS: &haproxycfg.TLS{List: edge.CertificateList, StrictSNI: true}}},
		Certificates: []haproxycfg.Certificate{
			configtest.Certificate(t, "www.example.com", "*.example.com"), configtest.Certificate(t, "api.example.com"),
		},
		Admin: []haproxycfg.Bind{{Address: "127.0.0.1:8405"}},
	}
	kubeProxy := plain
	kubeProxy.NodeHealth = edge.NodeAgentAndKubeProxy
	kubeProxy.RedirectHTTPS = &haproxycfg.HTTPSRedirect{}
	kubeProxy.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	kubeProxy.CheckInterval, kubeProxy.AgentInterval = 5*time.Second, 500*time.Millisecond
	kubeProxy.Monitor = "/.well-known/ready"
	kubeProxy.Balance = haproxycfg.LeastConn
	observing := kubeProxy
	observing.Global.Observe = true
	fragment := plain
	fragment.Fragment = "headgate-"
	fragment.Global.StateFile = "" // HAProxy warns if the foreign files do not have it
	fragment.Global.Logs = []haproxycfg.Log{{Address: "127.0.0.1"}}
	newest, newestFragment := plain, fragment
	newest.Global.Version, newestFragment.Global.Version = haproxycfg.Version{Major: 3, Minor: 4}, haproxycfg.Version{Major: 3, Minor: 4}
	noAgents := edge.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}, NodeHealth: edge.KubeProxyOnly, KubeProxyPort: 10999}

	table, upstreams := goldenRoutes(t)
	configs := map[string]*haproxycfg.Config{}
	for name, e := range map[string]edge.Edge{
		"edge": plain, "edge-kube-proxy": kubeProxy, "edge-observing": observing, "edge-fragment": fragment, "edge-no-agents": noAgents,
		"edge-add-backends": newest, "edge-fragment-add-backends": newestFragment,
	} {
		c, problems := e.Config(table, upstreams)
		require.Len(t, problems, 1, "the service without nodes")
		configs[name] = c
	}
	shifting := noAgents
	shifting.Closable, shifting.ClosePoints = true, 100
	shifting.Shares = map[string]edge.Share{"api.example.com/tracks": {Cluster: "eu-2", Points: 2500}, "gone.example.com/": {Cluster: "eu-2", Points: 1}}
	moves := with(route("api.example.com", "/tracks", weighted{ref("eu-1", "tracks"), 100}, weighted{ref("eu-2", "tracks"), 0}), func(r *routes.Route) {
		r.Shift = true
		r.Limits = routes.Limits{Source: routes.Limit{Requests: 20}}
	})
	var problems []routes.Problem
	configs["edge-shift"], problems = shifting.Config(tableOf(t, moves, route("www.example.com", "/", weighted{ref("eu-1", "web"), 100})), upstreams)
	require.Empty(t, problems)
	preferring := plain
	preferring.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:c::/48")}
	preferring.Regions, problems, _ = routes.ParseRegions("regions.yaml", []byte(`
header: CloudFront-Viewer-Country
regions:
- {name: eu, networks: [192.0.2.0/24, "2001:db8::/32"], values: [DE, FR]}
- {name: us, networks: [192.0.2.128/25], values: [US]}
`))
	require.Empty(t, problems)
	near := with(route("api.example.com", "/tracks", weighted{ref("eu-1", "tracks"), 100}, weighted{ref("eu-2", "tracks"), 100}), func(r *routes.Route) {
		r.Prefer = []routes.Preference{
			{Clusters: []string{"eu-1"}},
			{Region: "eu", Clusters: []string{"eu-1", "eu-2"}, Quorum: 67},
			{Region: "us", Clusters: []string{"eu-2", "eu-1"}},
		}
		r.Shift = true
		r.Limits = routes.Limits{Source: routes.Limit{Requests: 20}}
	})
	configs["edge-prefer"], problems = preferring.Config(tableOf(t, near, route("www.example.com", "/", weighted{ref("eu-1", "web"), 100})), upstreams)
	require.Empty(t, problems)
	configs["edge-nothing-declared"], _ = plain.Config(routes.Table{}, nil)
	configtest.Golden(t, configs)
}

func goldenRoutes(t *testing.T) (routes.Table, []edge.Upstream) {
	tracks1, tracks2 := ref("eu-1", "tracks"), ref("eu-2", "tracks")
	chat, web, empty := ref("eu-1", "chat"), ref("eu-1", "web"), ref("eu-1", "empty")
	check := &routes.Check{Path: "/health", Host: "health.internal", Interval: 5 * time.Second, Rise: 3}
	table, problems := routes.New(
		route("api.example.com", "/tracks", weighted{tracks1, 100}, weighted{tracks2, 50}),
		route("api.example.com", "/v2/tracks", weighted{tracks1, 200}, weighted{tracks2, 100}), // the same ratio gives the same backend
		route("api.example.com", "/dark", weighted{tracks1, 100}, weighted{tracks2, 0}),
		route("www.example.com", "/", weighted{web, 100}),
		route("*.example.com", "/", weighted{web, 7}),
		with(route("www.example.com", "/chat", weighted{chat, 100}), func(r *routes.Route) {
			r.Timeouts = routes.Timeouts{Server: time.Hour, Tunnel: 24 * time.Hour}
		}),
		with(route("www.example.com", "/checked", weighted{web, 100}), func(r *routes.Route) { r.Check = check }),
		with(route("www.example.com", "/checked-agent", weighted{tracks1, 100}), func(r *routes.Route) { r.Check = &routes.Check{} }),
		with(route("www.example.com", "/exact", weighted{web, 100}), func(r *routes.Route) { r.Exact = true }),
		route("www.example.com", "/empty", weighted{empty, 100}),
		with(route("www.example.com", "/h2c", weighted{web, 100}), func(r *routes.Route) { r.Protocol, r.Check = routes.H2C, check }),
		with(route("www.example.com", "/limited", weighted{web, 100}), func(r *routes.Route) {
			r.Limits = routes.Limits{Limit: routes.Limit{Connections: 100}, Source: routes.Limit{Requests: 20}}
		}),
		with(route("www.example.com", "/grpc", weighted{web, 100}), func(r *routes.Route) { r.Protocol = routes.GRPC }),
	)
	require.Empty(t, problems)
	nodes := func(addrs ...string) (ns []edge.Node) {
		for _, a := range addrs {
			ns = append(ns, edge.Node{Name: "node-" + a, Addr: netip.MustParseAddr(a)})
		}
		return ns
	}
	return table, []edge.Upstream{
		{Ref: tracks1, NodePort: 31000, AgentPort: 9801, Nodes: nodes("10.1.0.3", "10.1.0.1", "10.1.0.2")},
		{Ref: tracks2, NodePort: 31000, AgentPort: 9802, Nodes: nodes("10.2.0.1", "fd00::1")},
		{Ref: chat, NodePort: 31002, Nodes: nodes("10.1.0.2", "10.1.0.4")},
		{Ref: web, NodePort: 31003, Nodes: nodes("10.1.0.4")},
		{Ref: empty, NodePort: 31004},
	}
}

type weighted struct {
	routes.Ref
	weight int
}

func ref(cluster, service string) routes.Ref {
	return routes.Ref{Cluster: cluster, Namespace: "media", Service: service, Port: "http"}
}

func route(host, path string, backends ...weighted) routes.Route {
	r := routes.Route{Host: host, Path: path}
	for _, b := range backends {
		r.Backends = append(r.Backends, routes.Backend{Ref: b.Ref, Weight: b.weight})
	}
	return r
}

func tableOf(t testing.TB, declared ...routes.Route) routes.Table {
	t.Helper()
	table, problems := routes.New(declared...)
	require.Empty(t, problems)
	return table
}

func with(r routes.Route, change func(*routes.Route)) routes.Route {
	change(&r)
	return r
}
