package hostlookup

import (
	"context"
	"iter"
	"maps"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// The source fails for six hours: with errors, without an answer, with panics, or with malformed
// endpoints. The cache serves known hosts. An unknown host gets an error, never ErrNotFound.
func TestSourceDownForHours(t *testing.T) {
	for name, down := range map[string]func(context.Context, string) (Endpoint, error){
		"error":    failing(errDown),
		"silence":  silent,
		"panic":    func(context.Context, string) (Endpoint, error) { panic("boom") },
		"nonsense": failing(nil),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, c *Cache, src *fake) {
				known := []string{"a.com", "b.com", "c.com"}
				for _, host := range known {
					wantEndpoint(t, c, host, "10.0.0.1", Miss)
				}
				src.answer(down)
				time.Sleep(31 * time.Second)
				start := time.Now()
				for time.Since(start) < 2*time.Hour {
					for _, host := range known {
						asked := time.Now()
						wantEndpoint(t, c, host, "10.0.0.1", Stale)
						require.LessOrEqual(t, time.Since(asked), 500*time.Millisecond)
					}
					answer, err := c.LookupHost(t.Context(), "new.com")
					level := answer.Level
					require.Error(t, err)
					require.NotErrorIs(t, err, ErrNotFound)
					require.Contains(t, []Level{Miss, Failed}, level)
					time.Sleep(7 * time.Second)
				}
				// For each known host, the cache makes at most one call in 30 s.
				for _, host := range known {
					require.LessOrEqual(t, src.callsOf(host), 2*60*2+2)
					require.Greater(t, src.callsOf(host), 133, "the cache continues to ask")
				}
				src.answer(at("10.0.0.2"))
				time.Sleep(31 * time.Second)
				for _, host := range append(known, "new.com") {
					wantEndpoint(t, c, host, "10.0.0.2", Miss)
					wantEndpoint(t, c, host, "10.0.0.2", Hit)
				}
			})
		})
	}
}

func TestLongestAge(t *testing.T) {
	bubble(t, &Cache{StaleFor: time.Hour}, func(t *testing.T, c *Cache, src *fake) {
		wantEndpoint(t, c, "a.com", "10.0.0.1", Miss)
		src.answer(failing(errDown))
		time.Sleep(30*time.Second + time.Hour - tick)
		wantEndpoint(t, c, "a.com", "10.0.0.1", Stale)
		time.Sleep(2 * tick) // the next call of the source would be much later
		wantError(t, c, "a.com", errDown, Miss)
		require.Zero(t, c.Stats().Hosts)
	})
}

func TestNoStale(t *testing.T) {
	bubble(t, &Cache{StaleFor: -1}, func(t *testing.T, c *Cache, src *fake) {
		wantEndpoint(t, c, "a.com", "10.0.0.1", Miss)
		src.answer(failing(errDown))
		time.Sleep(30*time.Second + tick)
		wantError(t, c, "a.com", errDown, Miss)
	})
}

func TestRecheck(t *testing.T) {
	for name, test := range map[string]struct {
		recheck time.Duration
		err     error
		want    time.Duration
	}{
		"default":               {0, errDown, 30 * time.Second},
		"own":                   {time.Minute, errDown, time.Minute},
		"of the source":         {0, &Error{errDown, 2 * time.Minute}, 2 * time.Minute},
		"shorter of the source": {0, &Error{errDown, time.Second}, 30 * time.Second},
		"above the limit":       {0, &Error{errDown, 24 * time.Hour}, 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, &Cache{Recheck: test.recheck}, func(t *testing.T, c *Cache, src *fake) {
				wantEndpoint(t, c, "a.com", "10.0.0.1", Miss)
				time.Sleep(time.Minute)
				src.answer(failing(test.err))
				wantEndpoint(t, c, "a.com", "10.0.0.1", Stale)
				require.Equal(t, 2, src.allCalls())
				src.answer(at("10.0.0.2"))
				time.Sleep(test.want - tick)
				wantEndpoint(t, c, "a.com", "10.0.0.1", Stale)
				require.Equal(t, 2, src.allCalls())
				time.Sleep(2 * tick)
				// After the recheck time the cache asks the source first, and the source answers.
				wantEndpoint(t, c, "a.com", "10.0.0.2", Miss)
				require.Equal(t, 3, src.allCalls())
			})
		})
	}
}

