package relay

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// forEachWay runs the function test with new Engines of each implementation, and with an Engine
// that must copy through buffers because it has no pipes.
func forEachWay(t *testing.T, test func(t *testing.T, e *Engine)) {
	forEach(t, test)
	t.Run("epoll without pipes", func(t *testing.T) {
		noLeak(t)
		test(t, newEngine(t, &Engine{Pipes: -1}))
	})
}

// reset closes c with RST when the kernel of the other side has acknowledged everything. A RST
// destroys all bytes that are not acknowledged.
func reset(t *testing.T, c *net.TCPConn) {
	t.Helper()
	poll(t, "the bytes do not arrive", func() bool { return acknowledged(t, c) })
	require.NoError(t, c.SetLinger(0))
	require.NoError(t, c.Close())
}

// The function slowly reads the given number of bytes of a pattern, in small pieces with pauses. It
// returns the error that follows these bytes.
func slowly(c *net.TCPConn, size int64, seed uint64) error {
	p := pattern{seed: seed}
	buf, want := make([]byte, 16<<10), make([]byte, 16<<10)
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	for got := int64(0); ; <-pace.C {
		c.SetReadDeadline(time.Now().Add(patience)) // with small windows, all the bytes may take longer
		n, err := c.Read(buf)
		if p.fill(want[:n]); string(buf[:n]) != string(want[:n]) {
			return fmt.Errorf("wrong bytes after %d", got)
		}
		if got += int64(n); err != nil && got < size {
			return fmt.Errorf("%d bytes of %d: %w", got, size, err)
		} else if err != nil {
			return err
		}
	}
}

// smallWindow returns a client and a backend with an Engine between them. Their read buffers are
// small. So the bytes of one side wait in the Engine and in its sockets until the other side reads.
func smallWindow(t *testing.T, e *Engine) (client, backend *net.TCPConn, done chan Result) {
	client, a := tcpPair(t)
	b, backend := tcpPair(t)
	for _, c := range []*net.TCPConn{client, backend} {
		require.NoError(t, c.SetReadBuffer(16<<10))
		require.NoError(t, c.SetWriteBuffer(4<<20))
	}
	for _, c := range []*net.TCPConn{a, b} {
		require.NoError(t, c.SetReadBuffer(4<<20))
		require.NoError(t, c.SetWriteBuffer(1<<20))
	}
	done = make(chan Result, 1)
	e.Relay(a, b, nil, func(r Result) { done <- r })
	return client, backend, done
}

// One side sends bytes and then resets its connection. The other side reads slowly, and still gets
// every byte.
func TestBytesBeforeAReset(t *testing.T) {
	for _, who := range []Party{ByBackend, ByClient} {
		for _, size := range []int64{1, 60_000, 400_000, 3 << 20} {
			t.Run(fmt.Sprintf("of the %v after %d bytes", who, size), func(t *testing.T) {
				forEachWay(t, func(t *testing.T, e *Engine) {
					client, backend, done := smallWindow(t, e)
					from, to, want := backend, client, io.EOF
					if who == ByClient {
						from, to, want = client, backend, errReset
					}
					require.NoError(t, send(from, size, 5, newRand()))
					reset(t, from)
					require.ErrorIs(t, slowly(to, size, 5), want)
					to.Close()
					r := receive(t, done)
					require.Equal(t, who, r.By)
					require.True(t, isReset(r.Err), r.Err)
					require.EqualValues(t, size, r.ToClient+r.ToBackend)
				})
			})
		}
	}
}

// wrapped is a connection above TCP, such as TLS.
type wrapped struct{ net.Conn }

func (w wrapped) NetConn() net.Conn { return w.Conn }

// A backend whose connection is not TCP, but has a TCP connection below it, gets RST too.
func TestResetBelowAnotherConnection(t *testing.T) {
	forEach(t, func(t *testing.T, e *Engine) {
		client, a := tcpPair(t)
		b, backend := tcpPair(t)
		done := make(chan Result, 1)
		e.Relay(a, wrapped{b}, nil, func(r Result) { done <- r })
		write(t, client, "x")
		reset(t, client)
		expect(t, backend, "x")
		_, err := backend.Read(make([]byte, 1))
		require.ErrorIs(t, err, errReset)
		require.Equal(t, ByClient, receive(t, done).By)
	})
}

// A server that closes its socket with unread bytes resets the connection without a FIN.
func TestBytesBeforeACloseWithUnreadBytes(t *testing.T) {
	const size = 400_000
	forEachWay(t, func(t *testing.T, e *Engine) {
		client, backend, done := smallWindow(t, e)
		write(t, client, "a request, and a body that nobody reads")
		poll(t, "no request", func() bool { return unread(t, backend) > 0 })
		require.NoError(t, send(backend, size, 5, newRand()))
		poll(t, "the answer does not arrive", func() bool { return acknowledged(t, backend) })
		require.NoError(t, backend.Close())
		require.ErrorIs(t, slowly(client, size, 5), io.EOF)
		client.Close()
		require.Equal(t, ByBackend, receive(t, done).By)
	})
}

