package edge_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/internal/configtest"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// limitedWorld returns a world in which the route "example.com/PATH" has the limits of PATH. The
// server answers with status 200. But if a request has the query "?hold", the server sends to the
// channel "held", and answers only after somebody has closed the channel "release".
func limitedWorld(t *testing.T, global haproxycfg.Global, limits map[string]routes.Limits) (w *world, release, held chan struct{}) {
	w = newWorld(t)
	release, held = make(chan struct{}), make(chan struct{}, 100)
	startAgent(t, node(1).Addr, w.nodeAgent, "up ready 100%")
	address := serve(t, "127.0.0.1:0", func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "hold" {
			held <- struct{}{}
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
	})
	web := ref("eu-1", "web")
	w.upstreams = append(w.upstreams, edge.Upstream{Ref: web, NodePort: netip.MustParseAddrPort(address).Port(), Nodes: []edge.Node{node(1)}})
	var declared []routes.Route
	for path, l := range limits {
		declared = append(declared, with(route("example.com", path, weighted{web, 100}), func(r *routes.Route) { r.Limits = l }))
	}
	patient := haproxycfg.Defaults{Timeouts: haproxycfg.Timeouts{Server: time.Hour}} // for the requests that the server holds
	w.start(edge.Edge{Global: global, Defaults: patient}, tableOf(t, declared...))
	return w, release, held
}

// clientFrom returns a client of w whose connections come from an address of loopback. The client
// connects when it sends a request, because HAProxy waits only 10 s for the first one.
func (w *world) clientFrom(source string) *client {
	c := newClient(w.t, w.frontend)
	c.from.LocalAddr = &net.TCPAddr{IP: net.ParseIP(source)}
	return c
}

// hold sends a request with the query "?hold" on a new connection.
func (w *world) hold(source, path string) net.Conn {
	w.t.Helper()
	conn, err := w.clientFrom(source).from.Dial("tcp", w.frontend)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, "GET "+path+"?hold HTTP/1.1\r\nHost: example.com\r\n\r\n")
	require.NoError(w.t, err)
	return conn
}

// accepted sends n requests and returns how many of them HAProxy accepted. The answers to all other
// requests must have the status in the argument refusal.
func accepted(c *client, path string, n, refusal int) (ok int) {
	for range n {
		switch r := c.do("GET", "example.com", path, ""); r.StatusCode {
		case http.StatusOK:
			ok++
		default:
			require.Equal(c.t, refusal, r.StatusCode)
			require.Equal(c.t, "1", r.Header.Get("Retry-After"))
			require.False(c.t, r.Close, "the client may try again on the same connection")
		}
	}
	return ok
}

// TestRequestLimits sends many requests at once. Limits apply to one source, to all sources
// together, and to the whole route. HAProxy accepts about as many requests as they allow, and
// refuses the others with status 429.
func TestRequestLimits(t *testing.T) {
	t.Parallel()
	w, _, _ := limitedWorld(t, haproxycfg.Global{}, map[string]routes.Limits{
		"/source": {Source: routes.Limit{Requests: 20}},
		"/all":    {Limit: routes.Limit{Requests: 20}},
		"/other":  {Limit: routes.Limit{Requests: 20}},
		"/free":   {},
	})
	a, b := w.clientFrom("127.0.0.1"), w.clientFrom("127.0.0.9")
	for _, path := range []string{"/source", "/all", "/other"} {
		begin := time.Now()
		gotA, gotB := accepted(a, path, 300, 429), accepted(b, path, 30, 429)
		windows := 2 + int(time.Since(begin)/time.Second)
		require.GreaterOrEqual(t, gotA, 20, path)
		require.LessOrEqual(t, gotA, 20*windows, path)
		if path == "/source" {
			require.GreaterOrEqual(t, gotB, 20, path)
		}
		require.LessOrEqual(t, gotB, 20*windows, path)
	}
	require.Equal(t, 50, accepted(a, "/free", 50, 0))
}

// TestRefusedRequestsAreNotCounted never stops sending requests above the limit. The client still
// gets answers again and again: HAProxy does not count the requests that it refuses.
func TestRefusedRequestsAreNotCounted(t *testing.T) {
	t.Parallel()
	w, _, _ := limitedWorld(t, haproxycfg.Global{}, map[string]routes.Limits{"/": {Limit: routes.Limit{Requests: 30}, Source: routes.Limit{Requests: 20}}})
	c := w.clientFrom("127.0.0.1")
	got, refused := 0, 0
	deadline := time.Now().Add(time.Minute)
	for (got < 60 || refused == 0) && time.Now().Before(deadline) {
		n := accepted(c, "/", 1, 429)
		got, refused = got+n, refused+1-n
	}
	require.GreaterOrEqual(t, got, 60)
	require.Positive(t, refused, "the client sent more than the limit allows")
}

