package relay

import (
	"context"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestShutdownWaits(t *testing.T) {
	forEach(t, func(t *testing.T, e *Engine) {
		l := listen(t)
		served := make(chan error, 1)
		b := backend(t, echo)
		done := make(chan Result, 1)
		go func() {
			served <- e.Serve(l, func(c Conn) Session { return &script{conn: c, addr: b, done: done} })
		}()
		c := dial(t, l.Addr().String())
		write(t, c, "x")
		expect(t, c, "x")

		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, e.Shutdown(ctx), context.DeadlineExceeded)
		require.ErrorIs(t, receive(t, served), ErrClosed)
		_, err := net.DialTimeout("tcp", l.Addr().String(), time.Second)
		require.Error(t, err, "still accepting")
		// The existing connection is still served.
		write(t, c, "y")
		expect(t, c, "y")
		require.EqualValues(t, 1, e.Stats().Open)

		shut := make(chan error, 1)
		go func() { shut <- e.Shutdown(context.Background()) }()
		require.NoError(t, c.Close())
		require.NoError(t, receive(t, shut))
		require.NoError(t, receive(t, done).Err)
		require.NoError(t, e.Shutdown(context.Background()))
	})
}

func TestAfterClose(t *testing.T) {
	forEach(t, func(t *testing.T, e *Engine) {
		require.NoError(t, e.Close())
		require.NoError(t, e.Close())
		l := listen(t)
		require.ErrorIs(t, e.Serve(l, nil), ErrClosed)
		_, err := l.Accept()
		require.ErrorIs(t, err, net.ErrClosed)
		client, backend, done := relayed(t, e, "x")
		r := receive(t, done)
		require.ErrorIs(t, r.Err, ErrClosed)
		require.Equal(t, ByEngine, r.By)
		expectEnd(t, client)
		expectEnd(t, backend)
	})
}

func TestCloseEndsEverything(t *testing.T) {
	forEach(t, func(t *testing.T, e *Engine) {
		b, backends := accepting(t)
		dialing := make(chan struct{}, 1)
		addr, done := serve(t, e, script{hello: func(s *script, data []byte, err error) Step {
			switch data[0] {
			case 'h':
				return Step{}
			case 'w':
				return Step{Action: Wait}
			case 'd':
				return Step{Action: Connect, Dial: func(ctx context.Context) (net.Conn, error) {
					dialing <- struct{}{}
					<-ctx.Done()
					return nil, ctx.Err()
				}}
			}
			return Step{Action: Connect, Addr: b}
		}})
		var clients []net.Conn
		for _, first := range []string{"h", "w", "d", "r"} {
			c := dial(t, addr)
			write(t, c, first)
			clients = append(clients, c)
		}
		expect(t, receive(t, backends), "r")
		receive(t, dialing)
		poll(t, "not all accepted", func() bool { return e.Stats().Open == 4 })
		require.NoError(t, e.Close())
		phases := map[Phase]bool{}
		for range clients {
			r := receive(t, done)
			require.ErrorIs(t, r.Err, ErrClosed)
			require.Equal(t, ByEngine, r.By)
			phases[r.Phase] = true
		}
		require.Subset(t, []Phase{PhaseHello, PhaseWait, PhaseDial, PhaseRelay}, keys(phases))
		for _, c := range clients {
			expectEnd(t, c)
		}
	})
}

func keys[K comparable, V any](m map[K]V) (all []K) {
	for k := range m {
		all = append(all, k)
	}
	return all
}