// If the source answers in time, no lookup gets an expired endpoint, including the lookups that
// come during the call. (CoreDNS has had both faults.)
func TestSourceFirst(t *testing.T) {
	bubble(t, nil, func(t *testing.T, c *Cache, src *fake) {
		wantEndpoint(t, c, "a.com", "10.0.0.1", Miss)
		time.Sleep(time.Minute)
		src.answer(after(300*time.Millisecond, at("10.0.0.2")))
		done := make(chan struct{})
		for range 5 {
			go func() {
				defer func() { done <- struct{}{} }()
				wantEndpoint(t, c, "a.com", "10.0.0.2", Miss)
			}()
			time.Sleep(50 * time.Millisecond)
		}
		for range 5 {
			<-done
		}
		require.Equal(t, 2, src.allCalls(), "one refresh for all")
		wantEndpoint(t, c, "a.com", "10.0.0.2", Hit)
	})
}

// If the source is slow, only the first lookups wait, at most for StaleAfter. The cache stores the
// late answer of the source.
func TestSlowSource(t *testing.T) {
	bubble(t, nil, func(t *testing.T, c *Cache, src *fake) {
		wantEndpoint(t, c, "a.com", "10.0.0.1", Miss)
		time.Sleep(time.Minute)
		src.answer(after(3*time.Second, at("10.0.0.2")))
		start := time.Now()
		wantEndpoint(t, c, "a.com", "10.0.0.1", Stale)
		require.Equal(t, 500*time.Millisecond, time.Since(start))
		wantEndpoint(t, c, "a.com", "10.0.0.1", Stale)
		require.Equal(t, 500*time.Millisecond, time.Since(start), "no second wait")
		time.Sleep(3 * time.Second)
		wantEndpoint(t, c, "a.com", "10.0.0.2", Hit)
		require.Equal(t, 2, src.allCalls())
	})
}

func TestNoWait(t *testing.T) {
	bubble(t, &Cache{StaleAfter: -1}, func(t *testing.T, c *Cache, src *fake) {
		wantEndpoint(t, c, "a.com", "10.0.0.1", Miss)
		time.Sleep(time.Hour)
		src.answer(after(time.Second, at("10.0.0.2")))
		start := time.Now()
		wantEndpoint(t, c, "a.com", "10.0.0.1", Stale)
		require.Zero(t, time.Since(start))
		time.Sleep(2 * time.Second)
		wantEndpoint(t, c, "a.com", "10.0.0.2", Hit)
	})
}

func TestStaleWhileRevalidate(t *testing.T) {
	bubble(t, &Cache{StaleWhileRevalidate: time.Minute}, func(t *testing.T, c *Cache, src *fake) {
		wantEndpoint(t, c, "a.com", "10.0.0.1", Miss)
		src.answer(after(200*time.Millisecond, at("10.0.0.2")))
		time.Sleep(30*time.Second + time.Minute - tick)
		start := time.Now()
		for range 10 {
			wantEndpoint(t, c, "a.com", "10.0.0.1", Stale)
		}
		require.Zero(t, time.Since(start))
		time.Sleep(time.Second)
		wantEndpoint(t, c, "a.com", "10.0.0.2", Hit)
		require.Equal(t, 2, src.allCalls(), "one refresh, however many asked")

		src.answer(after(200*time.Millisecond, at("10.0.0.3")))
		time.Sleep(30*time.Second + time.Minute + tick)
		wantEndpoint(t, c, "a.com", "10.0.0.3", Miss) // after StaleWhileRevalidate the cache asks the source first
	})
}

