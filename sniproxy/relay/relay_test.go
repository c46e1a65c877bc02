package relay

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tcpPair returns both ends of a connection over loopback.
func tcpPair(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	far, err = l.AcceptTCP()
	require.NoError(t, err)
	near = c.(*net.TCPConn)
	for _, c := range []*net.TCPConn{near, far} {
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(patience))
	}
	return near, far
}

// relayed returns a client and a backend with the Engine between them.
func relayed(t *testing.T, e *Engine, prefix string) (client, backend *net.TCPConn, done chan Result) {
	t.Helper()
	client, a := tcpPair(t)
	b, backend := tcpPair(t)
	done = make(chan Result, 1)
	e.Relay(a, b, []byte(prefix), func(r Result) { done <- r })
	return client, backend, done
}

func TestRelayOfTwoConnections(t *testing.T) {
	forEach(t, func(t *testing.T, e *Engine) {
		client, backend, done := relayed(t, e, "prefix ")
		expect(t, backend, "prefix ")
		write(t, client, "question")
		expect(t, backend, "question")
		write(t, backend, "answer")
		expect(t, client, "answer")
		require.NoError(t, backend.Close())
		expectEOF(t, client)
		require.NoError(t, client.Close())
		r := receive(t, done)
		require.Equal(t, Result{By: ByBackend, Phase: PhaseRelay, ToBackend: 8, ToClient: 6, Total: r.Total}, r)
	})
}

func TestWrappedConnections(t *testing.T) {
	forEach(t, func(t *testing.T, e *Engine) {
		client, a := net.Pipe()
		b, backend := net.Pipe()
		done := make(chan Result, 1)
		e.Relay(a, b, []byte("prefix "), func(r Result) { done <- r })
		expect(t, backend, "prefix ")
		write(t, client, "question")
		expect(t, backend, "question")
		write(t, backend, "answer")
		expect(t, client, "answer")
		require.NoError(t, client.Close())
		expectEOF(t, backend)
		r := receive(t, done)
		require.NoError(t, r.Err)
		require.Equal(t, ByClient, r.By)
	})
}

// TestAnyTraffic sends random amounts of bytes in random pieces in both directions at the same
// time. The readers have random speeds, and the directions end in random order. The test checks
// every byte and every count.
func TestAnyTraffic(t *testing.T) {
	const runs = 40
	traffic := func(t *testing.T, e *Engine) {
		var wg sync.WaitGroup
		for run := range runs {
			seed := rand.Uint64()
			client, backend, done := relayed(t, e, "")
			wg.Go(func() {
				if err := converse(client, backend, done, seed, run); err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
			})
		}
		wg.Wait()
	}
	forEach(t, traffic)
	t.Run("epoll without pipes", func(t *testing.T) {
		noLeak(t)
		traffic(t, newEngine(t, &Engine{Pipes: -1}))
	})
	t.Run("epoll with too few pipes", func(t *testing.T) {
		noLeak(t)
		traffic(t, newEngine(t, &Engine{Pipes: 1, Loops: 1}))
	})
}

// converse is one run of TestAnyTraffic.
func converse(client, backend *net.TCPConn, done chan Result, seed uint64, run int) error {
	rnd := rand.New(rand.NewPCG(seed, 1))
	sizes := [2]int64{amount(rnd, run), amount(rnd, run+1)}
	errs := make(chan error, 4)
	peers := [2]*net.TCPConn{client, backend}
	var wg sync.WaitGroup
	for i := range peers {
		slow := rnd.IntN(3) == 0
		from, to, size, rnd := peers[i], peers[1-i], sizes[i], rand.New(rand.NewPCG(seed, uint64(i)+2))
		wg.Go(func() {
			errs <- send(from, size, seed+uint64(i), rnd)
			errs <- from.CloseWrite()
		})
		wg.Go(func() {
			if err := check(to, size, seed+uint64(i), slow); err != nil {
				errs <- fmt.Errorf("direction %d of %v bytes: %w", i, sizes, err)
			}
		})
	}
	wg.Wait()
	client.Close()
	backend.Close()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	r := <-done
	if r.Err != nil || r.ToBackend != sizes[0] || r.ToClient != sizes[1] || r.By != ByClient && r.By != ByBackend {
		return fmt.Errorf("sizes %v, result %+v", sizes, r)
	}
	return nil
}

