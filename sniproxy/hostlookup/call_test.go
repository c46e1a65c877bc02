package hostlookup

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// ask begins a lookup, and returns a channel for its result.
func ask(ctx context.Context, c *Cache, host string) <-chan result {
	ch := make(chan result, 1)
	go func() {
		ep, err := c.LookupHost(ctx, host)
		ch <- result{ep, err}
	}()
	synctest.Wait() // until the lookup waits or has ended
	return ch
}

func TestOneCallForAll(t *testing.T) {
	bubble(t, nil, func(t *testing.T, c *Cache, src *fake) {
		src.answer(after(time.Second, at("10.0.0.1")))
		var asked []<-chan result
		for range 100 {
			asked = append(asked, ask(t.Context(), c, "a.com"))
		}
		for _, ch := range asked {
			a := <-ch
			require.NoError(t, a.err)
			require.Equal(t, "10.0.0.1", a.Endpoint.Addr)
			require.Equal(t, Miss, a.Level)
		}
		require.Equal(t, 1, src.allCalls())
		require.Equal(t, uint64(100), c.Stats().Misses)
		require.Equal(t, uint64(1), c.Stats().Calls)
	})
}

// A lookup whose context ends does not disturb the others, even if it started the call.
func TestCancelledCaller(t *testing.T) {
	bubble(t, nil, func(t *testing.T, c *Cache, src *fake) {
		type key struct{}
		first, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "leak"))
		src.answer(func(ctx context.Context, host string) (Endpoint, error) {
			if ctx.Value(key{}) != nil {
				return Endpoint{}, errors.New("a value of the caller's context")
			}
			select {
			case <-ctx.Done():
				return Endpoint{}, ctx.Err()
			case <-time.After(time.Second):
				return at("10.0.0.1")(ctx, host)
			}
		})
		a, b := ask(first, c, "a.com"), ask(t.Context(), c, "a.com")
		cancel()
		got := <-a
		require.ErrorIs(t, got.err, context.Canceled)
		got = <-b
		require.NoError(t, got.err)
		wantEndpoint(t, c, "a.com", "10.0.0.1", Hit)

		// When the last lookup that waits for a running call ends, the cache does not cancel the
		// call, and stores its answer.
		first, cancel = context.WithCancel(t.Context())
		a = ask(first, c, "b.com")
		cancel()
		require.ErrorIs(t, (<-a).err, context.Canceled)
		time.Sleep(2 * time.Second)
		wantEndpoint(t, c, "b.com", "10.0.0.1", Hit)
		require.Equal(t, 2, src.allCalls())

		// A lookup whose context has ended starts no call.
		got = <-ask(first, c, "c.com")
		require.ErrorIs(t, got.err, context.Canceled)
		require.Equal(t, 2, src.allCalls())
		// Such a lookup still gets a stored answer.
		require.NoError(t, (<-ask(first, c, "a.com")).err)
	})
}

// If the deadline of the context of one lookup passes, this lookup gets the error of its context,
// with the cause. The cache does not store this error.
func TestCallersDeadline(t *testing.T) {
	bubble(t, nil, func(t *testing.T, c *Cache, src *fake) {
		src.answer(after(time.Second, at("10.0.0.1")))
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := c.LookupHost(ctx, "a.com")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NotErrorIs(t, err, ErrNotFound)
		_, held := c.Entry("a.com")
		require.False(t, held)

		// For a known host, the lookup gets the stale endpoint instead of the error.
		time.Sleep(time.Minute)
		src.answer(after(time.Second, at("10.0.0.2")))
		ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		ep, err := c.LookupHost(ctx, "a.com")
		level := ep.Level
		require.NoError(t, err)
		require.Equal(t, "10.0.0.1", ep.Addr)
		require.Equal(t, Stale, level)
		time.Sleep(2 * time.Second)
		wantEndpoint(t, c, "a.com", "10.0.0.2", Hit)
	})
}

func TestPanicAndGoexit(t *testing.T) {
	for name, test := range map[string]struct {
		die  func()
		want string
	}{
		"panic":  {func() { panic("boom") }, "hostlookup: source panicked: boom"},
		"goexit": {runtime.Goexit, "hostlookup: source ended its goroutine"},
	} {
		t.Run(name, func(t *testing.T) {
			var reported atomic.Int64
			bubble(t, &Cache{SourceFailed: func(host string, err error) {
				if host == "a.com" && err != nil {
					reported.Add(1)
				}
			}}, func(t *testing.T, c *Cache, src *fake) {
				src.answer(func(context.Context, string) (Endpoint, error) {
					time.Sleep(time.Second)
					test.die()
					return Endpoint{}, nil
				})
				a, b := ask(t.Context(), c, "a.com"), ask(t.Context(), c, "a.com")
				for _, ch := range []<-chan result{a, b} {
					err := (<-ch).err
					require.EqualError(t, err, test.want)
					var p *PanicError
					require.ErrorAs(t, err, &p)
					require.Contains(t, string(p.Stack), "call_test.go")
				}
				synctest.Wait()
				require.Equal(t, int64(1), reported.Load())
				require.Equal(t, uint64(1), c.Stats().Errors)
				require.Zero(t, c.Stats().InFlight)
			})
		})
	}
}

