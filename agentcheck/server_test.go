package agentcheck_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/agentcheck"
)

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return l
}

// patience bounds how long a test waits for an event that must happen.
const patience = time.Minute

// start starts s on a new listener until the test ends. If s has no time-out, start sets a long one:
// on a busy machine, an exchange may exceed the default.
func start(t testing.TB, s *agentcheck.Server) (addr string) {
	t.Helper()
	return startOn(t, s, listen(t))
}

func startOn(t testing.TB, s *agentcheck.Server, l net.Listener) (addr string) {
	t.Helper()
	if s.Timeout == 0 {
		s.Timeout = patience
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		require.Equal(t, agentcheck.ErrServerClosed, <-served)
		require.NoError(t, s.Shutdown(context.Background()))
	})
	return l.Addr().String()
}

// The function "raw" connects, sends text, and returns all bytes that the server sends.
func raw(t testing.TB, addr, text string) (string, error) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	if text != "" {
		_, err = io.WriteString(c, text)
		require.NoError(t, err)
	}
	answer, err := io.ReadAll(c)
	return string(answer), err
}

func TestServerAnswers(t *testing.T) {
	want := reply{up, drain, percent(75), limit(30), "cordoned"}
	requests := make(chan agentcheck.Request, 1)
	addr := start(t, &agentcheck.Server{Handler: agentcheck.HandlerFunc(func(_ context.Context, q *agentcheck.Request) agentcheck.Reply {
		requests <- *q
		return want
	})})
	answer, err := raw(t, addr, "")
	require.NoError(t, err, "the connection should end cleanly")
	require.Equal(t, "up drain 75% maxconn:30 # cordoned\n", answer)
	q := <-requests
	require.Empty(t, q.Name)
	require.Equal(t, addr, q.LocalAddr.String())
	require.NotEmpty(t, q.RemoteAddr.String())

	client := agentcheck.Client{Timeout: patience}
	got, err := client.Check(t.Context(), addr)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestServerReadsNames(t *testing.T) {
	exchanges := make(chan agentcheck.Exchange, 1)
	addr := start(t, &agentcheck.Server{
		ReadName: true,
		Handler: agentcheck.HandlerFunc(func(_ context.Context, q *agentcheck.Request) agentcheck.Reply {
			return reply{State: up, Reason: q.Name}
		}),
		Finished: func(x agentcheck.Exchange) { exchanges <- x },
	})
	long := strings.Repeat("n", agentcheck.MaxName)
	for _, c := range []struct{ send, name string }{
		{"media/tracks\n", "media/tracks"},
		{"media/tracks\r\n", "media/tracks"},
		{"media/tracks\r", "media/tracks"},
		{"one\ntwo\n", "one"},
		{"\n", ""},
		{" two words \n", " two words "},
		{long + "\n", long},
	} {
		answer, err := raw(t, addr, c.send)
		require.NoError(t, err)
		require.Equal(t, reply{State: up, Reason: c.name}.String()+"\n", answer)
		x := <-exchanges
		require.NoError(t, x.Err)
		require.Equal(t, c.name, x.Request.Name)
		require.Equal(t, up, x.Reply.State)
		require.Positive(t, x.Duration)
	}

	t.Run("in pieces", func(t *testing.T) {
		c, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		defer c.Close()
		for _, piece := range []string{"a", "b", strings.Repeat("c", 500), "d\n"} {
			_, err := io.WriteString(c, piece)
			require.NoError(t, err)
		}
		answer, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Equal(t, "up # ab"+strings.Repeat("c", 500)+"d\n", string(answer))
		require.NoError(t, c.Close())
		<-exchanges
	})
	t.Run("ended by the end of input", func(t *testing.T) {
		c, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		defer c.Close()
		_, err = io.WriteString(c, "half")
		require.NoError(t, err)
		require.NoError(t, c.(*net.TCPConn).CloseWrite())
		answer, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Equal(t, "up # half\n", string(answer))
		<-exchanges
	})
	t.Run("too long", func(t *testing.T) {
		answer, _ := raw(t, addr, long+"n\n")
		require.Empty(t, answer)
		x := <-exchanges
		require.ErrorIs(t, x.Err, agentcheck.ErrNoName)
		require.Equal(t, agentcheck.Reply{}, x.Reply)
	})
	t.Run("nothing", func(t *testing.T) {
		c, err := net.Dial("tcp", addr) // like a plain health check
		require.NoError(t, err)
		require.NoError(t, c.Close())
		x := <-exchanges
		require.ErrorIs(t, x.Err, agentcheck.ErrNoName)
		require.ErrorIs(t, x.Err, io.EOF)
	})
}

// pipeListener accepts connections in memory, so that their deadlines use the clock of synctest.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// halfPipe is one end of a net.Pipe, with CloseWrite.
type halfPipe struct{ net.Conn }

func (halfPipe) CloseWrite() error { return nil }

// onePipe serves one connection in a synctest bubble, and calls the function "client" with the
// client's end. It returns the exchange and its duration.
func onePipe(t *testing.T, s *agentcheck.Server, client func(net.Conn)) (agentcheck.Exchange, time.Duration) {
	t.Helper()
	exchanges := make(chan agentcheck.Exchange, 1)
	s.Finished = func(x agentcheck.Exchange) { exchanges <- x }
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	served := make(chan error)
	go func() { served <- s.Serve(l) }()
	begin := time.Now()
	near, far := net.Pipe()
	l.conns <- halfPipe{far}
	client(near)
	x := <-exchanges
	took := time.Since(begin)
	require.NoError(t, s.Close())
	require.Equal(t, agentcheck.ErrServerClosed, <-served)
	require.NoError(t, s.Shutdown(t.Context()))
	return x, took
}

func TestServerTimesOut(t *testing.T) {
	bubble := func(name string, test func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
	}
	bubble("no line end", func(t *testing.T) {
		x, took := onePipe(t, &agentcheck.Server{ReadName: true, Handler: reply{State: up}}, func(c net.Conn) {
			_, err := io.WriteString(c, "no line end")
			require.NoError(t, err)
			answer, err := io.ReadAll(c)
			require.NoError(t, err)
			require.Empty(t, answer)
		})
		require.ErrorIs(t, x.Err, agentcheck.ErrNoName)
		require.ErrorIs(t, x.Err, os.ErrDeadlineExceeded)
		require.ErrorContains(t, x.Err, `"no line end"`)
		require.Equal(t, agentcheck.DefaultTimeout, took)
	})
	bubble("slow handler", func(t *testing.T) {
		s := &agentcheck.Server{
			Timeout: 20 * time.Millisecond,
			Handler: agentcheck.HandlerFunc(func(ctx context.Context, _ *agentcheck.Request) agentcheck.Reply {
				<-ctx.Done()
				synctest.Wait() // the deadline of the connection comes at the same time
				return reply{State: up}
			}),
		}
		x, took := onePipe(t, s, func(c net.Conn) {
			answer, err := io.ReadAll(c)
			require.NoError(t, err)
			require.Empty(t, answer, "an answer that is too late should not be sent")
		})
		require.ErrorIs(t, x.Err, os.ErrDeadlineExceeded)
		require.Equal(t, s.Timeout, took)
	})
	for _, timeout := range []time.Duration{20 * time.Millisecond, time.Hour} {
		bubble("peer that stays for "+timeout.String(), func(t *testing.T) {
			x, took := onePipe(t, &agentcheck.Server{Timeout: timeout, Handler: reply{State: up}}, func(c net.Conn) {
				answer := make([]byte, len("up\n"))
				_, err := io.ReadFull(c, answer)
				require.NoError(t, err)
			})
			require.NoError(t, x.Err)
			require.Zero(t, x.Duration, "the answer was given at once")
			require.Equal(t, min(timeout, 250*time.Millisecond), took)
		})
	}
}

// The client sends text that the server does not read, like HAProxy with agent-send to a server
// without ReadName. The connection must not end with a reset.
func TestServerNeverResets(t *testing.T) {
	l := gatedListener{unhurriedListener{listen(t)}, make(chan struct{})}
	addr := startOn(t, &agentcheck.Server{Handler: reply{State: up}}, l)
	t.Cleanup(func() { close(l.open) })
	for _, n := range []int{1, 100, 10_000, 60_000} {
		for range 20 {
			c, err := net.Dial("tcp", addr)
			require.NoError(t, err)
			require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
			_, err = io.WriteString(c, strings.Repeat("x", n))
			require.NoError(t, err)
			l.open <- struct{}{}
			answer, err := io.ReadAll(c)
			require.NoError(t, err, "unread input should not reset the connection")
			require.Equal(t, "up\n", string(answer))
			require.NoError(t, c.Close())
		}
	}
}

// gatedListener accepts one connection for each value that the channel open receives. So a test can
// send all its data before the server accepts.
type gatedListener struct {
	net.Listener
	open chan struct{}
}

func (l gatedListener) Accept() (net.Conn, error) {
	<-l.open
	return l.Listener.Accept()
}

// unhurriedListener accepts connections without deadlines. So a server waits for the end of a client
// without a limit.
type unhurriedListener struct{ net.Listener }

type unhurriedConn struct{ *net.TCPConn }

func (l unhurriedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return unhurriedConn{c.(*net.TCPConn)}, nil
}

func (unhurriedConn) SetDeadline(time.Time) error     { return nil }
func (unhurriedConn) SetReadDeadline(time.Time) error { return nil }

// A client that never stops sending gets an error.
func TestServerBoundsInput(t *testing.T) {
	addr := start(t, &agentcheck.Server{Handler: reply{State: up}, Timeout: time.Hour})
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	for {
		if _, err = c.Write(make([]byte, 4096)); err != nil {
			break
		}
	}
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}

// writeCounter counts the writes on the connections of a listener.
type writeCounter struct {
	net.Listener
	writes *atomic.Int32
}

type countedConn struct {
	*net.TCPConn
	writes *atomic.Int32
}

func (l writeCounter) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countedConn{c.(*net.TCPConn), l.writes}, nil
}