// amount returns a number of bytes from 0 to some MB. Small numbers are more likely.
func amount(rnd *rand.Rand, run int) int64 {
	switch run % 4 {
	case 0:
		return rnd.Int64N(3)
	case 1:
		return rnd.Int64N(5000)
	case 2:
		return rnd.Int64N(200_000)
	}
	return rnd.Int64N(4 << 20)
}

// send writes the given number of bytes of a pattern, in random pieces.
func send(c *net.TCPConn, size int64, seed uint64, rnd *rand.Rand) error {
	p := pattern{seed: seed}
	buf := make([]byte, 256<<10)
	for size > 0 {
		n := min(size, 1+rnd.Int64N([]int64{10, 1000, 1460, 64 << 10, 256 << 10}[rnd.IntN(5)]))
		if size > 1<<20 {
			n = min(size, 32<<10+rnd.Int64N(200<<10))
		}
		p.fill(buf[:n])
		c.SetWriteDeadline(time.Now().Add(patience))
		if _, err := c.Write(buf[:n]); err != nil {
			return err
		}
		size -= n
	}
	return nil
}

// check reads to the end and compares the bytes with the pattern.
func check(c *net.TCPConn, size int64, seed uint64, slow bool) error {
	p := pattern{seed: seed}
	buf, want := make([]byte, 64<<10), make([]byte, 64<<10)
	pause := int64(256 << 10)
	pace := time.NewTicker(2 * time.Millisecond)
	defer pace.Stop()
	for got := int64(0); ; {
		c.SetReadDeadline(time.Now().Add(patience))
		n, err := c.Read(buf)
		p.fill(want[:n])
		if !bytes.Equal(buf[:n], want[:n]) {
			return fmt.Errorf("wrong bytes after %d", got)
		}
		if got += int64(n); err == io.EOF && got == size {
			return nil
		} else if err != nil {
			return fmt.Errorf("after %d bytes: %w", got, err)
		}
		if slow && got > pause { // let the buffers fill up
			pause += 256 << 10
			<-pace.C
		}
	}
}

func TestHalfClose(t *testing.T) {
	const size = 3 << 20
	forEach(t, func(t *testing.T, e *Engine) {
		for _, who := range []Party{ByClient, ByBackend} {
			t.Run(who.String(), func(t *testing.T) {
				e := newEngine(t, &Engine{Portable: e.Portable})
				first, second, done := relayed(t, e, "")
				if who == ByBackend {
					first, second = second, first
				}
				write(t, first, "the whole request")
				require.NoError(t, first.CloseWrite())
				all, err := io.ReadAll(second)
				require.NoError(t, err)
				require.Equal(t, "the whole request", string(all))
				// The other direction begins only now.
				go func() {
					send(second, size, 7, rand.New(rand.NewPCG(1, 2)))
					second.Close()
				}()
				require.NoError(t, check(first, size, 7, false))
				r := receive(t, done)
				require.NoError(t, r.Err)
				require.Equal(t, who, r.By)
			})
		}
	})
}

func TestIdleTimeoutOfHalfClosed(t *testing.T) {
	forEach(t, func(t *testing.T, e *Engine) {
		e.IdleTimeout = 100 * time.Millisecond
		client, backend, done := relayed(t, e, "")
		require.NoError(t, client.CloseWrite())
		expectEOF(t, backend)
		r := receive(t, done)
		require.Equal(t, ByTimeout, r.By)
		require.ErrorIs(t, r.Err, os.ErrDeadlineExceeded)
		expectEnd(t, client)
	})
}