// The answer of a call does not overwrite a change that came during the call.
func TestInvalidatedInFlight(t *testing.T) {
	for name, test := range map[string]struct {
		change func(c *Cache)
		now    string // the address that the cache holds after the change; "" means none
	}{
		"forget":       {func(c *Cache) { c.Forget("a.example.com") }, ""},
		"wildcard":     {func(c *Cache) { c.Forget("*.example.com") }, ""},
		"purge":        {func(c *Cache) { c.Purge() }, ""},
		"expire":       {func(c *Cache) { c.Expire() }, ""},
		"set":          {func(c *Cache) { _ = c.Set("a.example.com", Endpoint{Addr: "10.0.0.7"}) }, "10.0.0.7"},
		"apply":        {func(c *Cache) { _ = c.Apply(Change{Host: "a.example.com"}) }, ""},
		"apply new":    {func(c *Cache) { _ = c.Apply(Change{"a.example.com", Endpoint{Addr: "10.0.0.7"}}) }, "10.0.0.7"},
		"apply to all": {func(c *Cache) { _ = c.Apply(Change{}) }, ""},
	} {
		for _, outcome := range []string{"found", "not found", "error"} {
			t.Run(name+"/"+outcome, func(t *testing.T) {
				bubble(t, nil, func(t *testing.T, c *Cache, src *fake) {
					do := map[string]func(context.Context, string) (Endpoint, error){
						"found": at("10.0.0.1"), "not found": failing(ErrNotFound), "error": failing(errDown),
					}[outcome]
					src.answer(after(time.Second, do))
					old := ask(t.Context(), c, "a.example.com")
					test.change(c)
					src.answer(after(100*time.Millisecond, at("10.0.0.2")))
					now := test.now
					if now == "" {
						// A lookup after the change gets an answer that the source gave after the
						// change.
						a := <-ask(t.Context(), c, "a.example.com")
						require.NoError(t, a.err)
						require.Equal(t, "10.0.0.2", a.Endpoint.Addr)
						now = "10.0.0.2"
					}
					a := <-old
					switch {
					case outcome == "found":
						require.Equal(t, "10.0.0.1", a.Endpoint.Addr)
					case outcome == "not found":
						require.ErrorIs(t, a.err, ErrNotFound)
					default:
						// The lookup that waits gets the new endpoint instead of the error.
						require.NoError(t, a.err)
						require.Equal(t, now, a.Endpoint.Addr)
					}
					synctest.Wait()
					e, held := c.Entry("a.example.com")
					require.True(t, held)
					require.Equal(t, now, e.Endpoint.Addr)
					require.Equal(t, Hit, e.Level)
					if outcome != "error" {
						require.Equal(t, uint64(1), c.Stats().Dropped)
					}
				})
			})
		}
	}
}

// If Forget removes an endpoint during a call for it, the cache does not serve the endpoint as
// stale.
func TestForgottenIsNotServedAsStale(t *testing.T) {
	for _, source := range []string{"slow", "failing"} {
		t.Run(source, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, c *Cache, src *fake) {
				wantEndpoint(t, c, "a.com", "10.0.0.1", Miss)
				time.Sleep(time.Minute)
				if source == "slow" {
					src.answer(after(2*time.Second, at("10.0.0.2")))
				} else {
					src.answer(after(200*time.Millisecond, failing(errDown)))
				}
				waiting := ask(t.Context(), c, "a.com")
				c.Forget("a.com")
				a := <-waiting
				if source == "slow" {
					require.Equal(t, "10.0.0.2", a.Endpoint.Addr)
				} else {
					require.ErrorIs(t, a.err, errDown)
				}
			})
		})
	}
}