// ErrNotFound of the source replaces the endpoint at once. The cache does not serve the old
// endpoint again if the source fails later.
func TestNotFoundReplacesStale(t *testing.T) {
	bubble(t, nil, func(t *testing.T, c *Cache, src *fake) {
		wantEndpoint(t, c, "a.com", "10.0.0.1", Miss)
		time.Sleep(time.Minute)
		src.answer(failing(ErrNotFound))
		wantError(t, c, "a.com", ErrNotFound, Miss)
		wantError(t, c, "a.com", ErrNotFound, Negative)
		require.Zero(t, c.Stats().Hosts)
		src.answer(failing(errDown))
		time.Sleep(time.Minute)
		wantError(t, c, "a.com", errDown, Miss)
	})
}

// The cache does not serve ErrNotFound after its TTL: neither while the source fails, nor under a
// constant load of lookups. (CoreDNS has served it without end.)
func TestNoStaleNegative(t *testing.T) {
	bubble(t, nil, func(t *testing.T, c *Cache, src *fake) {
		src.answer(failing(ErrNotFound))
		wantError(t, c, "a.com", ErrNotFound, Miss)
		src.answer(failing(errDown))
		time.Sleep(5*time.Second + tick)
		wantError(t, c, "a.com", errDown, Miss)
		wantError(t, c, "a.com", errDown, Failed)

		src.answer(failing(ErrNotFound))
		time.Sleep(2 * time.Second)
		wantError(t, c, "a.com", ErrNotFound, Miss)
		src.answer(at("10.0.0.1"))
		found := time.Duration(0)
		for range 100 { // the load of lookups
			time.Sleep(100 * time.Millisecond)
			found += 100 * time.Millisecond
			if _, err := c.LookupHost(t.Context(), "a.com"); err == nil {
				break
			}
		}
		require.InDelta(t, 5, found.Seconds(), 0.11)
	})
}

// A failure is stored for ErrorTTL, so that lookups of an unknown host do not flood the source.
func TestErrorTTL(t *testing.T) {
	for name, test := range map[string]struct {
		cache *Cache
		err   error
		want  time.Duration
	}{
		"default":               {&Cache{}, errDown, time.Second},
		"of the cache":          {&Cache{ErrorTTL: 10 * time.Second}, errDown, 10 * time.Second},
		"of the source":         {&Cache{}, &Error{errDown, time.Minute}, time.Minute},
		"shorter of the source": {&Cache{ErrorTTL: 10 * time.Second}, &Error{errDown, time.Second}, 10 * time.Second},
		"above the limit":       {&Cache{}, &Error{errDown, time.Hour}, 5 * time.Minute},
		"not stored":            {&Cache{ErrorTTL: -1}, &Error{errDown, time.Hour}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, test.cache, func(t *testing.T, c *Cache, src *fake) {
				src.answer(failing(test.err))
				wantError(t, c, "a.com", errDown, Miss)
				if test.want > 0 {
					time.Sleep(test.want - tick)
					wantError(t, c, "a.com", errDown, Failed)
					require.Equal(t, 1, src.allCalls())
					time.Sleep(2 * tick)
				}
				wantError(t, c, "a.com", errDown, Miss)
				require.Equal(t, 2, src.allCalls())
			})
		})
	}
}

func TestNotStoredAnyMore(t *testing.T) {
	bubble(t, nil, func(t *testing.T, c *Cache, src *fake) {
		wantEndpoint(t, c, "a.com", "10.0.0.1", Miss)
		time.Sleep(time.Minute)
		src.answer(atFor("10.0.0.2", -1))
		wantEndpoint(t, c, "a.com", "10.0.0.2", Miss)
		src.answer(failing(errDown))
		wantError(t, c, "a.com", errDown, Miss) // the older 10.0.0.1 is forgotten too
	})
}

