package edge_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// testRegions has the regions eu and us, and a network of eu in a network of us.
func testRegions(t testing.TB, header string) routes.Regions {
	t.Helper()
	regions, problems, ok := routes.ParseRegions("regions.yaml", []byte(header+`
regions:
- {name: eu, networks: [192.0.2.0/24, "2001:db8:e::/48", 198.51.100.128/25], values: [DE]}
- {name: us, networks: [198.51.100.0/24, "2001:db8:a::/48"], values: [US]}
`))
	require.Empty(t, problems)
	require.True(t, ok)
	return regions
}

const regionHeader = "header: Viewer-Country"

// preferWorld has a route to one service in the clusters eu-1, which has three nodes, us-1 and ap-1.
type preferWorld struct {
	*world
	route      routes.Route
	eu, us, ap routes.Ref
	agents     []*agent // of the nodes: the first three are in eu-1
}

func newPreferWorld(t testing.TB) *preferWorld {
	w := &preferWorld{world: newWorld(t), eu: ref("eu-1", "web"), us: ref("us-1", "web"), ap: ref("ap-1", "web")}
	for i := range 5 {
		w.agents = append(w.agents, startAgent(t, node(i+1).Addr, w.nodeAgent, "up ready 100%"))
	}
	w.upstream(w.eu, 0, 1, 2, 3)
	w.upstream(w.us, 0, 4)
	w.upstream(w.ap, 0, 5)
	w.route = with(route("a.example", "/", weighted{w.eu, 100}, weighted{w.us, 100}, weighted{w.ap, 100}), func(r *routes.Route) {
		r.Prefer = []routes.Preference{
			{Region: "eu", Clusters: []string{"eu-1", "us-1"}},
			{Region: "us", Clusters: []string{"us-1", "eu-1", "ap-1"}},
			{Clusters: []string{"ap-1"}},
		}
	})
	return w
}

func (w *preferWorld) startEdge(e edge.Edge) *haproxycfg.Config {
	w.t.Helper()
	e.TrustedProxies = append(e.TrustedProxies, netip.MustParsePrefix("127.1.0.0/16"), netip.MustParsePrefix("2001:db8:c::/48"))
	e.AgentInterval = fast
	config := w.start(e, tableOf(w.t, w.route))
	for _, b := range config.Backends {
		if len(b.Servers) > 0 {
			w.eventually(b.Name, "BACKEND", func(s runtimeapi.Stat) bool { return s.Status == "UP" })
		}
	}
	return config
}

// askAs sends a request with further headers, and returns the status and the service that answered.
func askAs(c *client, headers string) (status int, servedBy string) {
	r := c.do("GET", "a.example", "/", headers)
	return r.StatusCode, r.Header.Get("X-Served-By")
}

// TestPreferRegions sends requests of clients in several regions. Only trusted proxies can say who
// the client is.
func TestPreferRegions(t *testing.T) {
	t.Parallel()
	w := newPreferWorld(t)
	w.startEdge(edge.Edge{Regions: testRegions(t, regionHeader)})
	const ff, country = "X-Forwarded-For: ", "Viewer-Country: "
	for _, tt := range []struct {
		name, source, headers string
		want                  routes.Ref
	}{
		{"eu by network", trusted, ff + "192.0.2.7\r\n", w.eu},
		{"us by network", trusted, ff + "198.51.100.7\r\n", w.us},
		{"the longest prefix decides", trusted, ff + "198.51.100.200\r\n", w.eu},
		{"IPv6", trusted, ff + "2001:db8:a::1\r\n", w.us},
		{"no region", trusted, ff + "203.0.113.1\r\n", w.ap},
		{"no address", trusted, ff + "unknown\r\n", w.ap},
		{"the proxy is the client", trusted, "", w.ap},
		{"the client adds an address", trusted, ff + "198.51.100.7, 192.0.2.7\r\n", w.eu},
		{"two headers", trusted, ff + "198.51.100.7\r\n" + ff + "192.0.2.7\r\n", w.eu},
		{"two proxies", trusted, ff + "198.51.100.7, 192.0.2.7, 127.1.0.9\r\n", w.eu},
		{"three proxies", trusted, ff + "198.51.100.7, 192.0.2.7, 2001:db8:c::1, 127.1.0.9\r\n", w.eu},
		{"four proxies", trusted, ff + "192.0.2.7, 127.1.0.7, 2001:db8:c::1, 127.1.0.9\r\n", w.ap},
		{"an untrusted proxy is the client", trusted, ff + "192.0.2.7, 198.51.100.7, 127.1.0.9\r\n", w.us},
		{"the header wins over the network", trusted, country + "us\r\n" + ff + "192.0.2.7\r\n", w.us},
		{"an unknown value of the header", trusted, country + "zz\r\n" + ff + "192.0.2.7\r\n", w.eu},
		{"untrusted address", untrusted, ff + "192.0.2.7\r\n", w.ap},
		{"untrusted header", untrusted, country + "DE\r\n", w.ap},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, by := askAs(w.clientFrom(tt.source), tt.headers)
			require.Equal(t, http.StatusOK, status)
			require.Equal(t, tt.want.String(), by)
		})
	}
}