func TestIdle(t *testing.T) {
	const idle = 400 * time.Millisecond
	forEach(t, func(t *testing.T, e *Engine) {
		e.IdleTimeout = idle
		t.Run("without any bytes", func(t *testing.T) {
			client, backend, done := relayed(t, e, "")
			r := receive(t, done)
			require.Equal(t, ByTimeout, r.By)
			require.Equal(t, PhaseRelay, r.Phase)
			require.ErrorIs(t, r.Err, os.ErrDeadlineExceeded)
			require.GreaterOrEqual(t, r.Total, idle)
			expectEnd(t, client)
			expectEnd(t, backend)
		})
		t.Run("after some bytes", func(t *testing.T) {
			for _, who := range []Party{ByClient, ByBackend} {
				start := time.Now()
				last := start // the last byte moved after this time
				client, backend, done := relayed(t, e, "")
				from, to := client, backend
				if who == ByBackend {
					from, to = backend, client
				}
				// Bytes in one direction keep both directions open for longer than the time-out.
				pace := time.NewTicker(idle / 20)
				defer pace.Stop()
				for moved := 0; last.Sub(start) < 2*idle; moved++ {
					now := time.Now()
					_, err := from.Write([]byte("x"))
					if err == nil {
						_, err = io.ReadFull(to, make([]byte, 1))
					}
					if err != nil { // correct only if the test itself was delayed for so long
						require.GreaterOrEqual(t, time.Since(last)+tolerance, idle, err)
						break
					}
					if last = now; moved == 0 {
						start = time.Now()
					}
					<-pace.C
				}
				r := receive(t, done)
				require.Equal(t, ByTimeout, r.By)
				require.GreaterOrEqual(t, time.Since(last)+tolerance, idle)
				require.GreaterOrEqual(t, r.Total, last.Sub(start)+idle-tolerance)
			}
		})
		t.Run("a reader that does not read", func(t *testing.T) {
			client, _, done := relayed(t, e, "")
			go io.Copy(client, onlyReader{zeros{}})
			r := receive(t, done)
			require.Equal(t, ByTimeout, r.By)
		})
	})
	forEach(t, func(t *testing.T, e *Engine) {
		t.Run("of Step.IdleTimeout", func(t *testing.T) {
			e.IdleTimeout = time.Hour
			addr, done := serve(t, e, script{addr: backend(t, echo), hello: func(s *script, _ []byte, _ error) Step {
				return Step{Action: Connect, Addr: s.addr, IdleTimeout: 50 * time.Millisecond}
			}})
			write(t, dial(t, addr), "x")
			r := receive(t, done)
			require.Equal(t, ByTimeout, r.By)
			require.Equal(t, PhaseRelay, r.Phase)
		})
	})
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func TestTimeoutsOfEarlierPhasesStop(t *testing.T) {
	forEach(t, func(t *testing.T, e *Engine) {
		e.HelloTimeout, e.DialTimeout, e.IdleTimeout = 100*time.Millisecond, 100*time.Millisecond, -1
		addr, done := serve(t, e, script{addr: backend(t, echo)})
		var c *net.TCPConn
		for end := time.Now().Add(patience); ; {
			c = dial(t, addr)
			_, err := c.Write([]byte("x"))
			if err == nil {
				_, err = io.ReadFull(c, make([]byte, 1))
			}
			if err == nil {
				break
			}
			// This test or the backend was too slow.
			r := receive(t, done)
			require.ErrorIs(t, r.Err, os.ErrDeadlineExceeded)
			require.NotEqual(t, PhaseRelay, r.Phase)
			require.True(t, time.Now().Before(end), "%+v", r)
		}
		select {
		case r := <-done:
			t.Fatalf("ended: %+v", r)
		case <-time.After(500 * time.Millisecond):
		}
		write(t, c, "y")
		expect(t, c, "y")
	})
}

// A backend gets the RST of a client. A client gets the end of the stream instead, because a RST
// could destroy bytes that the client has not read.
func TestResetOfOneSide(t *testing.T) {
	forEach(t, func(t *testing.T, e *Engine) {
		for _, who := range []Party{ByClient, ByBackend} {
			t.Run(who.String(), func(t *testing.T) {
				client, backend, done := relayed(t, e, "")
				write(t, client, "x")
				expect(t, backend, "x")
				from, to := client, backend
				if who == ByBackend {
					from, to = backend, client
				}
				require.NoError(t, from.SetLinger(0))
				require.NoError(t, from.Close())
				_, err := to.Read(make([]byte, 1))
				if who == ByClient {
					require.True(t, isReset(err), err)
				} else {
					require.ErrorIs(t, err, io.EOF)
					require.NoError(t, to.Close())
				}
				r := receive(t, done)
				require.Equal(t, who, r.By)
				require.True(t, isReset(r.Err), r.Err)
			})
		}
	})
}

// A server answers before it has read the whole request, and closes. The unread bytes make the
// kernel send RST after the answer.
func TestAnswerOfABackendThatReadsNoMore(t *testing.T) {
	answer := strings.Repeat("413 ", 2000)
	forEach(t, func(t *testing.T, e *Engine) {
		client, backend, done := relayed(t, e, "")
		var stop atomic.Bool
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for !stop.Load() {
				if _, err := client.Write(make([]byte, 10_000)); err != nil {
					return
				}
			}
		}()
		_, err := io.ReadFull(backend, make([]byte, 1000))
		require.NoError(t, err)
		write(t, backend, answer)
		require.NoError(t, backend.Close())
		expect(t, client, answer)
		r := receive(t, done)
		require.Equal(t, ByBackend, r.By)
		require.Error(t, r.Err)
		stop.Store(true)
		client.Close()
		<-sent
	})
}

