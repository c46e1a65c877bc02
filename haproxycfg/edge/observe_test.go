package edge_test

import (
	"bufio"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/routes"
)

// TestObserve sends requests that HAProxy refuses or changes without Observe. With Observe, the
// service gets them unchanged. HAProxy counts each of them, and names the reason in its log.
func TestObserve(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startAgent(t, node(1).Addr, w.nodeAgent, "up ready 100%")
	got := make(chan *http.Request, 1)
	address := serve(t, "127.0.0.1:0", func(_ http.ResponseWriter, r *http.Request) { got <- r.Clone(t.Context()) })
	web := ref("eu-1", "web")
	w.upstreams = append(w.upstreams, edge.Upstream{Ref: web, NodePort: netip.MustParseAddrPort(address).Port(), Nodes: []edge.Node{node(1)}})
	logs, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = logs.Close() })
	w.start(edge.Edge{Global: haproxycfg.Global{Observe: true, Logs: []haproxycfg.Log{{Address: logs.LocalAddr().String()}}}}, tableOf(t,
		route("example.com", "/", weighted{web, 100}),
		with(route("example.com", "/rate", weighted{web, 100}), func(r *routes.Route) { r.Limits.Source.Requests = 1 }),
	))
	log := func() string {
		buf := make([]byte, 65536)
		require.NoError(t, logs.SetReadDeadline(time.Now().Add(time.Minute)))
		for {
			n, _, err := logs.ReadFrom(buf)
			require.NoError(t, err)
			if line := string(buf[:n]); strings.Contains(line, "HTTP/1.1") {
				return line
			}
		}
	}
	send := func(path, headers string) (*http.Request, string) {
		require.Equal(t, http.StatusOK, newClient(t, w.frontend).do("GET", "example.com", path, headers).StatusCode, path+headers)
		return <-got, log()
	}
	want := w.observed()
	for _, tt := range []struct {
		path, headers string
		reason        haproxycfg.Refusal
		passed        string // a header that the service gets
	}{
		{"/", "", "", ""},
		{"/", "X-Request-Id: 1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", "X-Request-Id"},
		{"/", "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=x\r\n", "", "X-Forwarded-For"}, // HAProxy always replaces it
		{"/a/../b", "", haproxycfg.RefusedDotSegment, ""},
		{"/a/%252e%252e/b", "", haproxycfg.RefusedDotSegment, ""},
		{"/", "X_Forwarded_For: 192.0.2.1\r\n", haproxycfg.RefusedHeaderName, "X_forwarded_for"},
		{"/", "X-Real-IP: 192.0.2.1\r\n", haproxycfg.RefusedClientHeader, "X-Real-Ip"},
		{"/", "Connection: X-Forwarded-For\r\n", haproxycfg.RefusedConnection, ""},
		{"/", "Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n", haproxycfg.RefusedUpgrade, "Upgrade"},
	} {
		r, line := send(tt.path, tt.headers)
		require.Equal(t, tt.path, r.URL.EscapedPath())
		require.True(t, tt.passed == "" || len(r.Header[tt.passed]) == 1, "%v", r.Header)
		require.Equal(t, "127.0.0.1", r.Header.Get("X-Forwarded-For"))
		if tt.reason != "" {
			want[tt.reason]++
			require.Regexp(t, `[{|]`+string(tt.reason)+`[|}]`, line)
		} else {
			require.Regexp(t, `\{\|*\}`, line)
		}
		require.Equal(t, want, w.observed(), tt.headers)
	}
	// Requests above a limit are served and counted.
	require.Eventually(t, func() bool {
		_, line := send("/rate", "")
		return strings.Contains(line, "{request-limit|")
	}, 30*time.Second, time.Millisecond)
	require.Equal(t, want[haproxycfg.RefusedRequests]+1, w.observed()[haproxycfg.RefusedRequests])
}

// observed returns the counters of HAProxy.
func (w *world) observed() map[haproxycfg.Refusal]uint64 {
	w.t.Helper()
	answer, err := w.stats.Do(w.t.Context(), haproxycfg.ObservedCommand)
	require.NoError(w.t, err)
	counts, err := haproxycfg.ParseObserved(answer)
	require.NoError(w.t, err)
	return counts
}

// TestObserveMisdirected sends a request for a host that the certificate of the connection does not
// cover. HAProxy serves and counts it.
func TestObserveMisdirected(t *testing.T) {
	t.Parallel()
	w, _, roots := certificateWorld(t, haproxycfg.Global{Observe: true})
	for i, host := range []string{"a.example.com", "b.example.com"} {
		conn, err := tls.Dial("tcp", w.tlsAddress, &tls.Config{RootCAs: roots, ServerName: "a.example.com"})
		require.NoError(t, err)
		c := newClient(t, w.tlsAddress)
		c.conn, c.in = conn, bufio.NewReader(conn)
		status, _ := c.get(host, "/")
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, uint64(i), w.observed()[haproxycfg.RefusedMisdirected], host)
	}
}

// TestObserveInvalidHosts sends hosts that a wildcard covers, although they are no host names, and
// hosts whose port is not from 1 to 65535. HAProxy serves and counts them.
func TestObserveInvalidHosts(t *testing.T) {
	t.Parallel()
	address := serve(t, "127.0.0.1:0", func(http.ResponseWriter, *http.Request) {})
	web := ref("eu-1", "web")
	w := newWorld(t)
	startAgent(t, node(1).Addr, w.nodeAgent, "up ready 100%")
	w.upstreams = append(w.upstreams, edge.Upstream{Ref: web, NodePort: netip.MustParseAddrPort(address).Port(), Nodes: []edge.Node{node(1)}})
	w.start(edge.Edge{Global: haproxycfg.Global{Observe: true}}, tableOf(t, route("*.example.com", "/", weighted{web, 100}), route("single", "/", weighted{web, 100})))
	for _, host := range []string{"x.example.com", "X.example.com:80", "single", "single:65535", "single:", "_a-b.example.com."} {
		require.Equal(t, http.StatusOK, newClient(t, w.frontend).do("GET", host, "/", "").StatusCode, host)
	}
	require.Equal(t, http.StatusNotFound, newClient(t, w.frontend).do("GET", "-a.example.org", "/", "").StatusCode)
	require.Zero(t, w.observed()[haproxycfg.RefusedHost])
	for i, host := range []string{"-a.example.com", "a-.example.com", "*.example.com", strings.Repeat("a", 64) + ".example.com", "x.example.com:65536", "single:0", "-a.example.com:99999"} {
		require.Equal(t, http.StatusOK, newClient(t, w.frontend).do("GET", host, "/", "").StatusCode, host)
		require.EqualValues(t, i+1, w.observed()[haproxycfg.RefusedHost], host)
	}
}

// TestObserveConnectionLimit opens more requests than the limit allows. HAProxy serves and counts
// those above the limit.
func TestObserveConnectionLimit(t *testing.T) {
	t.Parallel()
	w, release, held := limitedWorld(t, haproxycfg.Global{Observe: true}, map[string]routes.Limits{"/": {Limit: routes.Limit{Connections: 1}}})
	defer close(release)
	for i := range 3 {
		w.hold("127.0.0.1", "/")
		<-held
		require.Equal(t, uint64(i), w.observed()[haproxycfg.RefusedConnections])
	}
}
