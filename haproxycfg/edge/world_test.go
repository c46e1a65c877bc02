package edge_test

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
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
	"github.com/headgate/headgate/internal/haproxyproc"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// world is a cluster on loopback addresses with an HAProxy in front. Node i has the address
// 127.0.0.i. Services answer with their name.
type world struct {
	t          testing.TB
	dir        string
	nodeAgent  int // the port of the node agents
	upstreams  []edge.Upstream
	stats      runtimeapi.Socket
	frontend   string // the address without TLS
	tlsAddress string // the address with TLS; "" without Edge.HTTPS
	process    *haproxyproc.Process
}

func newWorld(t testing.TB) *world {
	dir := haproxytest.Dir(t)
	return &world{
		t: t, dir: dir,
		nodeAgent: haproxytest.Ports(t, 1)[0],
		stats:     runtimeapi.Socket{Path: filepath.Join(dir, haproxytest.StatsSocket)},
	}
}

func node(i int) edge.Node {
	return edge.Node{Name: "node-" + strconv.Itoa(i), Addr: netip.AddrFrom4([4]byte{127, 0, 0, byte(i)})}
}

// agent answers agent checks with a text that can change.
type agent struct{ answer atomic.Value }

func (a *agent) set(line string) { a.answer.Store(line) }

// listen calls the function "serve" for each connection to an address, until the test ends.
func listen(t testing.TB, address string, serve func(net.Conn)) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	require.NoError(t, err)
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { defer conn.Close(); serve(conn) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); conns.Wait() })
	return l
}

func startAgent(t testing.TB, address netip.Addr, port int, line string) *agent {
	a := &agent{}
	a.set(line)
	listen(t, netip.AddrPortFrom(address, uint16(port)).String(), func(c net.Conn) { _, _ = io.WriteString(c, a.answer.Load().(string)+"\n") })
	return a
}

// serve runs an HTTP server until the test ends.
func serve(t testing.TB, address string, h http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("tcp", address)
	require.NoError(t, err)
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	return l.Addr().String()
}

// upstream adds a service on the given nodes. It answers with its name and the address of the node.
func (w *world) upstream(r routes.Ref, agentPort int, nodes ...int) {
	port := haproxytest.Ports(w.t, 1)[0]
	u := edge.Upstream{Ref: r, NodePort: uint16(port), AgentPort: uint16(agentPort)}
	for _, i := range nodes {
		n := node(i)
		u.Nodes = append(u.Nodes, n)
		serve(w.t, netip.AddrPortFrom(n.Addr, uint16(port)).String(), func(rw http.ResponseWriter, req *http.Request) {
			rw.Header().Set("X-Served-By", r.String())
			rw.Header().Set("X-Node", n.Addr.String())
			for _, h := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded", "Upgrade", "HTTP2-Settings", "Viewer-Country"} {
				rw.Header().Set("Got-"+h, fmt.Sprint(req.Header.Values(h)))
			}
		})
	}
	w.upstreams = append(w.upstreams, u)
}

// start runs a real HAProxy with the configuration that the edge makes of the table.
func (w *world) start(e edge.Edge, table routes.Table) *haproxycfg.Config {
	w.t.Helper()
	config := w.config(e, table)
	w.run(config)
	return config
}

func (w *world) config(e edge.Edge, table routes.Table) *haproxycfg.Config {
	w.t.Helper()
	w.frontend = "127.0.0.1:" + strconv.Itoa(haproxytest.Ports(w.t, 1)[0])
	if len(e.HTTPS) > 0 {
		w.tlsAddress = e.HTTPS[0].Address
	}
	e.HTTP = append(e.HTTP, haproxycfg.Bind{Address: w.frontend})
	e.NodeAgentPort = uint16(w.nodeAgent)
	e.Global.StatsSocket = w.stats.Path
	e.Global.Version = configtest.Version(w.t)
	// If the test answers a check late, because the machine is busy, the server stays up.
	e.Defaults.Check = cmp.Or(e.Defaults.Check, time.Minute)
	config, problems := e.Config(table, w.upstreams)
	require.Empty(w.t, problems)
	return config
}

func (w *world) run(config *haproxycfg.Config) {
	w.t.Helper()
	files, err := config.Render(w.dir)
	require.NoError(w.t, err)
	configtest.WriteFiles(w.t, w.dir, files[:len(files)-1])
	w.process = haproxytest.Start(w.t, w.dir, string(files[len(files)-1].Data))
}

// client sends HTTP/1.1 requests with any host and path.
type client struct {
	t    testing.TB
	addr string
	from net.Dialer
	conn net.Conn
	in   *bufio.Reader
}

func newClient(t testing.TB, addr string) *client {
	c := &client{t: t, addr: addr}
	t.Cleanup(func() {
		if c.conn != nil {
			_ = c.conn.Close()
		}
	})
	return c
}

// get sends a request, and returns the status and the service that answered.
func (c *client) get(host, path string) (status int, servedBy string) {
	r := c.do("GET", host, path, "")
	return r.StatusCode, r.Header.Get("X-Served-By")
}

func (c *client) do(method, host, path, extra string) *http.Response {
	c.t.Helper()
	return c.raw(method + " " + path + " HTTP/1.1\r\nHost: " + host + "\r\n" + extra + "\r\n")
}

func (c *client) raw(request string) *http.Response {
	c.t.Helper()
	if c.conn == nil {
		conn, err := c.from.Dial("tcp", c.addr)
		require.NoError(c.t, err)
		c.conn, c.in = conn, bufio.NewReader(conn)
	}
	require.NoError(c.t, c.conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err := io.WriteString(c.conn, request)
	require.NoError(c.t, err)
	r, err := http.ReadResponse(c.in, nil)
	require.NoError(c.t, err, "%q", request)
	body, err := io.ReadAll(r.Body)
	require.NoError(c.t, err)
	r.Body = io.NopCloser(bytes.NewReader(body))
	if r.Close {
		_ = c.conn.Close()
		c.conn = nil
	}
	return r
}

// stat returns the row of a server. The server "BACKEND" means the whole backend.
func (w *world) stat(backend, server string) runtimeapi.Stat {
	w.t.Helper()
	rows, err := w.stats.Stats(w.t.Context())
	require.NoError(w.t, err)
	for _, r := range rows {
		if r.Proxy == backend && r.Server == server {
			return r
		}
	}
	w.t.Fatalf("no server %s/%s", backend, server)
	return runtimeapi.Stat{}
}

// eventually waits until the function "want" returns true for the row of a server.
func (w *world) eventually(backend, server string, want func(runtimeapi.Stat) bool) {
	w.t.Helper()
	poll(w.t, backend+"/"+server, func() bool { return want(w.stat(backend, server)) })
}

// poll calls the function "ok" in the goroutine of the test, until ok returns true.
func poll(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	for tick := time.Tick(10 * time.Millisecond); !ok(); {
		select {
		case <-tick:
		case <-deadline:
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

func mustRead(t testing.TB, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return string(b)
}
