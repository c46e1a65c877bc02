package edge_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptrace"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/internal/configtest"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
	"github.com/headgate/headgate/internal/testscale"
)

// shiftWorld is a world with two routes to the same services. A shift can move the requests of the
// first route between the clusters "old" and "new". It cannot move requests of the second route.
type shiftWorld struct {
	*world
	config    *haproxycfg.Config
	route     *routes.Route
	old, new  routes.Ref
	shiftFile string // the file of the map with the shares
	closeFile string
	agents    []*agent // the agents of the nodes
}

func newShiftWorld(t *testing.T, e edge.Edge, change func(*routes.Route)) *shiftWorld {
	return newShiftWorldOf(t, e, change, 0)
}

// newShiftWorldOf returns a world whose service in the cluster "old" has an agent at agentPort on
// each node; 0 means none.
func newShiftWorldOf(t *testing.T, e edge.Edge, change func(*routes.Route), agentPort int) *shiftWorld {
	w := &shiftWorld{
		world: newWorld(t),
		old:   routes.Ref{Cluster: "old", Namespace: "media", Service: "tracks", Port: "http"},
		new:   routes.Ref{Cluster: "new", Namespace: "media", Service: "tracks", Port: "http"},
	}
	for i := 1; i <= 2; i++ {
		w.agents = append(w.agents, startAgent(t, node(i).Addr, w.nodeAgent, "up ready 100%"))
	}
	w.upstream(w.old, agentPort, 1, 2)
	w.upstream(w.new, 0, 1)
	r := routes.Route{Host: "a.example.com", Shift: true, Backends: []routes.Backend{{Ref: w.old, Weight: 100}, {Ref: w.new, Weight: 0}}}
	if change != nil {
		change(&r)
	}
	fixed := r
	fixed.Host, fixed.Shift = "b.example.com", false
	table, problems := routes.New(r, fixed)
	require.Empty(t, problems)
	w.route = &table.Routes()[0]
	w.config = w.start(e, table)
	files, err := w.config.Render(w.dir)
	require.NoError(t, err)
	for _, f := range files {
		switch {
		case strings.HasPrefix(f.Name, "maps/"+edge.ShiftMap+"-") && f.Runtime:
			w.shiftFile = filepath.Join(w.dir, f.Name)
		case strings.HasPrefix(f.Name, "maps/"+edge.CloseMap+"-") && f.Runtime:
			w.closeFile = filepath.Join(w.dir, f.Name)
		}
	}
	name, _ := new(edge.Edge).BackendOf(w.route)
	w.eventually(name, "BACKEND", func(s runtimeapi.Stat) bool { return s.Status == "UP" })
	return w
}

// set changes the share of the route in the running HAProxy.
func (w *shiftWorld) set(s edge.Share) {
	w.t.Helper()
	name, _ := new(edge.Edge).BackendOf(w.route)
	w.do("set map " + w.shiftFile + " " + name + " " + s.Value())
}

func (w *shiftWorld) do(command string) {
	w.t.Helper()
	answer, err := w.stats.Do(w.t.Context(), command)
	require.NoError(w.t, err)
	require.Empty(w.t, strings.TrimSpace(answer), command)
}

// newShare sends n requests for the host over one kept connection, and returns the percentage of
// them that the cluster "new" has answered. It requires that no request fails.
func (w *shiftWorld) newShare(c *client, host string, n int) float64 {
	w.t.Helper()
	moved := 0
	for range n {
		status, by := c.get(host, "/")
		require.Equal(w.t, http.StatusOK, status)
		if by == w.new.String() {
			moved++
		} else {
			require.Equal(w.t, w.old.String(), by)
		}
	}
	return 100 * float64(moved) / float64(n)
}

// requireShare compares the wanted share of a cluster with the measured share, both in percent of n
// requests. If HAProxy chooses the cluster of each request at random, the two shares differ a
// little. requireShare fails only if such a difference has a probability below 1e-10.
func requireShare(t *testing.T, n int, want, percent float64) {
	t.Helper()
	// By the Chernoff bound, the probability of such a share is at most 2*exp(-n*divergence).
	term := func(x, y float64) float64 {
		if x == 0 {
			return 0
		}
		return x * math.Log(x/y)
	}
	p, q := want/100, percent/100
	require.Less(t, float64(n)*(term(q, p)+term(1-q, 1-p)), 24.0, "%v%% of %d instead of %v%%", percent, n, want)
	require.Equal(t, want > 0, percent > 0)
}

