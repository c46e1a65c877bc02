package edge_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/internal/configtest"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// TestReloadsCostNothing reloads HAProxy many times in a row. Each reload moves the service to
// another node port. Clients of each kind are connected:
//
//   - HTTP/1.1 clients, with and without TLS, and HTTP/2 clients that pause. Each sends its next
//     request just after the reload, before it can know that HAProxy closes its connection.
//   - Clients that send requests all the time. They use a service that keeps its port: HAProxy 2.6
//     may reuse a connection that was in use when its server got another port.
//   - WebSockets and HTTP/2 streams. Some begin before the first reload, and others between two
//     reloads, so that every old worker has some. Each must echo after the last reload.
//
// No request may fail, no stream may be cut, and no request may reach a drained server, a server
// with the weight 0, or the node port from before the reload. No client repeats a request.
//
// HEADGATE_RELOADS is the number of reloads; without it there are only a few.
func TestReloadsCostNothing(t *testing.T) {
	t.Parallel()
	reloads := 6
	if text := os.Getenv("HEADGATE_RELOADS"); text != "" {
		var err error
		reloads, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	const pausing, busy, held = 5, 1, 4 // of each kind of client
	f := newReloadFleet(t)

	var wait []*reloadClient
	for i := range 3 * pausing {
		wait = append(wait, f.client("/", i%3 != 0, i%3 == 2))
	}
	var streams []*echo
	hold := func(n int) {
		for i := range n {
			streams = append(streams, f.echo(i%2 != 0, i%4 == 3))
		}
	}
	hold(4 * held)
	var sent sync.WaitGroup
	var stop atomic.Bool
	for i := range 3 * busy {
		c := f.client("/busy", i%3 != 0, i%3 == 2)
		sent.Go(func() {
			for !stop.Load() && !t.Failed() {
				if _, err := c.send(); err != nil {
					t.Errorf("a client that sends all the time: %v", err)
				}
			}
		})
	}
	finish := sync.OnceFunc(func() { stop.Store(true); sent.Wait() })
	defer finish()
	for n := range reloads {
		for i, c := range wait {
			_, err := c.send()
			require.NoError(t, err, "client %d before reload %d", i, n)
			c.blind()
		}
		f.reload()
		for i, c := range wait {
			port, err := c.send()
			require.NoError(t, err, "client %d: the first request after reload %d", i, n)
			require.Equal(t, f.port(), port, "client %d after reload %d", i, n)
		}
		haproxytest.AwaitOldWorkers(t, f.world.dir)
		hold(4)
	}
	finish()
	for i, s := range streams {
		require.NoError(t, s.try(), "stream %d", i)
	}
	require.Zero(t, f.wrong.Load(), "requests to drained servers and to servers with the weight 0")
	old, err := f.workers.Old(t.Context())
	require.NoError(t, err)
	require.Len(t, old, reloads, "each old worker has streams")
	t.Logf("%d reloads, %d requests, %d streams", reloads, f.requests.Load(), len(streams))
}

// reloadFleet is an HAProxy in master-worker mode in front of services on three nodes. Node 1 gets
// all requests, for three reasons: node 2 is drained, the agent of node 3 answers 0%, and the
// service "zero" has the weight 0.
type reloadFleet struct {
	*world
	roots    *x509.CertPool
	dir      *deploy.Dir
	workers  deploy.Workers
	ports    [2]int // node ports of the service; each reload changes from one to the other
	configs  [2]*haproxycfg.Config
	now      int // index in ports
	requests atomic.Int64
	wrong    atomic.Int64
}

func newReloadFleet(t *testing.T) *reloadFleet {
	f := &reloadFleet{world: newWorld(t), roots: x509.NewCertPool()}
	ports := haproxytest.Ports(t, 7)
	f.ports = [2]int{ports[0], ports[1]}
	agentPort, zeroPort, busyPort := ports[2], ports[3], ports[6]
	certs := filepath.Join(f.world.dir, "certs")
	f.roots.AddCert(configtest.WriteCertificate(t, certs, "example.com"))
	startAgent(t, node(1).Addr, f.nodeAgent, "up ready 100%")
	startAgent(t, node(2).Addr, f.nodeAgent, "up drain 100%")
	startAgent(t, node(3).Addr, f.nodeAgent, "up ready 100%")
	startAgent(t, node(1).Addr, agentPort, "up ready 100%")
	startAgent(t, node(2).Addr, agentPort, "up ready 100%")
	startAgent(t, node(3).Addr, agentPort, "up ready 0%")
	for i := 1; i <= 3; i++ {
		for _, port := range []int{f.ports[0], f.ports[1], busyPort} {
			serve(t, netip.AddrPortFrom(node(i).Addr, uint16(port)).String(), func(rw http.ResponseWriter, r *http.Request) {
				f.requests.Add(1)
				if i != 1 {
					f.wrong.Add(1)
				}
				rw.Header().Set("X-Port", strconv.Itoa(port))
				answer(rw, r)
			})
		}
	}
	serve(t, netip.AddrPortFrom(node(1).Addr, uint16(zeroPort)).String(), func(http.ResponseWriter, *http.Request) { f.wrong.Add(1) })

	web, zero, busy := ref("eu-1", "web"), ref("eu-1", "zero"), ref("eu-1", "busy")
	table := tableOf(t, route("example.com", "/", weighted{web, 100}, weighted{zero, 0}), route("example.com", "/busy", weighted{busy, 100}))
	e := edge.Edge{
		HTTPS:         []haproxycfg.Bind{{Address: "127.0.0.1:" + strconv.Itoa(ports[4]), TLS: &haproxycfg.TLS{Certificates: certs}}},
		AgentInterval: fast, CheckInterval: time.Minute,
		// Streams may be silent, and the test may answer a check late.
		Defaults: haproxycfg.Defaults{Client: time.Hour, Timeouts: haproxycfg.Timeouts{Server: time.Hour, Check: time.Minute}},
		Global:   haproxycfg.Global{Version: configtest.Version(t), StatsSocket: f.stats.Path, StateFile: filepath.Join(f.world.dir, "state")},
	}
	f.frontend, f.tlsAddress = "127.0.0.1:"+strconv.Itoa(ports[5]), e.HTTPS[0].Address
	e.HTTP, e.NodeAgentPort = []haproxycfg.Bind{{Address: f.frontend}}, uint16(f.nodeAgent)
	for i, port := range f.ports {
		config, problems := e.Config(table, []edge.Upstream{
			{Ref: web, NodePort: uint16(port), AgentPort: uint16(agentPort), Nodes: []edge.Node{node(1), node(2), node(3)}},
			{Ref: busy, NodePort: uint16(busyPort), AgentPort: uint16(agentPort), Nodes: []edge.Node{node(1), node(2), node(3)}},
			{Ref: zero, NodePort: uint16(zeroPort), Nodes: []edge.Node{node(1)}},
		})
		require.Empty(t, problems)
		f.configs[i] = config
	}
	f.dir = &deploy.Dir{Path: f.world.dir}
	_, err := f.dir.Apply(t.Context(), f.configs[0])
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(f.world.dir, haproxytest.ConfigFile))
	require.NoError(t, err)
	haproxytest.StartMaster(t, f.world.dir, string(text))
	f.workers.Master = runtimeapi.Socket{Path: filepath.Join(f.world.dir, haproxytest.MasterSocket)}
	f.dir.Reload = deploy.Reloader{
		Master: f.workers.Master, StateFile: e.Global.StateFile, Timeout: time.Minute,
		Config: filepath.Join(f.world.dir, haproxytest.ConfigFile), Warned: func(err error) { t.Errorf("redirect: %v", err) },
	}.Reload

	// The agents have answered before the first request.
	backend := f.configs[0].Backends
	for i := range backend {
		for _, s := range backend[i].Servers {
			switch at := s.Addr; {
			case at.Port() == uint16(zeroPort):
				f.eventually(backend[i].Name, s.Name(), func(s runtimeapi.Stat) bool { return s.Weight == 0 })
			case at.Addr() == node(2).Addr:
				f.eventually(backend[i].Name, s.Name(), func(s runtimeapi.Stat) bool { return strings.HasPrefix(s.Status, "DRAIN") })
			case at.Addr() == node(3).Addr && s.AgentPort == uint16(agentPort):
				f.eventually(backend[i].Name, s.Name(), func(s runtimeapi.Stat) bool { return s.Weight == 0 })
			}
		}
	}
	return f
}

