package relay

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// patience bounds how long a test waits for an event that must happen. A test that passes never
// waits so long.
const patience = time.Minute

// implementations are the engines that every test of the contract runs with.
var implementations = []struct {
	name     string
	portable bool
	loops    int
}{
	{"epoll", false, 2},
	{"goroutines", true, 0},
}

// forEach runs the function test with a new Engine of each implementation. It checks that Close
// leaves no goroutine and no descriptor.
func forEach(t *testing.T, test func(t *testing.T, e *Engine)) {
	for _, i := range implementations {
		t.Run(i.name, func(t *testing.T) {
			noLeak(t)
			test(t, newEngine(t, &Engine{Portable: i.portable, Loops: i.loops}))
		})
	}
}

// newEngine returns e, which must end with the test. If e has no HelloTimeout or no DialTimeout,
// newEngine sets a long one, because a busy machine exceeds the default.
func newEngine(t *testing.T, e *Engine) *Engine {
	e.HelloTimeout, e.DialTimeout = cmp.Or(e.HelloTimeout, patience), cmp.Or(e.DialTimeout, patience)
	t.Cleanup(func() {
		require.NoError(t, e.Close())
		require.Zero(t, e.Stats().Open)
		require.Zero(t, e.Stats().Pipes)
	})
	return e
}

// noLeak records the number of goroutines and descriptors. At the end of the test, it checks that
// neither number is larger.
func noLeak(t *testing.T) {
	usePoller()
	goroutines, fds := runtime.NumGoroutine(), openFiles()
	t.Cleanup(func() {
		if t.Failed() {
			return
		}
		poll(t, "goroutines left", func() bool { return runtime.NumGoroutine() <= goroutines })
		poll(t, "descriptors left", func() bool { return openFiles() <= fds })
	})
}

// usePoller makes Go's poller open its two descriptors, which stay open from its first use on.
var usePoller = sync.OnceFunc(func() {
	if r, w, err := os.Pipe(); err == nil {
		r.Close()
		w.Close()
	}
})

// openFiles returns the number of open descriptors of this process, or 0 if the system offers no
// way to find this number.
func openFiles() int {
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(names)
}

// poll waits until the function done returns true. If this takes too long, the test fails with the
// text of the argument what.
func poll(t *testing.T, what string, done func() bool) {
	t.Helper()
	pace := time.Tick(time.Millisecond)
	for end := time.Now().Add(patience); !done(); <-pace {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%s\n%s", what, buf[:runtime.Stack(buf, true)])
		}
	}
}

func receive[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		buf := make([]byte, 1<<20)
		t.Fatalf("nothing arrived\n%s", buf[:runtime.Stack(buf, true)])
		panic("unreachable")
	}
}

// script is a Session that calls its functions. If hello is nil, the Session connects to addr. If
// dialFailed is nil, the Session drops the connection after a failed dial.
type script struct {
	conn       Conn
	addr       netip.AddrPort
	hello      func(s *script, data []byte, err error) Step
	dialFailed func(s *script, err error) Step
	done       chan Result
	seen       [][]byte
}

func (s *script) Hello(data []byte, err error) Step {
	s.seen = append(s.seen, append([]byte(nil), data...))
	switch {
	case s.hello != nil:
		return s.hello(s, data, err)
	case err != nil:
		return Step{}
	}
	return Step{Action: Connect, Addr: s.addr}
}

func (s *script) DialFailed(err error) Step {
	if s.dialFailed != nil {
		return s.dialFailed(s, err)
	}
	return Step{}
}

func (s *script) Done(r Result) {
	if r.Hello+r.Dial > r.Total {
		panic(fmt.Sprintf("the phases %v and %v sum to more than the total of %v", r.Hello, r.Dial, r.Total))
	}
	s.done <- r
}

// serve runs an Engine on its own listener. Every connection gets a copy of s as its Session. serve
// returns the address, and the channel that receives the results.
func serve(t *testing.T, e *Engine, s script) (string, chan Result) {
	t.Helper()
	if s.done == nil {
		s.done = make(chan Result, 10000)
	}
	l := listen(t)
	served := make(chan error, 1)
	go func() {
		served <- e.Serve(l, func(c Conn) Session {
			one := s
			one.conn = c
			return &one
		})
	}()
	t.Cleanup(func() {
		require.NoError(t, e.Close())
		require.ErrorIs(t, receive(t, served), ErrClosed)
	})
	return l.Addr().String(), s.done
}

func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

// backend accepts connections and calls the function handle for each of them. This function need
// not close the connection. At the end of the test, backend waits until the last call has returned.
func backend(t *testing.T, handle func(c *net.TCPConn)) netip.AddrPort {
	t.Helper()
	l := listen(t)
	serveEach(t, l, handle)
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// serveEach calls the function handle for each connection of a listener until the test ends. This
// function need not close the connection.
func serveEach(t testing.TB, l *net.TCPListener, handle func(c *net.TCPConn)) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(patience))
				handle(c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
}

// accepting is a backend that passes its connections to the test.
func accepting(t *testing.T) (netip.AddrPort, <-chan *net.TCPConn) {
	l := listen(t)
	conns := make(chan *net.TCPConn, 10000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(patience))
			t.Cleanup(func() { c.Close() })
			conns <- c
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().(*net.TCPAddr).AddrPort(), conns
}

// echo sends all bytes back. It prevents io.Copy from using splice(2), because Go keeps the pipes
// of splice open.
func echo(c *net.TCPConn) { io.Copy(struct{ io.Writer }{c}, onlyReader{c}) }

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

func write(t *testing.T, c net.Conn, s string) {
	t.Helper()
	_, err := io.WriteString(c, s)
	require.NoError(t, err)
}

func expect(t *testing.T, c net.Conn, s string) {
	t.Helper()
	got := make([]byte, len(s))
	n, err := io.ReadFull(c, got)
	require.NoError(t, err, "after %q", got[:n])
	require.Equal(t, s, string(got))
}

func expectEOF(t *testing.T, c net.Conn) {
	t.Helper()
	rest, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Empty(t, string(rest))
}

// pattern is an endless sequence of bytes that depends on seed. Its period is a prime number, so a
// lost, doubled or misplaced part is visible.
type pattern struct{ seed, at uint64 }

var noise = func() []byte {
	b := make([]byte, 1_048_573)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}()

func (p *pattern) fill(b []byte) {
	for len(b) > 0 {
		n := copy(b, noise[(p.seed*7919+p.at)%uint64(len(noise)):])
		p.at += uint64(n)
		b = b[n:]
	}
}

type onlyReader struct{ io.Reader }

func newRand() *rand.Rand { return rand.New(rand.NewPCG(rand.Uint64(), 0)) }

func isReset(err error) bool { return errors.Is(err, errReset) }

// errReset is the error of reading from a connection that was reset.
const errReset = syscall.ECONNRESET