// unread returns how many bytes wait in the receive queue of c.
func unread(t *testing.T, c *net.TCPConn) (n int) {
	t.Helper()
	raw, err := c.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCINQ) }))
	require.NoError(t, err)
	return n
}

// A client reads nothing for longer than lingerTimeout, while its answer waits in the send queue.
// The client also sends more bytes, which nobody reads any more.
func TestPauseAfterAReset(t *testing.T) {
	const size = 400_000
	forEach(t, func(t *testing.T, e *Engine) {
		client, backend, done := smallWindow(t, e)
		require.NoError(t, send(backend, size, 5, newRand()))
		reset(t, backend)
		for end, pace := time.Now().Add(lingerTimeout+500*time.Millisecond), time.Tick(100*time.Millisecond); time.Now().Before(end); <-pace {
			write(t, client, "more")
		}
		require.Empty(t, done)
		require.ErrorIs(t, slowly(client, size, 5), io.EOF)
		// The client stays. The Engine ends the connection.
		require.Equal(t, ByBackend, receive(t, done).By)
	})
}

// A client resets its connection while the backend sends to it. The backend still gets all bytes
// that the client has sent.
func TestUploadOfAClientThatResetsDuringTheAnswer(t *testing.T) {
	const size = 1 << 20
	forEachWay(t, func(t *testing.T, e *Engine) {
		client, backend, done := smallWindow(t, e)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for err := error(nil); err == nil; {
				_, err = backend.Write(make([]byte, 10_000))
			}
		}()
		require.NoError(t, send(client, size, 5, newRand()))
		reset(t, client)
		if err := slowly(backend, size, 5); err != io.EOF { // a write may have returned the reset before
			require.ErrorIs(t, err, errReset)
		}
		backend.Close()
		<-sent
		require.Equal(t, ByClient, receive(t, done).By)
	})
}

// The Engine closes a connection before both sides have ended. Each side still gets the bytes in
// the send queue of its socket, although the Engine has not read all bytes of this side.
func TestBytesBeforeClose(t *testing.T) {
	const buffer = 64 << 10
	forEach(t, func(t *testing.T, e *Engine) {
		client, a := tcpPair(t)
		b, backend := tcpPair(t)
		for _, c := range []*net.TCPConn{client, a, b, backend} {
			require.NoError(t, c.SetReadBuffer(buffer))
			require.NoError(t, c.SetWriteBuffer(buffer))
		}
		done := make(chan Result, 1)
		e.Relay(a, b, nil, func(r Result) { done <- r })
		fill(t, client, 3, 12<<20)
		fill(t, backend, 4, 12<<20)
		require.NoError(t, e.Close())
		r := receive(t, done)
		require.Equal(t, ByEngine, r.By)
		require.ErrorIs(t, slowly(backend, r.ToBackend, 3), io.EOF)
		require.ErrorIs(t, slowly(client, r.ToClient, 4), io.EOF)
	})
}

// If one side has ended its direction, the connection ends after HalfCloseTimeout, and not only
// after IdleTimeout.
func TestHalfCloseTimeout(t *testing.T) {
	for _, who := range []Party{ByBackend, ByClient} {
		t.Run("the "+who.String()+" has ended", func(t *testing.T) {
			forEach(t, func(t *testing.T, e *Engine) {
				e.IdleTimeout, e.HalfCloseTimeout = time.Hour, 100*time.Millisecond
				client, backend, done := relayed(t, e, "")
				from, to := backend, client
				if who == ByClient {
					from, to = client, backend
				}
				write(t, from, "bye")
				require.NoError(t, from.CloseWrite())
				expect(t, to, "bye")
				expectEOF(t, to)
				r := receive(t, done)
				require.Equal(t, ByTimeout, r.By)
				require.GreaterOrEqual(t, r.Total, e.HalfCloseTimeout)
			})
		})
	}
	t.Run("less than 0", func(t *testing.T) {
		forEach(t, func(t *testing.T, e *Engine) {
			e.IdleTimeout, e.HalfCloseTimeout = 300*time.Millisecond, -1
			client, _, done := relayed(t, e, "")
			require.NoError(t, client.CloseWrite())
			require.GreaterOrEqual(t, receive(t, done).Total, e.IdleTimeout)
		})
	})
}

// A client ends its direction after its request. The transfer of the answer takes longer than
// HalfCloseTimeout, but the moving bytes keep the connection open.
func TestLongAnswerAfterHalfClose(t *testing.T) {
	const timeout = 400 * time.Millisecond
	forEach(t, func(t *testing.T, e *Engine) {
		e.IdleTimeout, e.HalfCloseTimeout = time.Hour, timeout
		client, backend, done := relayed(t, e, "")
		write(t, client, "request")
		require.NoError(t, client.CloseWrite())
		expect(t, backend, "request")
		expectEOF(t, backend)
		start, last := time.Now(), time.Now()
		for pace := time.Tick(timeout / 20); last.Sub(start) < 3*timeout; <-pace {
			now := time.Now()
			if _, err := backend.Write([]byte("x")); err != nil {
				break // correct only if the test itself was delayed; see below
			}
			if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
				break
			}
			last = now
		}
		backend.Close()
		delay := time.Since(last)
		if r := receive(t, done); last.Sub(start) < 3*timeout || r.Err != nil {
			require.GreaterOrEqual(t, delay+tolerance, timeout, r.Err)
		}
	})
}