// port returns the node port of the service, as the header X-Port of its answers contains it.
func (f *reloadFleet) port() string { return strconv.Itoa(f.ports[f.now]) }

// reload moves the service to the other node port.
func (f *reloadFleet) reload() {
	f.t.Helper()
	f.now = 1 - f.now
	changed, err := f.dir.Apply(f.t.Context(), f.configs[f.now])
	require.NoError(f.t, err)
	require.True(f.t, changed)
}

// reloadClient sends requests on one connection. It opens another connection only if HAProxy has
// announced the end of this one, with "Connection: close" or GOAWAY, before the client sends.
type reloadClient struct {
	f        *reloadFleet
	path     string
	tls, h2  bool
	conn     *lateConn
	in       *bufio.Reader    // HTTP/1.1
	out      net.Conn         // HTTP/1.1
	requests *http.ClientConn // HTTP/2
}

func (f *reloadFleet) client(path string, overTLS, h2 bool) *reloadClient {
	c := &reloadClient{f: f, path: path, tls: overTLS, h2: h2}
	f.t.Cleanup(c.close)
	return c
}

func (c *reloadClient) close() {
	if c.conn != nil {
		c.conn.look()
		_ = c.conn.Close()
		c.conn = nil
	}
}

func (c *reloadClient) dial() error {
	address := c.f.frontend
	if c.tls {
		address = c.f.tlsAddress
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	c.conn = &lateConn{Conn: conn}
	config := &tls.Config{RootCAs: c.f.roots, ServerName: "example.com"}
	if c.h2 {
		transport := &http.Transport{
			Protocols: new(http.Protocols), TLSClientConfig: config,
			DialContext: func(context.Context, string, string) (net.Conn, error) { return c.conn, nil },
		}
		transport.Protocols.SetHTTP2(true)
		c.requests, err = transport.NewClientConn(context.Background(), "https", "example.com:443")
		return err
	}
	c.out = c.conn
	if c.tls {
		secure := tls.Client(c.conn, config)
		if err := secure.Handshake(); err != nil {
			return err
		}
		c.out = secure
	}
	c.in = bufio.NewReader(c.out)
	return nil
}

// blind makes the client receive nothing until it has sent its next request, as if the network were
// slow.
func (c *reloadClient) blind() {
	if c.conn != nil {
		c.conn.hide()
	}
}

// send sends one request, and returns the node port that answered.
func (c *reloadClient) send() (port string, err error) {
	if c.conn != nil && c.h2 && c.requests.Available() == 0 {
		c.close()
	}
	if c.conn == nil {
		if err := c.dial(); err != nil {
			return "", err
		}
	}
	if err := c.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return "", err
	}
	var r *http.Response
	if c.h2 {
		begun := false
		conn := c.conn
		ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
			WroteHeaders: func() { begun = true },
			WroteRequest: func(httptrace.WroteRequestInfo) { conn.look() },
		})
		request, err := http.NewRequestWithContext(ctx, "GET", "https://example.com"+c.path, http.NoBody)
		if err != nil {
			return "", err
		}
		if r, err = c.requests.RoundTrip(request); err != nil {
			if !begun && c.requests.Available() == 0 {
				return c.send() // GOAWAY arrived just before the client sent
			}
			return "", err
		}
	} else {
		_, err := io.WriteString(c.out, "GET "+c.path+" HTTP/1.1\r\nHost: example.com\r\n\r\n")
		c.conn.look()
		if err != nil {
			return "", err
		}
		if r, err = http.ReadResponse(c.in, nil); err != nil {
			return "", err
		}
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return "", err
	}
	_ = r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return "", errors.New(r.Status)
	}
	if r.Close {
		c.close()
	} else {
		_ = c.conn.SetDeadline(time.Time{}) // an HTTP/2 client reads all the time
	}
	return r.Header.Get("X-Port"), nil
}

