package drain_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/agentcheck/drain"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// patience bounds the waits of a test on a busy machine.
const patience = time.Minute

// replica is a server that a test can start, drain and start again on the same port.
type replica struct {
	t          *testing.T
	name, addr string

	drainer *drain.Drainer
	stop    context.CancelFunc
	served  chan error
}

func (r *replica) start() {
	l, err := net.Listen("tcp", r.addr)
	require.NoError(r.t, err)
	// HAProxy needs up to 3 s to see the drain, and more on a busy machine. With a shorter interval, its
	// checks of a ready server would time out on a busy machine.
	r.drainer = &drain.Drainer{Settings: drain.Settings{Delay: 10 * time.Second, Timeout: patience}}
	mux := http.NewServeMux()
	mux.Handle("/readyz", r.drainer.ReadyHandler(nil))
	mux.HandleFunc("/", func(w http.ResponseWriter, q *http.Request) {
		_, err := io.Copy(io.Discard, q.Body)
		select {
		case <-time.After(2 * time.Millisecond): // the work of the request
		case <-q.Context().Done():
		}
		if err == nil {
			fmt.Fprintln(w, r.addr)
		}
	})
	srv := &http.Server{Handler: mux, Protocols: &http.Protocols{}}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	r.stop, r.served = cancel, served
	go func() { served <- r.drainer.Serve(ctx, srv, l) }()
}

// A balancer that checks readiness loses no request while two servers restart one after the other.
// The clients keep their connections. Neither the clients nor HAProxy repeat a request.
func TestRestartsLoseNoRequest(t *testing.T) {
	for name, test := range map[string]struct {
		mode, server string // in haproxy.cfg
		h2           bool   // the clients speak HTTP/2
	}{
		"requests of HTTP 1.1":    {"mode http\n http-reuse always", "", false},
		"requests of HTTP 2":      {"mode http\n http-reuse always", "proto h2", false},
		"connections of HTTP 1.1": {"mode tcp", "", false},
		"connections of HTTP 2":   {"mode tcp", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ports := haproxytest.Ports(t, 3)
			dir := haproxytest.Dir(t)
			var replicas []*replica
			for i, port := range ports[1:] {
				r := &replica{t: t, name: string(rune('a' + i)), addr: fmt.Sprintf("127.0.0.1:%d", port)}
				r.start()
				replicas = append(replicas, r)
			}
			haproxytest.Start(t, dir, fmt.Sprintf(`
global
 stats socket %s/stats.sock level admin
defaults
 timeout connect 10s
 timeout client 1m
 timeout server 1m
 timeout check 10s
 retries 0
listen l
 bind 127.0.0.1:%d
 %s
 option httpchk GET /readyz
 default-server inter 2s fastinter 300ms downinter 300ms fall 3 rise 1 check check-proto none %s
 server a %s
 server b %s
`, dir, ports[0], test.mode, test.server, replicas[0].addr, replicas[1].addr))
			socket := runtimeapi.Socket{Path: filepath.Join(dir, haproxytest.StatsSocket)}

			clients := newClients(t, fmt.Sprintf("http://127.0.0.1:%d/", ports[0]), test.h2)
			for _, r := range replicas {
				clients.waitForMore(100)
				r.stop()
				select {
				case err := <-r.served:
					require.NoError(t, err)
				case <-time.After(patience):
					t.Fatal(r.drainer.Progress())
				}
				clients.waitForMore(100)
				r.start()
				require.Eventually(t, func() bool { return isUp(t, socket, r.name) }, patience, 20*time.Millisecond)
			}
			clients.stop()
		})
	}
}

func isUp(t *testing.T, socket runtimeapi.Socket, name string) bool {
	stats, err := socket.Stats(t.Context())
	require.NoError(t, err)
	return slices.ContainsFunc(stats, func(s runtimeapi.Stat) bool { return s.Server == name && s.Status == "UP" })
}

// clients send POST requests that net/http cannot repeat.
type clients struct {
	t        *testing.T
	cancel   context.CancelFunc
	running  sync.WaitGroup
	answered atomic.Int64
	failures chan error
}