// TestShiftMovesRequests shifts a route. The client keeps one connection, and its requests follow
// each change of the share.
func TestShiftMovesRequests(t *testing.T) {
	w := newShiftWorld(t, edge.Edge{}, nil)
	c := newClient(t, w.frontend)
	require.Zero(t, w.newShare(c, "a.example.com", 100), "the declared weights")
	for _, tt := range []struct {
		percent  float64
		requests int // many for small shares, because their relative error is large
	}{{0, 200}, {1, 2400}, {5, 1200}, {25, 500}, {50, 500}, {100, 200}} {
		w.set(edge.Share{Cluster: "new", Points: int(tt.percent * 100)})
		n := testscale.Of(tt.requests)
		requireShare(t, n, tt.percent, w.newShare(c, "a.example.com", n))
		require.Zero(t, w.newShare(c, "b.example.com", 20), "a route without Shift")
	}
	w.set(edge.Share{Cluster: "elsewhere", Points: 10000})
	require.Zero(t, w.newShare(c, "a.example.com", 100), "an unknown cluster changes nothing")
	w.set(edge.Share{})
	require.Zero(t, w.newShare(c, "a.example.com", 100), "back to the declared weights")
}

// TestShiftStartsWithItsShare starts an HAProxy with a share. HAProxy counts the requests to all
// clusters of the route together for the limits of the route.
func TestShiftStartsWithItsShare(t *testing.T) {
	w := newShiftWorld(t, edge.Edge{Shares: map[string]edge.Share{"a.example.com/": {Cluster: "new", Points: 5000}}}, func(r *routes.Route) {
		r.Limits.Source.Connections = 2
		r.Limits.Requests = 60
	})
	statuses := map[int]int{}
	by := map[string]int{}
	c := newClient(t, w.frontend)
	for range 100 { // send all of them within one second, because HAProxy permits more in the next second
		status, service := c.get("a.example.com", "/")
		statuses[status]++
		by[service]++
	}
	require.GreaterOrEqual(t, statuses[http.StatusOK], 60)
	require.Positive(t, by[w.old.String()])
	require.Positive(t, by[w.new.String()])
	name, _ := new(edge.Edge).BackendOf(w.route)
	answer, err := w.stats.Do(t.Context(), "show table")
	require.NoError(t, err)
	require.Contains(t, answer, "# table: "+name+",")
	require.Equal(t, 2, strings.Count(answer, "# table:"), "the parts of the route have no table of their own: "+answer)
}

// TestShiftFollowsDrains drains a node during a shift. The servers of the backend that gets the
// requests track the node, so all requests go to the other node.
func TestShiftFollowsDrains(t *testing.T) {
	w := newShiftWorld(t, edge.Edge{
		Shares:        map[string]edge.Share{"a.example.com/": {Cluster: "old", Points: 10000}},
		AgentInterval: 100 * time.Millisecond,
	}, nil)
	c := newClient(t, w.frontend)
	nodes := map[string]int{}
	for range 20 {
		nodes[c.do("GET", "a.example.com", "/", "").Header.Get("X-Node")]++
	}
	require.Len(t, nodes, 2)
	w.agents[0].set("drain")
	require.Eventually(t, func() bool {
		for range 20 {
			if c.do("GET", "a.example.com", "/", "").Header.Get("X-Node") != node(2).Addr.String() {
				return false
			}
		}
		return true
	}, 30*time.Second, 10*time.Millisecond)
}

// TestShiftUnderAgentWeights lowers the weight of one of the two servers of the cluster "old" while
// half of the requests go to "new". The agent moves requests between the servers of "old" only.
func TestShiftUnderAgentWeights(t *testing.T) {
	port := haproxytest.Ports(t, 1)[0]
	light := startAgent(t, node(1).Addr, port, "up ready 100%")
	startAgent(t, node(2).Addr, port, "up ready 100%")
	w := newShiftWorldOf(t, edge.Edge{
		Shares:        map[string]edge.Share{"a.example.com/": {Cluster: "new", Points: 5000}},
		AgentInterval: 100 * time.Millisecond,
	}, nil, port)
	c := newClient(t, w.frontend)
	count := func(n int) (moved, first, second float64) {
		for range n {
			r := c.do("GET", "a.example.com", "/", "")
			require.Equal(t, http.StatusOK, r.StatusCode)
			switch {
			case r.Header.Get("X-Served-By") == w.new.String():
				moved++
			case r.Header.Get("X-Node") == node(1).Addr.String():
				first++
			default:
				second++
			}
		}
		return moved, first, second
	}
	light.set("up ready 10%")
	require.Eventually(t, func() bool {
		_, first, second := count(100)
		return first < second/4
	}, 30*time.Second, time.Millisecond, "the agent lowers the weight")
	const n = 2000
	moved, first, second := count(n)
	requireShare(t, n, 50, 100*moved/n)
	require.InDelta(t, 1.0/11, first/(first+second), 0.04)
	light.set("up ready 100%")
	require.Eventually(t, func() bool {
		_, first, second := count(100)
		return first > second/2
	}, 30*time.Second, time.Millisecond, "the agent raises the weight")
	moved, _, _ = count(n)
	requireShare(t, n, 50, 100*moved/n)
}