// TestRegionHeaderOfProxies requires that services get the header of the region from trusted proxies
// only.
func TestRegionHeaderOfProxies(t *testing.T) {
	t.Parallel()
	for _, observe := range []bool{false, true} {
		w := newPreferWorld(t)
		e := edge.Edge{Regions: testRegions(t, regionHeader)}
		e.Global.Observe = observe
		w.startEdge(e)
		for source, want := range map[string]string{trusted: "[DE]", untrusted: "[]"} {
			r := w.clientFrom(source).do("GET", "a.example", "/", "Viewer-Country: DE\r\n")
			require.Equal(t, want, r.Header.Get("Got-Viewer-Country"), "observe %v", observe)
		}
	}
}

// TestRegionByRemovedHeader: HAProxy reads the region from a header before it removes the header from
// the request of a trusted proxy, as it does with most headers of CDNs.
func TestRegionByRemovedHeader(t *testing.T) {
	t.Parallel()
	w := newPreferWorld(t)
	w.startEdge(edge.Edge{Regions: testRegions(t, "header: CF-IPCountry")})
	status, by := askAs(w.clientFrom(trusted), "CF-IPCountry: DE\r\n")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, w.eu.String(), by)
}

// TestPreferByPROXYHeader sends the address of the client in a PROXY header.
func TestPreferByPROXYHeader(t *testing.T) {
	t.Parallel()
	w := newPreferWorld(t)
	address := "127.0.0.1:" + strconv.Itoa(haproxytest.Ports(t, 1)[0])
	w.startEdge(edge.Edge{Regions: testRegions(t, regionHeader), HTTP: []haproxycfg.Bind{{Address: address, AcceptProxy: true}}})
	for source, want := range map[string]routes.Ref{"192.0.2.7": w.eu, "198.51.100.7": w.us, "203.0.113.1": w.ap} {
		r := newClient(t, address).raw("PROXY TCP4 " + source + " 127.0.0.1 5000 80\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
		require.Equal(t, want.String(), r.Header.Get("X-Served-By"), source)
	}
}

// TestPreferNeedsQuorum takes the three servers of the near cluster away one after another, and
// brings them back. Below the quorum the next cluster of the region serves. No request fails.
func TestPreferNeedsQuorum(t *testing.T) {
	t.Parallel()
	w := newPreferWorld(t)
	w.startEdge(edge.Edge{Regions: testRegions(t, regionHeader)})
	c := w.clientFrom(trusted)
	nodes := func(n int) map[string]int {
		seen := map[string]int{}
		for range n {
			r := c.do("GET", "a.example", "/", "X-Forwarded-For: 192.0.2.7\r\n")
			require.Equal(t, http.StatusOK, r.StatusCode)
			seen[r.Header.Get("X-Node")]++
		}
		return seen
	}
	served := func(what string, want ...int) {
		t.Helper()
		poll(t, what, func() bool {
			seen := nodes(12)
			for _, i := range want {
				if seen[node(i).Addr.String()] == 0 {
					return false
				}
			}
			return len(seen) == len(want)
		})
	}
	served("all three", 1, 2, 3)
	w.agents[0].set("drain")
	served("two of three are enough", 2, 3)
	w.agents[1].set("down")
	served("one of three is not enough: the next cluster", 4)
	w.agents[2].set("down")
	served("the near cluster is down", 4)
	w.agents[3].set("down")
	served("no cluster of the region has enough servers: the declared weights", 5)
	w.agents[1].set("up ready 100%")
	served("one of three is not enough, but the declared weights use it", 2, 5)
	w.agents[3].set("up ready 100%")
	served("the next cluster again", 4)
	w.agents[0].set("up ready 100%")
	served("two of three are enough again", 1, 2)
	w.agents[2].set("up ready 100%")
	served("all three again", 1, 2, 3)
}

// TestPreferRetriesInTheSameCluster: the nodes of the near cluster are up, but some of them refuse the
// connections to the service. HAProxy tries the other nodes of this cluster, and not the next cluster.
func TestPreferRetriesInTheSameCluster(t *testing.T) {
	t.Parallel()
	for name, accepts := range map[string]bool{"one of three accepts": true, "none accepts": false} {
		t.Run(name, func(t *testing.T) {
			w := newPreferWorld(t)
			near := &w.upstreams[0]
			near.NodePort = uint16(haproxytest.Ports(t, 1)[0])
			want := http.StatusServiceUnavailable
			if accepts {
				want = http.StatusOK
				serve(t, netip.AddrPortFrom(node(1).Addr, near.NodePort).String(), func(rw http.ResponseWriter, _ *http.Request) {
					rw.Header().Set("X-Served-By", w.eu.String())
				})
			}
			w.startEdge(edge.Edge{Regions: testRegions(t, regionHeader)})
			c := w.clientFrom(trusted)
			for range 12 {
				status, by := askAs(c, "X-Forwarded-For: 192.0.2.7\r\n")
				require.Equal(t, want, status)
				require.Equal(t, accepts, by == w.eu.String())
			}
		})
	}
}

// TestPreferWithACheck: the nodes of the near cluster are up, and all of them refuse the connections to
// the service. The check of the route finds this, and the next cluster serves.
func TestPreferWithACheck(t *testing.T) {
	t.Parallel()
	w := newPreferWorld(t)
	w.upstreams[0].NodePort = uint16(haproxytest.Ports(t, 1)[0])
	w.route.Check = &routes.Check{Interval: 2 * fast}
	w.start(edge.Edge{Regions: testRegions(t, regionHeader), TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.1.0.0/16")}}, tableOf(t, w.route))
	c := w.clientFrom(trusted)
	poll(t, "the next cluster serves", func() bool {
		status, by := askAs(c, "X-Forwarded-For: 192.0.2.7\r\n")
		return status == http.StatusOK && by == w.us.String()
	})
}

// TestShiftBeforePreference shifts a route with preferences: the order of an operator wins until the
// shift ends.
func TestShiftBeforePreference(t *testing.T) {
	t.Parallel()
	for name, share := range map[string]edge.Share{
		"in force": {Cluster: "us-1", Points: 10000}, "expired": {Cluster: "us-1", Points: 10000, Until: time.Now().Add(-time.Minute)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newPreferWorld(t)
			w.route.Shift = true
			w.startEdge(edge.Edge{Regions: testRegions(t, regionHeader), Shares: map[string]edge.Share{w.route.Host + "/": share}})
			want := map[string]routes.Ref{"in force": w.us, "expired": w.eu}[name]
			for range 20 {
				status, by := askAs(w.clientFrom(trusted), "X-Forwarded-For: 192.0.2.7\r\n")
				require.Equal(t, http.StatusOK, status)
				require.Equal(t, want.String(), by)
			}
		})
	}
}

// TestPreferSkipsWeight0: a cluster with weight 0 gets no requests, also if a route prefers it.
func TestPreferSkipsWeight0(t *testing.T) {
	t.Parallel()
	w := newPreferWorld(t)
	w.route.Backends[0].Weight = 0
	config := w.startEdge(edge.Edge{Regions: testRegions(t, regionHeader)})
	status, by := askAs(w.clientFrom(trusted), "X-Forwarded-For: 192.0.2.7\r\n")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, w.us.String(), by)
	for _, m := range config.Maps {
		for _, e := range m.Entries {
			if list, ok := edge.ParsePreferred(e.Value); ok && m.Name == edge.PreferMap {
				require.NotEmpty(t, list, e)
			}
		}
	}
}

// TestPreferLeavesOutUnknownRegions: a preference of an unknown region does not affect the route.
func TestPreferLeavesOutUnknownRegions(t *testing.T) {
	r := with(route("a.example", "/", weighted{ref("eu-1", "web"), 100}, weighted{ref("us-1", "web"), 100}), func(r *routes.Route) {
		r.Prefer = []routes.Preference{{Region: "mars", Clusters: []string{"eu-1"}}, {Clusters: []string{"us-1"}}}
	})
	var upstreams []edge.Upstream
	for i, b := range r.Backends {
		upstreams = append(upstreams, edge.Upstream{Ref: b.Ref, Servers: []netip.AddrPort{netip.AddrPortFrom(node(i+1).Addr, 80)}})
	}
	config, problems := edge.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}}.Config(tableOf(t, r), upstreams)
	require.Len(t, problems, 1)
	require.Equal(t, `prefer: "mars" is not a region of the edge; this preference is left out`, problems[0].Error())
	require.NoError(t, config.Validate())
	for _, m := range config.Maps {
		if m.Name == edge.PreferMap {
			require.Len(t, m.Entries, 1)
			return
		}
	}
	t.Fatal("no map")
}