func newClients(t *testing.T, url string, h2 bool) *clients {
	ctx, cancel := context.WithCancel(context.Background())
	c := &clients{t: t, cancel: cancel, failures: make(chan error, 8)}
	for range cap(c.failures) {
		transport := &http.Transport{MaxIdleConnsPerHost: 1, Protocols: &http.Protocols{}}
		transport.Protocols.SetHTTP1(!h2)
		transport.Protocols.SetUnencryptedHTTP2(h2)
		c.running.Go(func() {
			defer transport.CloseIdleConnections()
			for tick := time.Tick(80 * time.Millisecond); ctx.Err() == nil; <-tick {
				if err := post(transport, url); err != nil {
					c.failures <- err
					return
				}
				c.answered.Add(1)
			}
		})
	}
	t.Cleanup(func() { cancel(); c.running.Wait() })
	return c
}

func post(transport *http.Transport, url string) error {
	req, err := http.NewRequest(http.MethodPost, url, struct{ io.Reader }{strings.NewReader("once")}) // without GetBody
	if err != nil {
		return err
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	return nil
}

// waitForMore waits until n more requests have been answered.
func (c *clients) waitForMore(n int64) {
	c.t.Helper()
	n += c.answered.Load()
	require.Eventually(c.t, func() bool { return c.answered.Load() >= n || len(c.failures) > 0 }, patience, 5*time.Millisecond)
}

func (c *clients) stop() {
	c.t.Helper()
	c.cancel()
	c.running.Wait()
	select {
	case err := <-c.failures:
		c.t.Fatalf("after %d requests: %v", c.answered.Load(), err)
	default:
		c.t.Logf("%d requests", c.answered.Load())
	}
}

// served is a server with one handler under test.
type served struct {
	drainer *drain.Drainer
	addr    string
	stop    context.CancelFunc
	done    chan error
}

func serve(t *testing.T, d *drain.Drainer, handler http.Handler, wrap func(net.Listener) net.Listener) *served {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &served{drainer: d, addr: l.Addr().String(), done: make(chan error, 1)}
	if wrap != nil {
		l = wrap(l)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	go func() { s.done <- d.Serve(ctx, &http.Server{Handler: handler}, l) }()
	t.Cleanup(cancel)
	return s
}

func (s *served) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.done:
		return err
	case <-time.After(patience):
		t.Fatal(s.drainer.Progress())
		return nil
	}
}

func (s *served) eventually(t *testing.T, want drain.Load) {
	t.Helper()
	require.Eventually(t, func() bool {
		got := s.drainer.Progress().Load
		got.Oldest = 0
		return got == want
	}, patience, time.Millisecond, "want %v", want)
}

// client is a connection that speaks HTTP/1.1.
type client struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	return &client{t, c, bufio.NewReader(c)}
}

func (c *client) send(request string) {
	c.t.Helper()
	_, err := io.WriteString(c, request)
	require.NoError(c.t, err)
}

func (c *client) answer() (res *http.Response, body string) {
	c.t.Helper()
	res, err := http.ReadResponse(c.r, nil)
	require.NoError(c.t, err)
	b, err := io.ReadAll(res.Body)
	require.NoError(c.t, err)
	return res, string(b)
}

const get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

func TestServeWaitsForRequests(t *testing.T) {
	release := make(chan struct{})
	began := make(chan struct{}, 2)
	d := &drain.Drainer{Settings: drain.Settings{Delay: 50 * time.Millisecond, Timeout: patience}}
	s := serve(t, d, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			began <- struct{}{}
			<-release
		}
		fmt.Fprint(w, "ok")
	}), nil)
	slow, idle := dial(t, s.addr), dial(t, s.addr)
	dial(t, s.addr) // sends nothing
	idle.send(get)
	res, _ := idle.answer()
	require.False(t, res.Close)
	slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
	<-began
	s.eventually(t, drain.Load{Connections: 3, Idle: 2, Requests: 1})
	require.Positive(t, d.Progress().Oldest)

	d.Begin()
	other := dial(t, s.addr)
	other.send(get)
	res, body := other.answer()
	require.True(t, res.Close, "the response should close the connection")
	require.Equal(t, "ok", body)
	_, err := d.Undo()
	require.NoError(t, err)
	idle.send(get)
	res, _ = idle.answer()
	require.False(t, res.Close)

	s.stop()
	_, err = idle.r.ReadByte()
	require.ErrorIs(t, err, io.EOF, "an idle connection should be closed after the delay")
	_, err = net.Dial("tcp", s.addr)
	require.Error(t, err)
	require.Equal(t, drain.Waiting, d.Progress().State)
	close(release)
	_, body = slow.answer()
	require.Equal(t, "ok", body)
	require.NoError(t, s.wait(t))
	s.eventually(t, drain.Load{})
}