// TestShiftNeedsServers shifts all requests to a cluster whose agents then drain its servers. HAProxy
// itself sends the requests to the other cluster, and back when the servers are ready again.
func TestShiftNeedsServers(t *testing.T) {
	port := haproxytest.Ports(t, 1)[0]
	first, second := startAgent(t, node(1).Addr, port, "up ready 100%"), startAgent(t, node(2).Addr, port, "up ready 100%")
	w := newShiftWorldOf(t, edge.Edge{
		Shares:        map[string]edge.Share{"a.example.com/": {Cluster: "old", Points: 10000}},
		AgentInterval: 100 * time.Millisecond,
	}, nil, port)
	c := newClient(t, w.frontend)
	served := func(by routes.Ref, node string) func() bool {
		return func() bool {
			for range 10 {
				r := c.do("GET", "a.example.com", "/", "")
				require.Equal(t, http.StatusOK, r.StatusCode)
				if r.Header.Get("X-Served-By") != by.String() || node != "" && r.Header.Get("X-Node") != node {
					return false
				}
			}
			return true
		}
	}
	require.True(t, served(w.old, "")())
	first.set("drain")
	require.Eventually(t, served(w.old, node(2).Addr.String()), 30*time.Second, time.Millisecond, "one of two servers is enough")
	second.set("drain")
	require.Eventually(t, served(w.new, ""), 30*time.Second, time.Millisecond, "the other cluster")
	w.set(edge.Share{Cluster: "new", Points: 0})
	require.True(t, served(w.new, "")(), "no requests for new, but no other cluster has servers")
	first.set("up ready 100%")
	second.set("up ready 100%")
	require.Eventually(t, served(w.old, ""), 30*time.Second, time.Millisecond)
}

// TestShiftExpires: HAProxy itself ends a shift, without a program that changes its map.
func TestShiftExpires(t *testing.T) {
	w := newShiftWorld(t, edge.Edge{}, nil)
	c := newClient(t, w.frontend)
	share := func(until time.Time) edge.Share { return edge.Share{Cluster: "new", Points: 10000, Until: until} }
	w.set(share(time.Now().Add(time.Hour)))
	require.EqualValues(t, 100, w.newShare(c, "a.example.com", 20))
	w.set(share(time.Now().Add(-time.Second)))
	require.Zero(t, w.newShare(c, "a.example.com", 20))
	w.set(share(time.Now().Add(2 * time.Second)))
	require.Eventually(t, func() bool { return w.newShare(c, "a.example.com", 20) == 0 }, 30*time.Second, 10*time.Millisecond)
	w.set(edge.Share{Cluster: "new", Points: 10000})
	require.EqualValues(t, 100, w.newShare(c, "a.example.com", 20), "without an end")
}

func TestParseParts(t *testing.T) {
	parts, ok := edge.ParseParts("a:1/b/1/20")
	require.True(t, ok)
	require.Equal(t, edge.Parts{Only: "a:1", Rest: "b", MinOnly: 1, MinRest: 20}, parts)
	for _, text := range []string{"", "a/b", "a/b/1", "a/b/1/x", "a/b/1/2/3"} {
		_, ok := edge.ParseParts(text)
		require.False(t, ok, text)
	}
}

// TestClose closes connections in steps, without a reload and without a failed request.
func TestClose(t *testing.T) {
	w := newShiftWorld(t, edge.Edge{Closable: true}, nil)
	closed := func(n int) float64 {
		c := newClient(t, w.frontend)
		count := 0
		for range n {
			r := c.do("GET", "a.example.com", "/", "")
			require.Equal(t, http.StatusOK, r.StatusCode)
			if r.Close {
				count++
			}
		}
		return 100 * float64(count) / float64(n)
	}
	require.Zero(t, closed(200))
	for _, percent := range []int{5, 50, 100} {
		w.do(fmt.Sprintf("set map %s %s %d", w.closeFile, edge.CloseKey, percent*100))
		n := testscale.Of(500)
		requireShare(t, n, float64(percent), closed(n))
	}
}

