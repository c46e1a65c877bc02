package netserve

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// accept is one result of fakeListener.
type accept struct {
	conn net.Conn
	err  error
}

// fakeListener returns the results of Accept from a channel, and net.ErrClosed after Close.
type fakeListener struct {
	results chan accept
	closed  chan struct{}
	once    sync.Once
	onClose error
}

func newFakeListener() *fakeListener {
	return &fakeListener{results: make(chan accept), closed: make(chan struct{})}
}

func (l *fakeListener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	case r := <-l.results:
		return r.conn, r.err
	}
}

func (l *fakeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.onClose
}

func (l *fakeListener) Addr() net.Addr { return &net.TCPAddr{} }

func (l *fakeListener) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// connect makes Accept return one end of a pipe, and returns the other end.
func (l *fakeListener) connect() net.Conn {
	client, server := net.Pipe()
	l.results <- accept{conn: server}
	return client
}

// serve runs Serve in a goroutine. The channel receives its result.
func serve(g *Group, l net.Listener, h Handler) <-chan error {
	done := make(chan error, 1)
	go func() { done <- g.Serve(l, h) }()
	return done
}

// echoBytes is a handler that returns each byte until the connection ends.
func echoBytes(_ context.Context, c net.Conn) {
	var b [1]byte
	for {
		if _, err := c.Read(b[:]); err != nil {
			return
		}
		if _, err := c.Write(b[:]); err != nil {
			return
		}
	}
}

// roundTrip checks that a handler serves the other end of c.
func roundTrip(t *testing.T, c net.Conn) {
	t.Helper()
	_, err := c.Write([]byte("x"))
	require.NoError(t, err)
	var b [1]byte
	_, err = c.Read(b[:])
	require.NoError(t, err)
	require.Equal(t, "x", string(b[:]))
}

func requireClosedByPeer(t *testing.T, c net.Conn) {
	t.Helper()
	var b [1]byte
	_, err := c.Read(b[:])
	require.Error(t, err, "the connection should be closed")
}

// A synctest bubble fails if goroutines remain at its end. So each test in a bubble also checks
// that no goroutine leaks.

func TestAcceptErrorsBackOffAndNeverEndServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		emfile := &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
		l := newFakeListener()
		var pauses []time.Duration
		g := &Group{AcceptError: func(from net.Listener, err error, pause time.Duration) {
			require.Same(t, l, from)
			require.ErrorIs(t, err, syscall.EMFILE)
			pauses = append(pauses, pause)
		}}
		done := serve(g, l, echoBytes)

		begin := time.Now()
		const failures = 12
		for range failures {
			l.results <- accept{err: emfile} // the send blocks until the end of the pause
		}
		c := l.connect()
		roundTrip(t, c)
		ms := time.Millisecond
		require.Equal(t, []time.Duration{
			5 * ms, 10 * ms, 20 * ms, 40 * ms, 80 * ms, 160 * ms, 320 * ms, 640 * ms,
			time.Second, time.Second, time.Second, time.Second,
		}, pauses)
		require.Equal(t, 1275*ms+4*time.Second, time.Since(begin), "Serve should sleep exactly its pauses")

		pauses = nil
		l.results <- accept{err: emfile}
		roundTrip(t, c) // a connection continues while accepts fail
		c.Close()
		l.connect().Close()
		require.Equal(t, []time.Duration{5 * ms}, pauses, "a success should reset the pause")

		require.NoError(t, g.Shutdown(t.Context()))
		require.Equal(t, ErrClosed, <-done)
	})
}

func TestStopInterruptsBackOff(t *testing.T) {
	for name, stop := range map[string]func(*Group) error{
		"shutdown": func(g *Group) error { return g.Shutdown(context.Background()) },
		"close":    (*Group).Close,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newFakeListener()
				g := &Group{}
				done := serve(g, l, echoBytes)
				for range 10 {
					l.results <- accept{err: syscall.ENFILE}
				}
				synctest.Wait() // Serve sleeps for a second
				begin := time.Now()
				require.NoError(t, stop(g))
				require.Equal(t, ErrClosed, <-done)
				require.Zero(t, time.Since(begin))
			})
		})
	}
}

func TestServeEndsWithItsListener(t *testing.T) {
	l := newFakeListener()
	g := &Group{}
	done := serve(g, l, echoBytes)
	l.Close()
	err := <-done
	require.ErrorIs(t, err, net.ErrClosed)
	require.NotErrorIs(t, err, ErrClosed)

	// The group itself is still open.
	l = newFakeListener()
	done = serve(g, l, echoBytes)
	c := l.connect()
	roundTrip(t, c)
	require.NoError(t, g.Close())
	require.Equal(t, ErrClosed, <-done)
	requireClosedByPeer(t, c)
}