// fill writes a pattern until the connection accepts no bytes for a while. It returns how many
// bytes were accepted, which must be less than limit.
func fill(t *testing.T, c *net.TCPConn, seed uint64, limit int64) (sent int64) {
	t.Helper()
	p := pattern{seed: seed}
	var rest []byte
	for sent < limit {
		if len(rest) == 0 {
			rest = make([]byte, 64<<10)
			p.fill(rest)
		}
		require.NoError(t, c.SetWriteDeadline(time.Now().Add(200*time.Millisecond)))
		n, err := c.Write(rest)
		sent, rest = sent+int64(n), rest[n:]
		if err != nil {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		}
		if err != nil && n == 0 {
			require.NoError(t, c.SetWriteDeadline(time.Now().Add(patience)))
			return sent
		}
	}
	t.Fatalf("%d bytes were accepted, and nobody reads them", sent)
	return sent
}

// TestBackPressure tests a side that does not read. Only the buffers of the kernel, and one buffer
// or pipe of the Engine, may hold bytes of the other side.
func TestBackPressure(t *testing.T) {
	// The kernel can make a socket buffer as large as 32 MB, so the test sets a smaller size. The
	// kernel uses twice the size that a program sets.
	const buffer, most = 1 << 20, 12 << 20
	pressure := func(t *testing.T, e *Engine) {
		for _, who := range []Party{ByClient, ByBackend} {
			t.Run(who.String(), func(t *testing.T) {
				client, a := tcpPair(t)
				b, backend := tcpPair(t)
				for _, c := range []*net.TCPConn{client, a, b, backend} {
					require.NoError(t, c.SetReadBuffer(buffer))
					require.NoError(t, c.SetWriteBuffer(buffer))
				}
				done := make(chan Result, 1)
				e.Relay(a, b, nil, func(r Result) { done <- r })
				from, to := client, backend
				if who == ByBackend {
					from, to = backend, client
				}
				last := fill(t, from, 3, most)
				// The other direction still works.
				write(t, to, "still here")
				expect(t, from, "still here")
				// No byte was lost.
				got := make([]byte, last)
				_, err := io.ReadFull(to, got)
				require.NoError(t, err)
				want := make([]byte, last)
				(&pattern{seed: 3}).fill(want)
				require.True(t, bytes.Equal(want, got))
				from.Close()
				to.Close()
				receive(t, done)
			})
		}
	}
	forEach(t, pressure)
	t.Run("epoll without pipes", func(t *testing.T) {
		noLeak(t)
		pressure(t, newEngine(t, &Engine{Pipes: -1}))
	})
}