// TestCloseKeepsHTTP2 shows what Frontend.Close does to HTTP/2: no request fails, and the
// connection stays, because HAProxy sends no GOAWAY for "Connection: close".
func TestCloseKeepsHTTP2(t *testing.T) {
	w := newShiftWorld(t, edge.Edge{
		Closable: true, ClosePoints: 1000,
		HTTPS:        []haproxycfg.Bind{{Address: fmt.Sprintf("127.0.0.1:%d", haproxytest.Ports(t, 1)[0]), TLS: &haproxycfg.TLS{List: edge.CertificateList}}},
		Certificates: []haproxycfg.Certificate{configtest.Certificate(t, "a.example.com")},
	}, nil)
	transport := &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", w.tlsAddress)
		},
	}
	defer transport.CloseIdleConnections()
	var connections, failed atomic.Int64
	var clients sync.WaitGroup
	const requests = 400
	for range 4 { // streams of one connection
		clients.Go(func() {
			for range requests / 4 {
				trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
					if !info.Reused {
						connections.Add(1)
					}
				}}
				// POST with a body: the client does not repeat it by itself.
				request, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "POST", "https://a.example.com/", struct{ io.Reader }{strings.NewReader("x")})
				if err != nil {
					panic(err)
				}
				response, err := transport.RoundTrip(request)
				if err != nil || response.StatusCode != http.StatusOK || response.ProtoMajor != 2 {
					failed.Add(1)
					t.Errorf("%v %v", response, err)
					continue
				}
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
			}
		})
	}
	clients.Wait()
	require.Zero(t, failed.Load())
	require.Equal(t, int64(1), connections.Load(), "the page of the terminator says so; if HAProxy has learnt GOAWAY, change the page")
}

// TestWeightsOfATCPBalancerMoveNoKeptConnection puts a TCP balancer with weights in front of an
// HAProxy. An old platform is often behind such a balancer, or behind a DNS record with weights. A
// new weight moves no request on a kept connection. After HAProxy closes the connections in steps,
// the clients follow the weight, and no request fails.
func TestWeightsOfATCPBalancerMoveNoKeptConnection(t *testing.T) {
	w := newShiftWorld(t, edge.Edge{Closable: true}, nil)
	fresh := serve(t, "127.0.0.1:0", func(rw http.ResponseWriter, _ *http.Request) { rw.Header().Set("X-Served-By", "new platform") })
	dir, port := haproxytest.Dir(t), haproxytest.Ports(t, 1)[0]
	haproxytest.Start(t, dir, fmt.Sprintf(`global
    stats socket %s level admin
defaults
    mode tcp
    timeout client 30s
    timeout server 30s
    timeout connect 2s
frontend f
    bind 127.0.0.1:%d
    default_backend b
backend b
    server old %s weight 100
    server new %s weight 0
`, filepath.Join(dir, haproxytest.StatsSocket), port, w.frontend, fresh))
	balancer := runtimeapi.Socket{Path: filepath.Join(dir, haproxytest.StatsSocket)}
	clients := make([]*client, 20)
	for i := range clients {
		clients[i] = newClient(t, fmt.Sprintf("127.0.0.1:%d", port))
	}
	moved := func(rounds int) (percent float64) {
		n := 0
		for range rounds {
			for _, c := range clients {
				status, by := c.get("a.example.com", "/")
				require.Equal(t, http.StatusOK, status)
				if by == "new platform" {
					n++
				}
			}
		}
		return 100 * float64(n) / float64(rounds*len(clients))
	}
	t.Logf("at weight 0, %v%% of the requests reach the new platform", moved(10))
	for _, command := range []string{"set server b/new weight 100", "set server b/old weight 0"} {
		_, err := balancer.Do(t.Context(), command)
		require.NoError(t, err)
	}
	kept := moved(50)
	t.Logf("at weight 100, %v%% of the requests on kept connections reach the new platform", kept)
	require.Zero(t, kept)
	w.do(fmt.Sprintf("set map %s %s %d", w.closeFile, edge.CloseKey, 1000))
	require.Eventually(t, func() bool { return moved(5) == 100 }, 30*time.Second, time.Millisecond)
	t.Logf("after the old platform has closed connections in steps, all requests reach the new platform, and none has failed")
}