// Close runs while connections are in all phases.
func TestCloseInTheMiddle(t *testing.T) {
	forEach(t, func(t *testing.T, e *Engine) {
		b := backend(t, echo)
		for range 20 {
			e := &Engine{Portable: e.Portable, Loops: e.Loops}
			var mu sync.Mutex
			open := 0
			l := listen(t)
			served := make(chan error, 1)
			go func() {
				served <- e.Serve(l, func(c Conn) Session {
					mu.Lock()
					defer mu.Unlock()
					open++
					return &counted{script{addr: b}, func() { mu.Lock(); open--; mu.Unlock() }}
				})
			}()
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					c, err := net.Dial("tcp", l.Addr().String())
					if err != nil {
						return
					}
					defer c.Close()
					io.WriteString(c, "hello")
					io.ReadFull(c, make([]byte, 5))
				})
			}
			stop := rand.Int64N(10)
			poll(t, "nothing accepted", func() bool { return e.Stats().Accepted >= stop })
			require.NoError(t, e.Close())
			mu.Lock()
			require.Zero(t, open, "Done was not called")
			mu.Unlock()
			require.ErrorIs(t, receive(t, served), ErrClosed)
			wg.Wait()
		}
	})
}

type counted struct {
	script
	end func()
}

func (c *counted) Done(Result) { c.end() }

func TestCloseWithin(t *testing.T) {
	const n, within = 100, 500 * time.Millisecond
	forEach(t, func(t *testing.T, e *Engine) {
		b, backends := accepting(t)
		addr, done := serve(t, e, script{addr: b})
		// If the machine stops for a moment, all closes may happen at once. This does not happen in
		// every attempt.
		for attempt := 1; ; attempt++ {
			for range n {
				write(t, dial(t, addr), "x")
				receive(t, backends)
			}
			poll(t, "not all relay", func() bool { return e.Stats().Open == n })
			start := time.Now()
			e.CloseWithin(within)
			quarters := map[time.Duration]int{}
			for range n {
				r := receive(t, done)
				require.ErrorIs(t, r.Err, ErrClosed)
				quarters[time.Since(start)*4/within]++
			}
			if slices.Max(slices.Collect(maps.Values(quarters))) < n*3/4 {
				break
			}
			require.Less(t, attempt, 30, "too many at once: %v", quarters)
		}
		// A connection that begins after CloseWithin stays open.
		c := dial(t, addr)
		write(t, c, "x")
		expect(t, receive(t, backends), "x")
	})
}

func TestSettings(t *testing.T) {
	zero := (&Engine{}).settings()
	require.Equal(t, 10*time.Second, zero.helloTimeout)
	require.Equal(t, 10*time.Second, zero.dialTimeout)
	require.Equal(t, 10*time.Minute, zero.idleTimeout)
	require.Equal(t, 15*time.Second, zero.keepAlive)
	require.Equal(t, 68<<10, zero.helloLimit)
	require.Equal(t, 64, zero.pipes)
	require.Positive(t, zero.loops)
	none := (&Engine{HelloTimeout: -1, DialTimeout: -1, IdleTimeout: -1, KeepAlive: -1, Pipes: -1}).settings()
	require.Zero(t, none.helloTimeout)
	require.Zero(t, none.dialTimeout)
	require.Zero(t, none.idleTimeout)
	require.Zero(t, none.keepAlive)
	require.Zero(t, none.pipes)
}

func TestNames(t *testing.T) {
	require.Equal(t, "client backend session timeout engine none unknown(9)", join(ByClient, ByBackend, BySession, ByTimeout, ByEngine, Party(0), Party(9)))
	require.Equal(t, "hello wait dial relay answer none unknown(9)", join(PhaseHello, PhaseWait, PhaseDial, PhaseRelay, PhaseAnswer, Phase(0), Phase(9)))
}

func join[T interface{ String() string }](values ...T) (all string) {
	for i, v := range values {
		if i > 0 {
			all += " "
		}
		all += v.String()
	}
	return all
}

func TestMethodsBeforeTheFirstConnection(t *testing.T) {
	forEach(t, func(t *testing.T, e *Engine) {
		require.Zero(t, e.Stats())
		e.CloseWithin(time.Minute)
		client, backend, done := relayed(t, e, "")
		write(t, client, "x")
		expect(t, backend, "x")
		client.Close()
		backend.Close()
		require.NoError(t, receive(t, done).Err)
	})
	require.NoError(t, new(Engine).Shutdown(context.Background()))
}
