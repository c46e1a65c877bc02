package netserve

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// httpSite is a server with an HTTPLimiter.
type httpSite struct {
	*http.Server
	t       *testing.T
	addr    string
	entered chan struct{} // has an element for each request of /wait
	limiter *HTTPLimiter
}

// newHTTPSite starts a server. /wait waits until the end of the request, and /large answers with
// more than the kernel buffers.
func newHTTPSite(t *testing.T, maxConns int, l net.Listener) *httpSite {
	s := &httpSite{t: t, addr: l.Addr().String(), entered: make(chan struct{}, 1000)}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	mux.HandleFunc("/wait", func(_ http.ResponseWriter, r *http.Request) {
		s.entered <- struct{}{}
		<-r.Context().Done()
	})
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) {
		s.entered <- struct{}{}
		for b := make([]byte, 1<<20); ; {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	})
	s.Server = &http.Server{Handler: mux}
	s.limiter = NewHTTPLimiter(s.Server, maxConns)
	done := make(chan error, 1)
	go func() { done <- s.Serve(s.limiter.Listener(l)) }()
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		require.Equal(t, http.ErrServerClosed, <-done)
	})
	return s
}

// send connects from a source, sends text and returns the connection.
func (s *httpSite) send(source, text string) net.Conn {
	s.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	c, err := d.Dial("tcp", s.addr)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { c.Close() })
	require.NoError(s.t, c.SetDeadline(time.Now().Add(30*time.Second)))
	_, err = io.WriteString(c, text)
	require.NoError(s.t, err)
	return c
}

func request(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: a.test\r\n\r\n" }

// get sends a request and expects the answer.
func (s *httpSite) get(source string) net.Conn {
	s.t.Helper()
	c := s.send(source, request("/"))
	expectOK(s.t, c)
	return c
}

func expectOK(t *testing.T, c net.Conn) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "ok", string(body))
}

func localListener(t *testing.T) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return l
}

// One source holds all connections. A client of another source gets its answer at once.
func TestHTTPLimiterMakesRoom(t *testing.T) {
	const limit = 20
	for name, hold := range map[string]func(*httpSite){
		"silent":        func(s *httpSite) { s.send("127.0.0.1", "") },
		"half requests": func(s *httpSite) { s.send("127.0.0.1", "GET / HTTP/1.1\r\nHo") },
		"idle":          func(s *httpSite) { s.get("127.0.0.1") },
		"long polls":    func(s *httpSite) { s.send("127.0.0.1", request("/wait")); <-s.entered },
		"slow readers":  func(s *httpSite) { s.send("127.0.0.1", request("/large")); <-s.entered },
	} {
		t.Run(name, func(t *testing.T) {
			s := newHTTPSite(t, limit, localListener(t))
			for range limit {
				hold(s)
			}
			for range limit / 4 {
				s.get("127.0.0.2")
			}
			evicted, _ := s.limiter.Counts()
			require.Positive(t, evicted)
		})
	}
}

// When the process has no free descriptor, one source loses waiting connections, and Accept returns
// the next client without an error. So http.Server does not pause.
func TestHTTPLimiterWithoutDescriptors(t *testing.T) {
	inner := newFakeListener()
	srv := &http.Server{Handler: http.NotFoundHandler()}
	limiter := NewHTTPLimiter(srv, 0)
	l := limiter.Listener(inner)
	accepted := make(chan accept)
	next := func() {
		c, err := l.Accept()
		accepted <- accept{c, err}
	}
	go next()
	silent := inner.connect()
	require.NoError(t, (<-accepted).err)

	go next()
	inner.results <- accept{err: syscall.EMFILE}
	inner.connect()
	requireClosedByPeer(t, silent)
	require.NoError(t, (<-accepted).err)
	evicted, _ := limiter.Counts()
	require.EqualValues(t, 1, evicted)

	go next() // the connections that it closes do not help, so it must not try for ever
	inner.results <- accept{err: syscall.EMFILE}
	inner.results <- accept{err: syscall.EMFILE}
	require.ErrorIs(t, (<-accepted).err, syscall.EMFILE)
}

// The source with the most connections, none of which waits, cannot open another connection. If a
// client uses an idle connection again, the connection keeps its place.
func TestHTTPLimiterRefuses(t *testing.T) {
	s := newHTTPSite(t, 2, localListener(t))
	for range 2 {
		s.send("127.0.0.1", request("/wait"))
		<-s.entered
	}
	c := s.send("127.0.0.1", "")
	_, err := c.Read(make([]byte, 1))
	require.Error(t, err)
	_, refused := s.limiter.Counts()
	require.EqualValues(t, 1, refused)
	idle := s.get("127.0.0.2")
	_, err = io.WriteString(idle, request("/"))
	require.NoError(t, err)
	expectOK(t, idle)
}

// A client of a Unix socket always gets a connection, even if other clients hold all places. Only
// this user can connect to the socket.
func TestHTTPLimiterAndUnixSockets(t *testing.T) {
	s := newHTTPSite(t, 4, localListener(t))
	unix, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	require.NoError(t, err)
	go s.Serve(s.limiter.Listener(unix))
	for range 4 {
		s.send("127.0.0.1", request("/wait"))
		<-s.entered
	}
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return net.Dial("unix", unix.Addr().String())
		},
	}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://localhost/")
	require.NoError(t, err)
	resp.Body.Close()
}

// The limiter also works below TLS, and with several requests at the same time on one HTTP/2
// connection.
func TestHTTPLimiterWithHTTP2(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Proto)
	}))
	s.EnableHTTP2 = true
	limiter := NewHTTPLimiter(s.Config, 2)
	s.Listener = limiter.Listener(s.Listener)
	s.StartTLS()
	defer s.Close()
	for range 3 {
		resp, err := s.Client().Get(s.URL)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, "HTTP/2.0", string(body))
	}
	all, waits := limiter.conns.Counts()
	require.Equal(t, 1, all)
	require.LessOrEqual(t, waits, 1)
	for range 5 { // the idle connection of the client makes room
		c, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "https://"))
		require.NoError(t, err)
		defer c.Close()
	}
	require.Eventually(t, func() bool { evicted, _ := limiter.Counts(); return evicted >= 4 }, 30*time.Second, time.Millisecond)
}

// With HTTP/2, a connection serves while at least one handler runs, even if the client has reset
// the stream of a handler before the handler begins.
func TestHTTPLimiterCountsHandlers(t *testing.T) {
	enter, leave := make(chan struct{}), make(chan struct{})
	srv := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		enter <- struct{}{}
		<-leave
	})}
	limiter := NewHTTPLimiter(srv, 1)
	l := limiter.Listener(localListener(t))
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	c, err := l.Accept()
	require.NoError(t, err)
	defer c.Close()
	ctx := srv.ConnContext(t.Context(), c)
	ended := make(chan struct{})
	begin := func() {
		go func() {
			srv.Handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil))
			ended <- struct{}{}
		}()
		<-enter
	}
	end := func() { leave <- struct{}{}; <-ended }
	waits := func() int { _, n := limiter.conns.Counts(); return n }

	require.Equal(t, 1, waits())
	begin()
	since := c.(*httpConn).since.Load()
	begin()
	require.Zero(t, waits())
	end()
	require.Zero(t, waits())
	require.Equal(t, since, c.(*httpConn).since.Load())
	end() // http.Server does not call ConnState after a handler whose stream was reset
	require.Equal(t, 1, waits())
}