// If an endpoint has the TTL Revalidate, the cache asks the source at each lookup. While the source
// fails, the cache serves the endpoint as stale, like any other endpoint.
func TestRevalidate(t *testing.T) {
	bubble(t, &Cache{MaxHosts: 2, StaleWhileRevalidate: time.Hour}, func(t *testing.T, c *Cache, src *fake) {
		src.answer(atFor("10.0.0.1", Revalidate))
		for _, host := range []string{"a.com", "b.com", "a.com", "c.com", "a.com"} {
			wantEndpoint(t, c, host, "10.0.0.1", Miss) // a.com is the most recently used host
		}
		require.Equal(t, 5, src.allCalls())
		src.answer(failing(errDown))
		wantEndpoint(t, c, "a.com", "10.0.0.1", Stale)
		wantEndpoint(t, c, "c.com", "10.0.0.1", Stale)
		wantError(t, c, "b.com", errDown, Miss)
		src.answer(atFor("10.0.0.2", Revalidate))
		time.Sleep(time.Minute)
		wantEndpoint(t, c, "a.com", "10.0.0.2", Miss)
		wantEndpoint(t, c, "a.com", "10.0.0.2", Miss)
		src.answer(failing(&Error{ErrNotFound, Revalidate}))
		calls := src.allCalls()
		wantError(t, c, "a.com", ErrNotFound, Miss)
		wantError(t, c, "a.com", ErrNotFound, Miss)
		require.Equal(t, calls+2, src.allCalls())
	})
}

// After a restart, the cache serves the saved hosts as stale while the source is down, and only
// then.
func TestWarmUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &fake{do: at("10.0.0.1")}
		first := &Cache{Source: src}
		for _, host := range names(100) {
			wantEndpoint(t, first, host, "10.0.0.1", Miss)
		}
		src.answer(failing(ErrNotFound))
		wantError(t, first, "gone.com", ErrNotFound, Miss)
		saved := maps.Collect(first.All())
		require.NoError(t, first.Close())
		require.Len(t, saved, 101)

		second := &Cache{Source: src}
		defer second.Close()
		saved["bad.com"] = Entry{Endpoint: Endpoint{Addr: "10.0.0.1:0"}}
		require.ErrorContains(t, second.SetAll(maps.All(saved)), "bad.com")
		require.Equal(t, 100, second.Stats().Hosts)
		src.answer(failing(errDown))
		wantEndpoint(t, second, names(1)[0], "10.0.0.1", Stale)
		src.answer(at("10.0.0.9"))
		wantEndpoint(t, second, names(2)[1], "10.0.0.9", Miss)
	})
}

// Restarts while the source is down do not extend the time for which the cache serves an endpoint.
// This time ends StaleFor after the end of the TTL.
func TestRestartsMakeNothingYounger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &fake{do: at("10.0.0.1")}
		// With the default TTL of 30 s and StaleFor of 24 h.
		begin := func(with iter.Seq2[string, Entry]) *Cache {
			c := &Cache{Source: src, Jitter: -1}
			require.NoError(t, c.SetAll(with))
			return c
		}
		c := begin(maps.All(map[string]Entry(nil)))
		restart := func() {
			saved := maps.Collect(c.All())
			require.NoError(t, c.Close())
			c = begin(maps.All(saved))
		}
		wantEndpoint(t, c, "old.com", "10.0.0.1", Miss)
		expires := time.Now().Add(30 * time.Second)
		time.Sleep(5 * time.Hour)
		wantEndpoint(t, c, "new.com", "10.0.0.1", Miss)
		src.answer(failing(errDown))
		for range 2 {
			time.Sleep(9 * time.Hour)
			restart()
			wantEndpoint(t, c, "old.com", "10.0.0.1", Stale)
			e, ok := c.Entry("old.com")
			require.True(t, ok)
			require.True(t, expires.Equal(e.Expires), e.Expires)
		}
		time.Sleep(time.Until(expires.Add(24*time.Hour)) - time.Second)
		wantEndpoint(t, c, "old.com", "10.0.0.1", Stale)
		time.Sleep(2 * time.Second)
		wantError(t, c, "old.com", errDown, Miss)
		wantEndpoint(t, c, "new.com", "10.0.0.1", Stale)
		restart()
		require.Equal(t, 1, c.Stats().Hosts)
		wantError(t, c, "old.com", errDown, Miss)
		wantEndpoint(t, c, "new.com", "10.0.0.1", Stale)
		require.NoError(t, c.Close())
	})
}