func (c countedConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.TCPConn.Write(b)
}

func TestServerWritesOnce(t *testing.T) {
	var writes atomic.Int32
	long := reply{fail, drain, percent(5), limit(7), strings.Repeat("long ", 200)}
	s := &agentcheck.Server{Handler: long}
	addr := startOn(t, s, writeCounter{listen(t), &writes})
	for i := range 5 {
		answer, err := raw(t, addr, "")
		require.NoError(t, err)
		require.Equal(t, long.String()+"\n", answer)
		require.EqualValues(t, i+1, writes.Load())
	}
}

func TestServerSurvivesPanics(t *testing.T) {
	var log lockedBuffer
	exchanges := make(chan agentcheck.Exchange, 1)
	addr := start(t, &agentcheck.Server{
		ReadName: true,
		Handler: agentcheck.HandlerFunc(func(_ context.Context, q *agentcheck.Request) agentcheck.Reply {
			if q.Name == "bad" {
				panic("out of cheese")
			}
			return reply{State: up}
		}),
		Logger:   slog.New(slog.NewTextHandler(&log, nil)),
		Finished: func(x agentcheck.Exchange) { exchanges <- x },
	})
	for range 3 {
		answer, _ := raw(t, addr, "bad\n")
		require.Empty(t, answer)
		x := <-exchanges
		require.ErrorIs(t, x.Err, agentcheck.ErrPanic)
		require.ErrorContains(t, x.Err, "out of cheese")
		require.Equal(t, "bad", x.Request.Name)

		answer, err := raw(t, addr, "good\n")
		require.NoError(t, err)
		require.Equal(t, "up\n", answer)
		require.NoError(t, (<-exchanges).Err)
	}
	require.Contains(t, log.String(), "out of cheese")
	require.Contains(t, log.String(), "server_test.go", "the log should have the stack")
	require.Equal(t, 3, strings.Count(log.String(), "\n"), "and nothing else")
}