func TestServeAfterTheEnd(t *testing.T) {
	for name, stop := range map[string]func(*Group) error{
		"shutdown": func(g *Group) error { return g.Shutdown(context.Background()) },
		"close":    (*Group).Close,
	} {
		t.Run(name, func(t *testing.T) {
			g := &Group{}
			require.NoError(t, stop(g))
			l := newFakeListener()
			require.Equal(t, ErrClosed, g.Serve(l, echoBytes))
			require.True(t, l.isClosed(), "Serve should close the listener that it was given")
			require.NoError(t, stop(g), "stopping twice is harmless")
		})
	}
}

func TestShutdownWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		g := &Group{}
		done := serve(g, l, func(ctx context.Context, c net.Conn) {
			echoBytes(ctx, c)
			require.NoError(t, ctx.Err(), "Shutdown should leave the handlers' context alone")
		})
		c := l.connect()
		roundTrip(t, c)

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.ErrorIs(t, g.Shutdown(ctx), context.DeadlineExceeded)
		require.Equal(t, ErrClosed, <-done)
		require.True(t, l.isClosed())
		roundTrip(t, c) // the handler still serves the connection

		waited := make(chan error)
		for range 2 { // several callers may wait
			go func() { waited <- g.Shutdown(context.Background()) }()
		}
		synctest.Wait()
		select {
		case <-waited:
			t.Fatal("Shutdown returned while a connection was served")
		default:
		}
		c.Close()
		require.NoError(t, <-waited)
		require.NoError(t, <-waited)
	})
}

func TestCloseIsNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		l.onClose = errors.New("cannot unlink")
		g := &Group{}
		release := make(chan struct{})
		done := serve(g, l, func(ctx context.Context, c net.Conn) {
			echoBytes(ctx, c)
			<-ctx.Done()
			<-release
		})
		c := l.connect()
		roundTrip(t, c)

		require.ErrorIs(t, g.Close(), l.onClose)
		require.Equal(t, ErrClosed, <-done)
		requireClosedByPeer(t, c)

		// The handler blocks. A Shutdown after Close waits for it.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, g.Shutdown(ctx), context.DeadlineExceeded)
		close(release)
		require.NoError(t, g.Shutdown(t.Context()))
	})
}

// closeHook is a connection that calls a function when it is closed.
type closeHook struct {
	net.Conn
	closing func()
}

func (c closeHook) Close() error {
	c.closing()
	return c.Conn.Close()
}

// A handler may write something when its context ends. The peer must not get this text, because the
// text would look like an answer.
func TestCloseClosesConnectionsBeforeTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		g := &Group{}
		contexts := make(chan context.Context, 1)
		wrote := make(chan error, 1)
		done := serve(g, l, func(ctx context.Context, c net.Conn) {
			contexts <- ctx
			<-ctx.Done()
			_, err := c.Write([]byte("x"))
			wrote <- err
		})
		client, server := net.Pipe()
		defer client.Close()
		var ended []error
		var handlers context.Context
		l.results <- accept{conn: closeHook{server, func() { ended = append(ended, handlers.Err()) }}}
		handlers = <-contexts
		require.NoError(t, g.Close())
		require.Equal(t, ErrClosed, <-done)
		require.Error(t, <-wrote)
		require.NoError(t, g.Shutdown(t.Context()))
		require.Equal(t, []error{nil, context.Canceled}, ended) // during Close, and after the handler had returned
	})
}

func TestCloseEndsAShutdownThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		g := &Group{}
		done := serve(g, l, echoBytes)
		c := l.connect()
		roundTrip(t, c)
		waited := make(chan error)
		go func() { waited <- g.Shutdown(context.Background()) }()
		synctest.Wait()
		require.NoError(t, g.Close())
		require.NoError(t, <-waited)
		require.Equal(t, ErrClosed, <-done)
	})
}

func TestMaxConnsOverSeveralListeners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &Group{MaxConns: 2}
		a, b := newFakeListener(), newFakeListener()
		served := make(chan net.Addr, 8)
		h := func(ctx context.Context, c net.Conn) {
			served <- c.LocalAddr()
			echoBytes(ctx, c)
		}
		doneA, doneB := serve(g, a, h), serve(g, b, h)

		first, second := a.connect(), b.connect()
		synctest.Wait() // these two connections have the two places
		waitingA, waitingB := a.connect(), b.connect()
		synctest.Wait()
		require.Len(t, served, 2, "no more than MaxConns should be served")

		first.Close()
		synctest.Wait()
		require.Len(t, served, 3, "room should be given to one that waits")

		// After Shutdown, the handler still serves the accepted connection.
		stopped := make(chan error)
		go func() { stopped <- g.Shutdown(context.Background()) }()
		synctest.Wait()
		second.Close()
		synctest.Wait()
		require.Len(t, served, 4)
		roundTrip(t, waitingA)
		roundTrip(t, waitingB)
		waitingA.Close()
		waitingB.Close()
		require.NoError(t, <-stopped)
		require.Equal(t, ErrClosed, <-doneA)
		require.Equal(t, ErrClosed, <-doneB)
	})
}