func TestMaxCalls(t *testing.T) {
	bubble(t, &Cache{MaxCalls: 3}, func(t *testing.T, c *Cache, src *fake) {
		var now, most atomic.Int64
		src.answer(func(ctx context.Context, host string) (Endpoint, error) {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			time.Sleep(time.Second)
			return at("10.0.0.1")(ctx, host)
		})
		var asked []<-chan result
		for _, host := range names(20) {
			asked = append(asked, ask(t.Context(), c, host))
		}
		require.Equal(t, 20, c.Stats().InFlight)
		var ok, busy int
		for _, ch := range asked {
			switch a := <-ch; {
			case a.err == nil:
				ok++
			case errors.Is(a.err, ErrBusy):
				busy++
			}
		}
		// A call waits up to 5 s for the semaphore, so the calls of seconds 0 to 5 begin.
		require.InDelta(t, 16.5, ok, 1.5)
		require.Equal(t, 20, ok+busy)
		require.Equal(t, int64(3), most.Load())
	})
}

// If a call still waits for the semaphore when the last lookup that waits for it ends, the cache
// drops the call.
func TestUnwantedCallDoesNotBegin(t *testing.T) {
	bubble(t, &Cache{MaxCalls: 1}, func(t *testing.T, c *Cache, src *fake) {
		src.answer(after(time.Second, at("10.0.0.1")))
		first := ask(t.Context(), c, "a.com")
		ctx, cancel := context.WithCancel(t.Context())
		second, third := ask(ctx, c, "b.com"), ask(ctx, c, "b.com")
		cancel()
		require.ErrorIs(t, (<-second).err, context.Canceled)
		require.ErrorIs(t, (<-third).err, context.Canceled)
		synctest.Wait()
		require.Equal(t, 1, c.Stats().InFlight)
		require.NoError(t, (<-first).err)
		time.Sleep(time.Minute)
		require.Zero(t, src.callsOf("b.com"))
		require.Zero(t, c.Stats().Errors)
		wantEndpoint(t, c, "b.com", "10.0.0.1", Miss)
	})
}

// The cache still serves known hosts while calls for invented names use up MaxCalls.
func TestFloodDoesNotRefuseKnownHosts(t *testing.T) {
	bubble(t, &Cache{MaxCalls: 4, MaxHosts: 100, MaxNegative: 10}, func(t *testing.T, c *Cache, src *fake) {
		known := names(100)
		for _, host := range known {
			wantEndpoint(t, c, host, "10.0.0.1", Miss)
		}
		src.answer(after(10*time.Millisecond, failing(ErrNotFound)))
		for i := range 1000 {
			_, err := c.LookupHost(t.Context(), "made-up-"+strconv.Itoa(i)+".com")
			require.ErrorIs(t, err, ErrNotFound)
		}
		stats := c.Stats()
		require.Equal(t, 100, stats.Hosts)
		require.Equal(t, 10, stats.Negative)
		require.Zero(t, stats.Evicted)
		require.Equal(t, uint64(990), stats.EvictedNegative)
		for _, host := range known {
			wantEndpoint(t, c, host, "10.0.0.1", Hit)
		}

		time.Sleep(time.Minute)
		src.answer(silent)
		for i := range 10 {
			ask(t.Context(), c, "silence-"+strconv.Itoa(i)+".com")
		}
		for _, host := range known {
			wantEndpoint(t, c, host, "10.0.0.1", Stale)
		}
	})
}

// A negative Timeout means the default. It does not end the call before it begins.
func TestNegativeTimeout(t *testing.T) {
	bubble(t, &Cache{Timeout: -1}, func(t *testing.T, c *Cache, src *fake) {
		src.answer(func(ctx context.Context, host string) (Endpoint, error) {
			<-ctx.Done()
			return Endpoint{}, ctx.Err()
		})
		start := time.Now()
		wantError(t, c, "a.com", context.DeadlineExceeded, Miss)
		require.Equal(t, 5*time.Second, time.Since(start))
	})
}

// If a source ignores its context and never returns, lookups wait only until the timeout. The cache
// makes one call for each host, and makes no second call for the host while the first one hangs.
func TestHungSource(t *testing.T) {
	bubble(t, nil, func(t *testing.T, c *Cache, src *fake) {
		wantEndpoint(t, c, "known.com", "10.0.0.1", Miss)
		time.Sleep(time.Minute)
		hang := make(chan struct{})
		src.answer(func(ctx context.Context, host string) (Endpoint, error) {
			<-hang
			return at("10.0.0.2")(ctx, host)
		})
		start := time.Now()
		wantError(t, c, "a.com", context.DeadlineExceeded, Miss)
		require.Equal(t, 5*time.Second, time.Since(start))
		for range 20 {
			time.Sleep(time.Second)
			start = time.Now()
			wantError(t, c, "a.com", context.DeadlineExceeded, Failed)
			require.Zero(t, time.Since(start))
		}
		require.Equal(t, 1, src.callsOf("a.com"))

		for range 100 {
			start = time.Now()
			wantEndpoint(t, c, "known.com", "10.0.0.1", Stale)
			require.LessOrEqual(t, time.Since(start), 500*time.Millisecond)
			time.Sleep(time.Second)
		}
		require.Equal(t, 2, src.callsOf("known.com"))
		close(hang)
		synctest.Wait()
		time.Sleep(time.Minute)
		wantEndpoint(t, c, "a.com", "10.0.0.2", Miss)
		wantEndpoint(t, c, "known.com", "10.0.0.2", Miss)
	})
}