func TestServerDoesNotSendNonsense(t *testing.T) {
	var log lockedBuffer
	exchanges := make(chan agentcheck.Exchange, 1)
	addr := start(t, &agentcheck.Server{
		Handler:  reply{State: 77},
		Logger:   slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Finished: func(x agentcheck.Exchange) { exchanges <- x },
	})
	answer, _ := raw(t, addr, "")
	require.Empty(t, answer)
	require.ErrorContains(t, (<-exchanges).Err, "State(77)")
	require.Contains(t, log.String(), "State(77)")
}

func TestServerNeedsAHandler(t *testing.T) {
	l := listen(t)
	require.ErrorContains(t, (&agentcheck.Server{}).Serve(l), "no Handler")
	_, err := l.Accept()
	require.ErrorIs(t, err, net.ErrClosed, "Serve should close the listener")
}

func TestServerBoundsConnections(t *testing.T) {
	var now, peak atomic.Int32
	entered, release := make(chan struct{}, 8), make(chan struct{})
	addr := start(t, &agentcheck.Server{MaxConns: 2, Timeout: time.Minute, Handler: agentcheck.HandlerFunc(func(context.Context, *agentcheck.Request) agentcheck.Reply {
		n := now.Add(1)
		for p := peak.Load(); n > p && !peak.CompareAndSwap(p, n); p = peak.Load() {
		}
		entered <- struct{}{}
		<-release
		now.Add(-1)
		return reply{State: up}
	})})
	answers := make(chan string)
	const clients = 6
	for range clients {
		go func() {
			answer, _ := raw(t, addr, "")
			answers <- answer
		}()
	}
	<-entered
	<-entered
	close(release)
	for range clients {
		require.Equal(t, "up\n", <-answers)
	}
	require.EqualValues(t, 2, peak.Load())
}

