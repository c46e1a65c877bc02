package edge_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/internal/configtest"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// routedHAProxy is an HAProxy with a number of routes, and a client with one connection to it.
type routedHAProxy struct {
	routes int
	pid    int
	conn   net.Conn
	in     *bufio.Reader
	cpu    time.Duration // of the requests so far
}

// newRoutedHAProxy starts an HAProxy with n routes to 10 services, each with one server at the
// address. Every tenth route has a wildcard host. With more services, HAProxy would open more
// connections to servers, and a new connection needs as much time as a request.
func newRoutedHAProxy(b *testing.B, n int, server netip.AddrPort) *routedHAProxy {
	declared := make([]routes.Route, n)
	var upstreams []edge.Upstream
	for i := range n {
		ref := routes.Ref{Cluster: "eu-1", Namespace: "shop", Service: fmt.Sprintf("service-%d", i%10), Port: "http"}
		if i < 10 {
			upstreams = append(upstreams, edge.Upstream{Ref: ref, Servers: []netip.AddrPort{server}})
		}
		declared[i] = routes.Route{Host: fmt.Sprintf("www%d.example.com", i), Path: "/api", Backends: []routes.Backend{{Ref: ref, Weight: 100}}}
		if i%10 == 0 {
			declared[i].Host = fmt.Sprintf("*.group%d.example.com", i)
		}
	}
	table, problems := routes.New(declared...)
	require.Empty(b, problems)
	dir := haproxytest.Dir(b)
	address := fmt.Sprintf("127.0.0.1:%d", haproxytest.Ports(b, 1)[0])
	config, problems := edge.Edge{
		HTTP:          []haproxycfg.Bind{{Address: address}},
		Global:        haproxycfg.Global{StatsSocket: filepath.Join(dir, haproxytest.StatsSocket), Version: configtest.Version(b), MaxConn: 100},
		CheckInterval: time.Hour, // checks would add to the processor time
	}.Config(table, upstreams)
	require.Empty(b, problems)
	out := &deploy.Dir{Path: dir}
	_, err := out.Apply(b.Context(), config)
	require.NoError(b, err)
	files, err := config.Render(dir)
	require.NoError(b, err)
	h := &routedHAProxy{routes: n, pid: haproxytest.Start(b, dir, string(files[len(files)-1].Data)).Pid()}
	h.conn, err = net.Dial("tcp", address)
	require.NoError(b, err)
	b.Cleanup(func() { _ = h.conn.Close() })
	h.in = bufio.NewReader(h.conn)
	return h
}

// send sends requests one after the other for routes that it chooses at random, and adds the
// processor time of HAProxy.
func (h *routedHAProxy) send(b *testing.B, requests int) {
	begin := h.used(b)
	require.NoError(b, h.conn.SetDeadline(time.Now().Add(time.Minute)))
	for range requests {
		i := rand.IntN(h.routes)
		host, path := fmt.Sprintf("www%d.example.com", i), "/api"
		if i%10 == 0 {
			host = fmt.Sprintf("any.group%d.example.com", i)
		}
		if i%2 == 0 {
			path = "/api/v1/things/7?color=red"
		}
		_, err := fmt.Fprintf(h.conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host)
		require.NoError(b, err)
		response, err := http.ReadResponse(h.in, nil)
		require.NoError(b, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(b, err)
		require.NoError(b, response.Body.Close())
		require.Equal(b, "hello", string(body))
	}
	h.cpu += h.used(b) - begin
}

// used returns the processor time that HAProxy has used so far. The id of the clock is made as in
// clock_getcpuclockid(3).
func (h *routedHAProxy) used(b *testing.B) time.Duration {
	var t unix.Timespec
	require.NoError(b, unix.ClockGettime(int32(^h.pid<<3|2), &t))
	return time.Duration(t.Nano())
}

// BenchmarkRequest measures the processor time that HAProxy needs for a request, with different
// numbers of routes. All HAProxies run at the same time and get their requests in turn, so that other
// programs disturb all of them in the same way.
func BenchmarkRequest(b *testing.B) {
	const requests = 500 // of each HAProxy in one turn
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	b.Cleanup(server.Close)
	var all []*routedHAProxy
	for _, n := range []int{10, 1000, 10_000, 100_000} {
		h := newRoutedHAProxy(b, n, netip.MustParseAddrPort(server.Listener.Addr().String()))
		h.send(b, 100)
		h.cpu = 0
		all = append(all, h)
	}
	for b.Loop() {
		for _, h := range all {
			h.send(b, requests)
		}
	}
	for _, h := range all {
		b.ReportMetric(float64(h.cpu.Nanoseconds())/1000/requests/float64(b.N), fmt.Sprintf("µs/routes=%d", h.routes))
	}
	b.ReportMetric(float64(all[len(all)-1].cpu)/float64(all[0].cpu), "ratio")
	b.ReportMetric(0, "ns/op")
}