// The test checks which entries SetAll stores, and until when the cache serves them. StaleFor is 24
// h by default.
func TestSetAll(t *testing.T) {
	const day = 24 * time.Hour
	never := time.Duration(-1)
	start := time.Now()
	for name, test := range map[string]struct {
		cache   *Cache
		entry   Entry
		expires time.Duration // after the start; 0 means an entry without Expires
		want    time.Duration // how long the endpoint is served as stale
	}{
		"expired 1 h ago":        {&Cache{}, Entry{}, -time.Hour, day - time.Hour},
		"just in time":           {&Cache{}, Entry{}, time.Nanosecond - day, time.Nanosecond},
		"too old":                {&Cache{}, Entry{}, -day, never},
		"extremely old":          {&Cache{}, Entry{}, math.MinInt64, never},
		"not expired yet":        {&Cache{}, Entry{}, time.Hour, day},
		"far in the future":      {&Cache{}, Entry{}, math.MaxInt64, day},
		"without a time":         {&Cache{}, Entry{}, 0, day},
		"long ago, forever":      {&Cache{StaleFor: Forever}, Entry{}, math.MinInt64, Forever},
		"no stale answers":       {&Cache{StaleFor: -1}, Entry{}, time.Hour, never},
		"no TTL in cache":        {&Cache{TTL: -1}, Entry{}, 0, never},
		"not to be stored":       {&Cache{}, Entry{Endpoint: Endpoint{TTL: -1}}, 0, never},
		"a level within its TTL": {&Cache{}, Entry{Level: Hit, Left: time.Hour}, 0, day},
		"not found":              {&Cache{}, Entry{Err: ErrNotFound}, 0, never},
	} {
		t.Run(name, func(t *testing.T) {
			c, now := test.cache, start
			c.Clock = func() time.Time { return now }
			c.Source = &fake{do: failing(errDown)}
			defer c.Close()
			if test.expires != 0 {
				test.entry.Expires = start.Add(test.expires)
			}
			test.entry.Endpoint.Host, test.entry.Endpoint.Addr = "a.com", "10.0.0.1"
			require.NoError(t, c.SetAll(maps.All(map[string]Entry{"a.com": test.entry})))
			if test.want == never {
				require.Zero(t, c.Stats().Hosts)
				return
			}
			e, ok := c.Entry("a.com")
			require.True(t, ok)
			require.Equal(t, Miss, e.Level, "the source is asked first")
			require.False(t, e.Expires.After(start))
			if test.want == Forever {
				now = start.Add(20 * 365 * day)
				wantEndpoint(t, c, "a.com", "10.0.0.1", Stale)
				return
			}
			now = start.Add(test.want - 1)
			wantEndpoint(t, c, "a.com", "10.0.0.1", Stale)
			now = now.Add(1)
			wantError(t, c, "a.com", errDown, Miss)
		})
	}
}

// SetAll does not replace an entry of the cache, because the entry of the cache is newer.
func TestSetAllKeepsKnownHosts(t *testing.T) {
	bubble(t, nil, func(t *testing.T, c *Cache, src *fake) {
		wantEndpoint(t, c, "a.com", "10.0.0.1", Miss)
		src.answer(failing(ErrNotFound))
		wantError(t, c, "gone.com", ErrNotFound, Miss)
		saved := Entry{Endpoint: Endpoint{Addr: "10.0.0.9"}}
		all := map[string]Entry{"a.com": saved, "gone.com": saved}
		require.NoError(t, c.SetAll(maps.All(all)))
		wantEndpoint(t, c, "a.com", "10.0.0.1", Hit)
		wantError(t, c, "gone.com", ErrNotFound, Negative)
		require.NoError(t, c.Close())
		require.ErrorIs(t, c.SetAll(maps.All(all)), ErrClosed)
	})
}