// A slow client reads the bytes in the send queue of its socket. The Engine writes no more bytes to
// the queue, but the connection does not count as idle.
func TestSlowReaderAfterHalfClose(t *testing.T) {
	const size, timeout = 1_500_000, 400 * time.Millisecond
	forEach(t, func(t *testing.T, e *Engine) {
		e.IdleTimeout, e.HalfCloseTimeout = time.Hour, timeout
		client, backend, done := smallWindow(t, e)
		// The window is larger than a segment: otherwise Linux sends only every few 100 ms.
		require.NoError(t, client.SetReadBuffer(256<<10))
		last, delay := time.Now(), time.Duration(0) // delay is the longest time without a read
		require.NoError(t, send(backend, size, 5, newRand()))
		require.NoError(t, backend.CloseWrite())
		buf := make([]byte, 64<<10)
		pace := time.NewTicker(timeout / 10)
		defer pace.Stop()
		for got := 0; got < size; <-pace.C {
			n, err := client.Read(buf)
			got += n
			delay = max(delay, time.Since(last))
			if err != nil || got < size/2 && len(done) > 0 { // correct only if the test itself was delayed
				require.GreaterOrEqual(t, delay+tolerance, timeout, err)
				break
			}
			last = time.Now()
		}
		client.Close()
		receive(t, done)
	})
}

// A client ends its direction and then goes away. The Engine notices, although no byte moves.
func TestClientThatGoesAwayAfterItsEnd(t *testing.T) {
	noLeak(t)
	e := newEngine(t, &Engine{IdleTimeout: -1, HalfCloseTimeout: -1})
	client, backend, done := relayed(t, e, "")
	write(t, client, "request")
	require.NoError(t, client.CloseWrite())
	expect(t, backend, "request")
	expectEOF(t, backend)
	reset(t, client)
	r := receive(t, done)
	require.Equal(t, ByClient, r.By)
	require.ErrorIs(t, r.Err, ErrClientReset)
}

// The Engine drops the byte of urgent data. It relays all other bytes, even if no byte arrives
// after them.
func TestUrgentData(t *testing.T) {
	urgent := func(t *testing.T, c *net.TCPConn) {
		raw, err := c.SyscallConn()
		require.NoError(t, err)
		require.NoError(t, raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil) }))
		require.NoError(t, err)
	}
	forEachWay(t, func(t *testing.T, e *Engine) {
		for _, size := range []int{10, 200_000} {
			text := strings.Repeat("a", size)
			t.Run(fmt.Sprintf("after %d bytes", size), func(t *testing.T) {
				e := newEngine(t, &Engine{Portable: e.Portable, Pipes: e.Pipes, Loops: 1})
				near, far := tcpPair(t)
				b, backend := tcpPair(t)
				require.NoError(t, far.SetReadBuffer(1<<20))
				write(t, near, text)
				urgent(t, near)
				write(t, near, "def")
				poll(t, "not received", func() bool { return acknowledged(t, near) })
				done := make(chan Result, 1)
				e.Relay(far, b, nil, func(r Result) { done <- r })
				expect(t, backend, text+"def")
				urgent(t, backend)
				write(t, backend, "ghi")
				expect(t, near, "ghi")
				near.Close()
				backend.Close()
				receive(t, done)
			})
		}
		t.Run("before FIN", func(t *testing.T) {
			e := newEngine(t, &Engine{Portable: e.Portable, Pipes: e.Pipes, Loops: 1})
			near, far := tcpPair(t)
			b, backend := tcpPair(t)
			write(t, near, "abc")
			urgent(t, near)
			write(t, near, "def")
			require.NoError(t, near.CloseWrite())
			poll(t, "not received", func() bool { return acknowledged(t, near) })
			done := make(chan Result, 1)
			e.Relay(far, b, nil, func(r Result) { done <- r })
			got, err := io.ReadAll(backend)
			require.NoError(t, err)
			require.Equal(t, "abcdef", string(got))
			backend.Close()
			receive(t, done)
		})
		t.Run("in the hello", func(t *testing.T) {
			e := newEngine(t, &Engine{Portable: e.Portable, Pipes: e.Pipes})
			addr, _ := serve(t, e, script{addr: backend(t, echo), hello: func(s *script, data []byte, err error) Step {
				if err != nil || len(data) < 6 {
					return Step{}
				}
				return Step{Action: Connect, Addr: s.addr}
			}})
			c := dial(t, addr)
			write(t, c, "abc")
			urgent(t, c)
			write(t, c, "def")
			expect(t, c, "abcdef")
		})
	})
}