// TestConnectionLimits opens as many requests as the limits allow. HAProxy refuses the next one
// with status 503, and accepts one again after an earlier one has ended.
func TestConnectionLimits(t *testing.T) {
	t.Parallel()
	w, release, held := limitedWorld(t, haproxycfg.Global{}, map[string]routes.Limits{
		"/source": {Source: routes.Limit{Connections: 2}},
		"/all":    {Limit: routes.Limit{Connections: 3}, Source: routes.Limit{Connections: 2}},
	})
	// HAProxy may still count an earlier request when the client of that request has read the
	// answer. HAProxy then refuses the new request, and the function "hold" sends the new request
	// again.
	hold := func(source, path string) {
		t.Helper()
		poll(t, "HAProxy accepts "+path+" from "+source, func() bool {
			conn := w.hold(source, path)
			refused := make(chan struct{})
			var reading sync.WaitGroup
			reading.Go(func() { _, _ = conn.Read(make([]byte, 1)); close(refused) })
			t.Cleanup(func() { _ = conn.Close(); reading.Wait() })
			select {
			case <-held:
				return true
			case <-refused:
				return false
			}
		})
	}
	a, b := w.clientFrom("127.0.0.1"), w.clientFrom("127.0.0.9")
	for range 2 {
		hold("127.0.0.1", "/source")
	}
	for range 200 { // Refused requests are not counted.
		require.Equal(t, 0, accepted(a, "/source", 1, 503))
	}
	require.Equal(t, 1, accepted(b, "/source", 1, 0), "another source")
	require.Equal(t, 1, accepted(a, "/all", 1, 0), "another route")

	hold("127.0.0.1", "/all")
	hold("127.0.0.1", "/all")
	require.Equal(t, 0, accepted(a, "/all", 1, 503))
	hold("127.0.0.9", "/all")
	require.Equal(t, 0, accepted(b, "/all", 1, 503), "the limit of all sources together")
	close(release)
	for _, path := range []string{"/all", "/source"} {
		require.Eventually(t, func() bool { return accepted(a, path, 1, 503) == 1 }, 30*time.Second, 10*time.Millisecond)
	}
}

// TestLimitsBySource connects with IPv6 addresses and with IPv4 addresses, also through a listener
// for both kinds. IPv6 addresses with the same first 64 bits share a limit. IPv4 addresses do not.
func TestLimitsBySource(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startAgent(t, node(1).Addr, w.nodeAgent, "up ready 100%")
	w.upstream(ref("eu-1", "web"), 0, 1)
	port := haproxytest.Ports(t, 1)[0]
	proxied := haproxycfg.Bind{Address: "127.0.0.1:" + strconv.Itoa(port), AcceptProxy: true}
	w.start(edge.Edge{HTTP: []haproxycfg.Bind{proxied}}, tableOf(t, with(route("example.com", "/", weighted{ref("eu-1", "web"), 100}), func(r *routes.Route) {
		r.Limits.Source.Requests = 1
	})))
	// The PROXY protocol lets the test choose the address of the client.
	status := func(source string) int {
		family, to := "TCP6", "2001:db8::1"
		if netip.MustParseAddr(source).Is4() {
			family, to = "TCP4", "192.0.2.1"
		}
		c := newClient(t, proxied.Address)
		return c.raw(fmt.Sprintf("PROXY %s %s %s 1 2\r\nGET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n", family, source, to)).StatusCode
	}
	for _, tt := range []struct {
		first, second string
		same          bool
	}{
		{"2001:db8:1:1::1", "2001:db8:1:1:ffff::2", true},
		{"2001:db8:1:2::1", "2001:db8:1:3::1", false},
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.3", "192.0.2.3", true},
		{"192.0.2.4", "::ffff:192.0.2.4", true},
		{"::ffff:192.0.2.5", "::ffff:192.0.2.6", false},
		{"::1", "192.0.2.7", false},
	} {
		if tt.same { // on a slow machine, HAProxy may have forgotten the first request before the second one
			require.Eventually(t, func() bool { return status(tt.first) == 200 && status(tt.second) == 429 }, 30*time.Second, time.Millisecond, "%s and %s", tt.first, tt.second)
			continue
		}
		require.Equal(t, 200, status(tt.first), tt.first)
		require.Equal(t, 200, status(tt.second), tt.second)
	}
}

// TestBufferSize sends large and numerous headers. The defaults refuse them, and larger settings
// accept them.
func TestBufferSize(t *testing.T) {
	t.Parallel()
	large := "X-Large: " + strings.Repeat("x", 20_000) + "\r\n"
	var many strings.Builder
	for i := range 150 {
		fmt.Fprintf(&many, "X-%d: 1\r\n", i)
	}
	for _, tt := range []struct {
		global            haproxycfg.Global
		large, many, both int
	}{
		{haproxycfg.Global{}, 400, 400, 400},
		{haproxycfg.Global{BufferSize: 65536}, 200, 400, 400},
		{haproxycfg.Global{MaxHeaders: 300}, 400, 200, 400},
		{haproxycfg.Global{BufferSize: 65536, MaxHeaders: 300}, 200, 200, 200},
	} {
		w := newWorld(t)
		startAgent(t, node(1).Addr, w.nodeAgent, "up ready 100%")
		w.upstream(ref("eu-1", "web"), 0, 1)
		w.start(edge.Edge{Global: tt.global}, tableOf(t, route("example.com", "/", weighted{ref("eu-1", "web"), 100})))
		for headers, want := range map[string]int{large: tt.large, many.String(): tt.many, large + many.String(): tt.both} {
			got := newClient(t, w.frontend).do("GET", "example.com", "/", headers).StatusCode
			if got == http.StatusRequestHeaderFieldsTooLarge && configtest.Version(t).AtLeast(3, 1) {
				got = http.StatusBadRequest // as HAProxy answers up to 3.0
			}
			require.Equal(t, want, got, "%+v", tt.global)
		}
	}
}