// lateConn is a connection that can hide received bytes from its reader.
type lateConn struct {
	net.Conn
	mu     sync.Mutex
	hidden chan struct{} // the method look closes it; nil if nothing is hidden
}

func (c *lateConn) hide() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hidden == nil {
		c.hidden = make(chan struct{})
	}
}

func (c *lateConn) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hidden != nil {
		close(c.hidden)
		c.hidden = nil
	}
}

func (c *lateConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	hidden := c.hidden
	c.mu.Unlock()
	if hidden != nil {
		<-hidden
	}
	return n, err
}

// echo is a stream whose server sends each received byte back.
type echo struct {
	out io.Writer
	in  *bufio.Reader
	set func(time.Time) error // sets the deadline
}

// echo opens a WebSocket, or a request over HTTP/2 whose body does not end.
func (f *reloadFleet) echo(overTLS, h2 bool) *echo {
	f.t.Helper()
	c := f.client("/echo", overTLS, h2)
	require.NoError(f.t, c.dial())
	e := &echo{set: c.conn.SetDeadline}
	if h2 {
		body, out := io.Pipe()
		request, err := http.NewRequestWithContext(f.t.Context(), "POST", "https://example.com/echo", body)
		require.NoError(f.t, err)
		r, err := c.requests.RoundTrip(request)
		require.NoError(f.t, err)
		require.Equal(f.t, http.StatusOK, r.StatusCode)
		e.out, e.in = out, bufio.NewReader(r.Body)
	} else {
		_, err := io.WriteString(c.out, "GET /echo HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
		require.NoError(f.t, err)
		r, err := http.ReadResponse(c.in, nil)
		require.NoError(f.t, err)
		require.Equal(f.t, http.StatusSwitchingProtocols, r.StatusCode)
		e.out, e.in = c.out, c.in
	}
	require.NoError(f.t, e.try())
	return e
}

// try sends a line, and returns an error unless the server sends it back.
func (e *echo) try() error {
	if err := e.set(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if _, err := io.WriteString(e.out, "hello\n"); err != nil {
		return err
	}
	line, err := e.in.ReadString('\n')
	_ = e.set(time.Time{}) // an HTTP/2 client reads all the time
	if err == nil && line != "hello\n" {
		err = fmt.Errorf("received %q", line)
	}
	return err
}

// answer is the handler of all services. /echo sends back what it receives, as a WebSocket or in
// the body of the answer.
func answer(rw http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/echo" {
		return
	}
	control := http.NewResponseController(rw)
	if r.Header.Get("Upgrade") == "" {
		_ = control.EnableFullDuplex()
		_ = control.Flush()
		_, _ = io.Copy(flushWriter{rw, control}, r.Body)
		return
	}
	conn, in, err := control.Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
	_, _ = io.Copy(conn, in)
}

type flushWriter struct {
	io.Writer
	control *http.ResponseController
}

func (w flushWriter) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	return n, errors.Join(err, w.control.Flush())
}