// One source has more connections than there are places. A client of another source does not wait:
// the oldest connection of the first source makes room.
func TestOneSourceCannotTakeAllPlaces(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	g := &Group{MaxConns: 4}
	started := make(chan struct{}, 1000)
	done := serve(g, l, func(ctx context.Context, c net.Conn) {
		started <- struct{}{}
		echoBytes(ctx, c)
	})
	dial := func(source string) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
		c, err := d.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		return c
	}
	var flood []net.Conn
	for range 20 {
		flood = append(flood, dial("127.0.0.1"))
	}
	for range 4 {
		<-started
	}
	for i := range 2 { // up to the share
		roundTrip(t, dial("127.0.0.2"))
		requireClosedByPeer(t, flood[i]) // the oldest
	}
	waits := dial("127.0.0.2")
	for _, c := range flood {
		c.Close()
	}
	roundTrip(t, waits)
	require.NoError(t, g.Close())
	require.NoError(t, g.Shutdown(t.Context()))
	require.Equal(t, ErrClosed, <-done)
}

// When the process has no free descriptor, the Group closes a connection of the source with the
// most connections. It then accepts the next client immediately, without a pause.
func TestGroupWithoutDescriptors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		g := &Group{}
		evicted := make(chan bool, 10)
		done := serve(g, l, func(ctx context.Context, c net.Conn) {
			echoBytes(ctx, c)
			evicted <- Evicted(ctx)
		})
		var crowd []net.Conn
		for range 3 { // a pipe has no IP address, so all belong to one source
			c := l.connect()
			roundTrip(t, c)
			crowd = append(crowd, c)
			time.Sleep(time.Second)
		}
		client, server := net.Pipe()
		l.results <- accept{conn: connFrom{server, "192.0.2.1"}}
		roundTrip(t, client)

		begin := time.Now()
		l.results <- accept{err: syscall.EMFILE}
		c := l.connect()
		roundTrip(t, c)
		require.Zero(t, time.Since(begin))
		requireClosedByPeer(t, crowd[0])
		require.True(t, <-evicted)
		roundTrip(t, client)
		c.Close()
		require.False(t, <-evicted)
		require.NoError(t, g.Close())
		require.NoError(t, g.Shutdown(t.Context()))
		require.Equal(t, ErrClosed, <-done)
	})
}

// connFrom is a connection of a client with an IP address.
type connFrom struct {
	net.Conn
	ip string
}

func (c connFrom) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(c.ip)} }

// A Group reports each connection that it closes because too many wait.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		refused := make(chan net.Conn, 1)
		g := &Group{MaxConns: 1, Refused: func(c net.Conn) { refused <- c }}
		done := serve(g, l, echoBytes)
		served := l.connect()
		roundTrip(t, served)
		var waits []net.Conn
		for range minWaiting {
			waits = append(waits, l.connect())
		}
		synctest.Wait()
		require.Empty(t, refused)
		requireClosedByPeer(t, l.connect())
		require.NotNil(t, <-refused)
		roundTrip(t, served)
		require.NoError(t, g.Close())
		require.NoError(t, g.Shutdown(t.Context()))
		require.Equal(t, ErrClosed, <-done)
		for _, c := range append(waits, served) {
			requireClosedByPeer(t, c)
		}
	})
}

func TestCloseDropsTheConnectionThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &Group{MaxConns: 1}
		l := newFakeListener()
		done := serve(g, l, echoBytes)
		first, second := l.connect(), l.connect()
		synctest.Wait() // the handler serves the first connection; the second waits
		require.NoError(t, g.Close())
		require.Equal(t, ErrClosed, <-done)
		requireClosedByPeer(t, first)
		requireClosedByPeer(t, second)
		require.NoError(t, g.Shutdown(t.Context()))
	})
}

func TestHandlerThatExitsItsGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &Group{MaxConns: 1}
		l := newFakeListener()
		done := serve(g, l, func(context.Context, net.Conn) { runtime.Goexit() })
		for range 3 { // each connection frees its place
			requireClosedByPeer(t, l.connect())
		}
		require.NoError(t, g.Shutdown(t.Context()))
		require.Equal(t, ErrClosed, <-done)
	})
}

func TestRealListeners(t *testing.T) {
	g := &Group{}
	var done []<-chan error
	var clients []net.Conn
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		done = append(done, serve(g, l, echoBytes))
		for range 4 {
			c, err := net.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			roundTrip(t, c)
			clients = append(clients, c)
		}
	}
	for _, c := range clients {
		roundTrip(t, c)
		c.Close()
	}
	require.NoError(t, g.Shutdown(t.Context()))
	for _, d := range done {
		require.Equal(t, ErrClosed, <-d)
	}
}