// TestPreferChangesWithoutReload changes preferences, regions and servers of a running HAProxy. All
// of them change entries of maps, so HAProxy does not reload.
func TestPreferChangesWithoutReload(t *testing.T) {
	f := newRuntimeEdge(t)
	f.edge.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.1.0.0/16")}
	serveAs := func(name string) int {
		address := serve(t, "127.0.0.1:0", func(rw http.ResponseWriter, _ *http.Request) { rw.Header().Set("X-Served-By", name) })
		return int(netip.MustParseAddrPort(address).Port())
	}
	upstream := func(cluster string, ports ...int) edge.Upstream {
		u := runtimeService("web", ports...)
		u.Ref.Cluster = cluster
		return u
	}
	near, far := upstream("eu-1", serveAs("eu-1")), upstream("us-1", serveAs("us-1"))
	r := route("a.example", "/", weighted{near.Ref, 100}, weighted{far.Ref, 100})
	prefer := func(region string, quorum int, clusters ...string) {
		r.Prefer = []routes.Preference{{Region: region, Clusters: clusters, Quorum: quorum}}
	}
	regions := func(network string) {
		var problems []routes.Problem
		f.edge.Regions, problems, _ = routes.ParseRegions("r", fmt.Appendf(nil, "regions: [{name: eu, networks: [%s]}, {name: us}]", network))
		require.Empty(t, problems)
	}
	var c *client // one connection, which stays through all changes
	by := func() string {
		status, name := askAs(c, "X-Forwarded-For: 192.0.2.7\r\n")
		require.Equal(t, http.StatusOK, status)
		return name
	}
	regions("192.0.2.0/24")
	prefer("eu", 0, "eu-1", "us-1")
	f.apply([]edge.Upstream{near, far}, r)
	worker := f.worker()
	c = f.clientFrom(trusted)
	poll(t, "eu-1", func() bool { return by() == "eu-1" })
	step := func(what, want string, upstreams ...edge.Upstream) {
		t.Helper()
		effect := f.apply(upstreams, r)
		require.Empty(t, effect.Reload, what)
		require.Equal(t, worker, f.worker(), what)
		f.agree()
		poll(t, what, func() bool {
			for range 10 {
				if by() != want {
					return false
				}
			}
			return true
		})
	}
	prefer("eu", 0, "us-1", "eu-1")
	step("another order", "us-1", near, far)
	prefer("", 0, "eu-1")
	step("for all clients", "eu-1", near, far)
	prefer("eu", 0, "us-1", "eu-1")
	step("for a region again", "us-1", near, far)
	r.Prefer = append(r.Prefer, routes.Preference{Clusters: []string{"eu-1"}})
	regions("192.0.2.128/25")
	step("the network of the client left the region", "eu-1", near, far)
	regions("192.0.2.0/25")
	step("the network of the client is in the region", "us-1", near, far)
	down := haproxytest.Ports(t, 1)[0]
	r.Prefer[0].Quorum = 51
	step("a higher quorum", "us-1", near, far)
	step("a server that is down", "eu-1", near, upstream("us-1", int(far.Servers[0].Port()), down))
	r.Prefer[0].Quorum = 50
	step("a lower quorum", "us-1", near, upstream("us-1", int(far.Servers[0].Port()), down))
	f.edge.Regions.Header = "viewer-country"
	require.NotEmpty(t, f.apply([]edge.Upstream{near, far}, r).Reload, "another header changes the rules of HAProxy")
	prefer("", 0, "eu-1")
	f.edge.Regions = routes.Regions{}
	require.NotEmpty(t, f.apply([]edge.Upstream{near, far}, r).Reload, "without regions, HAProxy looks up no region")
	regions("192.0.2.0/24")
	require.NotEmpty(t, f.apply([]edge.Upstream{near, far}, r).Reload, "the first region")
}

func TestParsePreferred(t *testing.T) {
	list, ok := edge.ParsePreferred("a:1/1/b/20")
	require.True(t, ok)
	require.Equal(t, []edge.Preferred{{Backend: "a:1", Min: 1}, {Backend: "b", Min: 20}}, list)
	for _, text := range []string{"", "a", "a/b", "a/1/b", "a/1/b/x"} {
		_, ok := edge.ParsePreferred(text)
		require.False(t, ok, text)
	}
}
