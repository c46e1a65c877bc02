package agentcheck_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
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

// start serves a new listener, and ends the server with the test.
func start(t testing.TB, s *agentcheck.Server) (addr string) {
	t.Helper()
	return startOn(t, s, listen(t))
}

func startOn(t testing.TB, s *agentcheck.Server, l net.Listener) (addr string) {
	t.Helper()
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		require.Equal(t, agentcheck.ErrServerClosed, <-served)
		require.NoError(t, s.Shutdown(context.Background()))
	})
	return l.Addr().String()
}

// raw sends text, if any, and returns all that the server sends until the end.
func raw(t testing.TB, addr, text string) (string, error) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
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

	var client agentcheck.Client
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
		c, err := net.Dial("tcp", addr) // as a plain health check does
		require.NoError(t, err)
		require.NoError(t, c.Close())
		x := <-exchanges
		require.ErrorIs(t, x.Err, agentcheck.ErrNoName)
		require.ErrorIs(t, x.Err, io.EOF)
	})
}

func TestServerTimesOut(t *testing.T) {
	t.Run("no line end", func(t *testing.T) {
		exchanges := make(chan agentcheck.Exchange, 1)
		addr := start(t, &agentcheck.Server{
			ReadName: true, Timeout: 20 * time.Millisecond, Handler: reply{State: up},
			Finished: func(x agentcheck.Exchange) { exchanges <- x },
		})
		answer, _ := raw(t, addr, "no line end")
		require.Empty(t, answer)
		x := <-exchanges
		require.ErrorIs(t, x.Err, agentcheck.ErrNoName)
		require.ErrorIs(t, x.Err, os.ErrDeadlineExceeded)
		require.ErrorContains(t, x.Err, "no line end")
	})
	t.Run("slow handler", func(t *testing.T) {
		exchanges := make(chan agentcheck.Exchange, 1)
		addr := start(t, &agentcheck.Server{
			Timeout: 20 * time.Millisecond,
			Handler: agentcheck.HandlerFunc(func(ctx context.Context, _ *agentcheck.Request) agentcheck.Reply {
				<-ctx.Done()
				return reply{State: up}
			}),
			Finished: func(x agentcheck.Exchange) { exchanges <- x },
		})
		answer, _ := raw(t, addr, "")
		require.Empty(t, answer, "an answer that is too late should not be sent")
		require.ErrorIs(t, (<-exchanges).Err, os.ErrDeadlineExceeded)
	})
	t.Run("peer that stays", func(t *testing.T) {
		exchanges := make(chan agentcheck.Exchange, 1)
		addr := start(t, &agentcheck.Server{
			Timeout: 20 * time.Millisecond, Handler: reply{State: up},
			Finished: func(x agentcheck.Exchange) { exchanges <- x },
		})
		c, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		defer c.Close() // not before the server has given up
		require.NoError(t, (<-exchanges).Err)
	})
}

// TestServerNeverResets sends what the server does not read, as HAProxy with agent-send does to
// a server without ReadName.
func TestServerNeverResets(t *testing.T) {
	addr := start(t, &agentcheck.Server{Handler: reply{State: up}})
	for _, n := range []int{1, 100, 10_000, 60_000} {
		for range 20 {
			answer, err := raw(t, addr, strings.Repeat("x", n))
			require.NoError(t, err, "unread input should not reset the connection")
			require.Equal(t, "up\n", answer)
		}
	}
}

// TestServerBoundsInput: a peer that never stops sending ends with an error.
func TestServerBoundsInput(t *testing.T) {
	addr := start(t, &agentcheck.Server{Handler: reply{State: up}, Timeout: time.Hour})
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
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

// TestServerGivesIdlePlacesAway: clients that read their answer and stay do not keep others
// from being answered until the time-out.
func TestServerGivesIdlePlacesAway(t *testing.T) {
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
		agentcheck.Worst(node, service, reply{Weight: percent(80)}).ServeAgent(t.Context(), q))
	require.Equal(t, "ns", calls)
	require.Equal(t, reply{}, agentcheck.Worst().ServeAgent(t.Context(), q))
	require.Equal(t, reply{State: down}, agentcheck.Worst(reply{State: down}).ServeAgent(t.Context(), q))

	handlers := []agentcheck.Handler{node, service}
	both := agentcheck.Worst(handlers...)
	handlers[0] = reply{}
	require.Equal(t, drain, both.ServeAgent(t.Context(), q).Admin, "Worst should keep its own list")
}

// lockedBuffer is a bytes.Buffer for several goroutines.
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