func TestClose(t *testing.T) {
	bubble(t, &Cache{MaxCalls: 2}, func(t *testing.T, c *Cache, src *fake) {
		wantEndpoint(t, c, "known.com", "10.0.0.1", Miss)
		wantEndpoint(t, c, "known.com", "10.0.0.1", Hit) // starts the coarse clock
		src.answer(func(ctx context.Context, _ string) (Endpoint, error) {
			<-ctx.Done()
			time.Sleep(time.Second) // the source needs a second to return
			return Endpoint{}, ctx.Err()
		})
		var asked []<-chan result
		for _, host := range names(5) { // 2 calls run, and 3 wait for the semaphore
			asked = append(asked, ask(t.Context(), c, host))
		}
		start := time.Now()
		closed := make(chan error)
		for range 2 {
			go func() { closed <- c.Close() }()
		}
		for _, ch := range asked {
			require.ErrorIs(t, (<-ch).err, ErrClosed)
		}
		require.Zero(t, time.Since(start), "callers need not wait for the source")
		for range 2 {
			require.NoError(t, <-closed)
		}
		require.Equal(t, time.Second, time.Since(start), "Close does")
		wantError(t, c, "known.com", ErrClosed, Miss)
		wantError(t, c, "new.com", ErrClosed, Miss)
		require.ErrorIs(t, c.Set("a.com", Endpoint{Addr: "10.0.0.1"}), ErrClosed)
		c.Forget("a.com")
		c.Purge()
		c.Expire()
		for range c.All() {
			t.Error("something is left")
		}
		require.Zero(t, c.Stats().InFlight)
		require.NoError(t, c.Close())
	})
}

func TestCloseUnused(t *testing.T) {
	require.NoError(t, new(Cache).Close())
}

func TestSourceFailed(t *testing.T) {
	type failure struct {
		host string
		err  error
	}
	var got []failure
	bubble(t, &Cache{SourceFailed: func(host string, err error) { got = append(got, failure{host, err}) }}, func(t *testing.T, c *Cache, src *fake) {
		wantEndpoint(t, c, "a.com", "10.0.0.1", Miss)
		src.answer(failing(ErrNotFound))
		wantError(t, c, "b.com", ErrNotFound, Miss)
		synctest.Wait()
		require.Empty(t, got)
		src.answer(failing(errDown))
		time.Sleep(time.Minute)
		wantEndpoint(t, c, "a.com", "10.0.0.1", Stale)
		synctest.Wait()
		require.Equal(t, []failure{{"a.com", errDown}}, got, "though the caller saw nothing of it")
	})
}

// A lookup after the result of a call, but before the end of its goroutine, starts another call.
func TestLookupBeforeCallsGoroutineEnds(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want error
	}{
		"found now": {nil, nil},
		"gone now":  {ErrNotFound, ErrNotFound},
		"down":      {errDown, errDown},
	} {
		t.Run(name, func(t *testing.T) {
			c := &Cache{MaxHosts: 1}
			var again chan result
			src := &fake{do: at("10.0.0.1")}
			var once atomic.Bool
			c.SourceFailed = func(string, error) { // runs after the result and before the end of the goroutine
				if once.Swap(true) {
					return
				}
				_ = c.Set("other.com", Endpoint{Addr: "10.0.0.9"}) // evicts a.com
				if test.err == nil {
					src.answer(at("10.0.0.2"))
				} else {
					src.answer(failing(test.err))
				}
				ep, err := c.LookupHost(context.Background(), "a.com")
				again <- result{ep, err}
			}
			bubble(t, c, func(t *testing.T, c *Cache, _ *fake) {
				c.Source = src
				again = make(chan result, 1)
				wantEndpoint(t, c, "a.com", "10.0.0.1", Miss)
				time.Sleep(time.Minute)
				src.answer(failing(errDown))
				wantEndpoint(t, c, "a.com", "10.0.0.1", Stale)
				a := <-again
				require.Equal(t, Miss, a.Level)
				if test.want == nil {
					require.NoError(t, a.err)
					require.Equal(t, "10.0.0.2", a.Endpoint.Addr)
				} else {
					require.ErrorIs(t, a.err, test.want)
				}
			})
		})
	}
}