// Clients that keep their connections open after the answer do not count for MaxConns until the
// time-out.
func TestServerFreesThePlacesOfIdleClients(t *testing.T) {
	addr := start(t, &agentcheck.Server{MaxConns: 2, Timeout: time.Hour, Handler: reply{State: up}})
	for range 4 {
		c, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		defer c.Close()
	}
	answer, err := raw(t, addr, "")
	require.NoError(t, err)
	require.Equal(t, "up\n", answer)
}

// HAProxy gets its answer even if another client opens more and more connections and sends no name.
func TestServerAnswersBesideSilentClients(t *testing.T) {
	const limit = 8
	var evicted, refused atomic.Int64
	addr := start(t, &agentcheck.Server{MaxConns: limit, Timeout: time.Hour, ReadName: true, Handler: reply{State: up}, Finished: func(x agentcheck.Exchange) {
		if x.Evicted && errors.Is(x.Err, agentcheck.ErrEvicted) {
			evicted.Add(1)
		}
		if errors.Is(x.Err, agentcheck.ErrTooManyConns) && x.Request.RemoteAddr != nil {
			refused.Add(1)
		}
	}})
	dial := func(source string) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
		c, err := d.Dial("tcp", addr)
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		return c
	}
	for range 40 * limit {
		dial("127.0.0.1")
	}
	for range 2 * limit {
		c := dial("127.0.0.2")
		_, err := io.WriteString(c, "web\n")
		require.NoError(t, err)
		answer, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Equal(t, "up\n", string(answer))
		require.NoError(t, c.Close())
		dial("127.0.0.1") // the client returns
	}
	require.Eventually(t, func() bool { return evicted.Load() > 0 && refused.Load() > 0 }, patience, time.Millisecond)
}

func TestHandlers(t *testing.T) {
	calls := ""
	handler := func(name string, r agentcheck.Reply) agentcheck.Handler {
		return agentcheck.HandlerFunc(func(ctx context.Context, q *agentcheck.Request) agentcheck.Reply {
			require.Equal(t, "q", q.Name)
			calls += name
			return r
		})
	}
	q := &agentcheck.Request{Name: "q"}
	node := handler("n", reply{State: up, Admin: drain, Weight: percent(100), Reason: "cordoned"})
	service := handler("s", reply{State: up, Admin: ready, Weight: percent(50)})
	require.Equal(t, reply{State: up, Admin: drain, Weight: percent(50), Reason: "cordoned"},
		agentcheck.MostRestrictive(node, service, reply{Weight: percent(80)}).ServeAgent(t.Context(), q))
	require.Equal(t, "ns", calls)
	require.Equal(t, reply{}, agentcheck.MostRestrictive().ServeAgent(t.Context(), q))
	require.Equal(t, reply{State: down}, agentcheck.MostRestrictive(reply{State: down}).ServeAgent(t.Context(), q))

	handlers := []agentcheck.Handler{node, service}
	both := agentcheck.MostRestrictive(handlers...)
	handlers[0] = reply{}
	require.Equal(t, drain, both.ServeAgent(t.Context(), q).Admin, "MostRestrictive should copy the list")
}

// lockedBuffer is a bytes.Buffer that several goroutines may use.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