func TestServeExpires(t *testing.T) {
	began := make(chan struct{}, 1)
	d := &drain.Drainer{Settings: drain.Settings{Delay: -1, Timeout: 50 * time.Millisecond}}
	s := serve(t, d, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		began <- struct{}{}
		<-r.Context().Done()
	}), nil)
	c := dial(t, s.addr)
	c.send(get)
	<-began
	s.stop()
	err := s.wait(t)
	var expired *drain.ExpiredError
	require.ErrorAs(t, err, &expired)
	require.ErrorContains(t, err, "drain: the timeout is over; still open: 1 connection, 1 request, oldest")
	_, err = c.r.ReadByte()
	require.Error(t, err)
}

// SIGTERM begins the drain of Run.
func TestRunDrainsOnSIGTERM(t *testing.T) {
	began := make(chan drain.Progress, 1)
	d := &drain.Drainer{
		Settings: drain.Settings{Delay: 20 * time.Millisecond},
		Changed:  func(p drain.Progress) { began <- p },
	}
	serving := make(chan struct{})
	srv := &http.Server{Addr: "127.0.0.1:0", Handler: http.NotFoundHandler(), BaseContext: func(net.Listener) context.Context {
		close(serving)
		return context.Background()
	}}
	done := make(chan error, 1)
	go func() { done <- d.Run(t.Context(), srv) }()
	<-serving
	self, err := os.FindProcess(os.Getpid())
	require.NoError(t, err)
	require.NoError(t, self.Signal(syscall.SIGTERM))
	require.True(t, (<-began).Stopping) // on a busy machine, the delay may be over
	require.NoError(t, <-done)
	require.Equal(t, drain.Done, d.Progress().State)
}

// BenchmarkAttach measures how much longer a request takes because the Drainer counts it.
func BenchmarkAttach(b *testing.B) {
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	for name, attach := range map[string]bool{"plain": false, "attached": true} {
		b.Run("server="+name, func(b *testing.B) {
			srv := &http.Server{Handler: handler}
			ctx := context.Background()
			if attach {
				(&drain.Drainer{}).Attach(srv)
				nc, other := net.Pipe()
				defer nc.Close()
				defer other.Close()
				ctx = srv.ConnContext(ctx, nc)
			}
			r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
			w := httptest.NewRecorder()
			b.ReportAllocs()
			for b.Loop() {
				srv.Handler.ServeHTTP(w, r)
			}
		})
	}
}

// If the server uses a listener of Drainer.Listener, the Drainer counts a WebSocket until it is
// closed.
func TestHijackedConnections(t *testing.T) {
	hijacked := make(chan net.Conn, 1)
	d := &drain.Drainer{Settings: drain.Settings{Delay: 50 * time.Millisecond, Timeout: patience}}
	s := serve(t, d, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			hijacked <- c
		}
	}), d.Listener)
	d.Begin()
	c := dial(t, s.addr)
	c.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
	res, err := http.ReadResponse(c.r, nil)
	require.NoError(t, err)
	require.Equal(t, "Upgrade", res.Header.Get("Connection"))
	server := <-hijacked
	s.eventually(t, drain.Load{Connections: 1})
	s.stop()
	require.Eventually(t, func() bool { return d.Progress().State == drain.Waiting }, patience, time.Millisecond)
	server.Close()
	require.NoError(t, s.wait(t))
}

// A response to a request with the header Upgrade keeps its header Connection.
func TestUpgradeKeepsConnectionHeader(t *testing.T) {
	d := &drain.Drainer{}
	s := serve(t, d, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("Connection", "X-Test")
	}), nil)
	d.Begin()
	c := dial(t, s.addr)
	c.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
	res, _ := c.answer()
	require.Equal(t, []string{"X-Test"}, res.Header["Connection"])
}

// If the listener fails, Serve returns its error, also during a drain.
func TestServeWithoutListener(t *testing.T) {
	for name, before := range map[string]bool{"serving": false, "draining": true} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			d := &drain.Drainer{Settings: drain.Settings{Delay: time.Hour}}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- d.Serve(ctx, &http.Server{}, l) }()
			if before {
				cancel()
				require.Eventually(t, func() bool { return d.Progress().Stopping }, patience, time.Millisecond)
			}
			l.Close()
			require.ErrorIs(t, <-done, net.ErrClosed)
		})
	}
}
