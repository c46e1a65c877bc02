package hostlookup

import (
	"maps"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

func TestTTL(t *testing.T) {
	for name, test := range map[string]struct {
		cache *Cache
		own   time.Duration // the TTL of the source
		want  time.Duration // 0 means not stored
	}{
		"default":                     {&Cache{}, 0, 30 * time.Second},
		"of the cache":                {&Cache{TTL: time.Hour}, 0, time.Hour},
		"of the source":               {&Cache{}, 2 * time.Minute, 2 * time.Minute},
		"the source over the cache":   {&Cache{TTL: time.Hour}, time.Minute, time.Minute},
		"not stored, says the source": {&Cache{TTL: time.Hour}, -1, 0},
		"not stored, says the cache":  {&Cache{TTL: -1}, 0, 0},
		"forever":                     {&Cache{TTL: Forever}, 0, Forever},
		"forever, says the source":    {&Cache{}, Forever, Forever},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, test.cache, func(t *testing.T, c *Cache, src *fake) {
				src.answer(atFor("10.0.0.1", test.own))
				wantEndpoint(t, c, "a.com", "10.0.0.1", Miss)
				switch test.want {
				case 0:
					_, held := c.Entry("a.com")
					require.False(t, held)
					wantEndpoint(t, c, "a.com", "10.0.0.1", Miss)
					return
				case Forever:
					for range 10 {
						time.Sleep(24 * 365 * time.Hour)
						wantEndpoint(t, c, "a.com", "10.0.0.1", Hit)
					}
					e, _ := c.Entry("a.com")
					require.Equal(t, Forever, e.Left)
					require.Equal(t, 1, src.allCalls())
					return
				}
				time.Sleep(test.want - tick)
				wantEndpoint(t, c, "a.com", "10.0.0.1", Hit)
				time.Sleep(2 * tick)
				wantEndpoint(t, c, "a.com", "10.0.0.1", Miss)
				require.Equal(t, 2, src.allCalls())
			})
		})
	}
}

func TestNegativeTTL(t *testing.T) {
	for name, test := range map[string]struct {
		cache *Cache
		own   time.Duration
		want  time.Duration
	}{
		"default":                     {&Cache{}, 0, 5 * time.Second},
		"of the cache":                {&Cache{NegativeTTL: time.Minute}, 0, time.Minute},
		"of the source":               {&Cache{}, 2 * time.Minute, 2 * time.Minute},
		"not stored, says the source": {&Cache{}, -1, 0},
		"not stored, says the cache":  {&Cache{NegativeTTL: -1}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, test.cache, func(t *testing.T, c *Cache, src *fake) {
				src.answer(failing(&Error{ErrNotFound, test.own}))
				wantError(t, c, "a.com", ErrNotFound, Miss)
				if test.want == 0 {
					wantError(t, c, "a.com", ErrNotFound, Miss)
					require.Zero(t, c.Stats().Negative)
					return
				}
				time.Sleep(test.want - tick)
				wantError(t, c, "a.com", ErrNotFound, Negative)
				src.answer(at("10.0.0.1"))
				time.Sleep(2 * tick)
				wantEndpoint(t, c, "a.com", "10.0.0.1", Miss)
				wantEndpoint(t, c, "a.com", "10.0.0.1", Hit)
				require.Zero(t, c.Stats().Negative, "the host has changed sides")
			})
		})
	}
}

// With the default jitter, hosts that the cache has stored at the same time expire at different
// times in the last tenth of the TTL, and none expires later.
func TestJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Cache{Source: &fake{do: at("10.0.0.1")}, TTL: 100 * time.Second}
		defer c.Close()
		tenths := [10]int{}
		for _, host := range names(2000) {
			require.NoError(t, c.Set(host, Endpoint{Host: host, Addr: "10.0.0.1"}))
			e, ok := c.Entry(host)
			require.True(t, ok)
			require.LessOrEqual(t, e.Left, 100*time.Second)
			require.Greater(t, e.Left, 90*time.Second-time.Nanosecond)
			tenths[min(int((e.Left-90*time.Second)/time.Second), 9)]++
		}
		for i, n := range tenths {
			// The expected number is 200, and 5 standard deviations are 67.
			require.InDelta(t, 200, n, 67, "second %d", i)
		}
	})
}

func TestSameAnswerIsRefreshedInPlace(t *testing.T) {
	bubble(t, nil, func(t *testing.T, c *Cache, _ *fake) {
		wantEndpoint(t, c, "a.com", "10.0.0.1", Miss)
		k := c.core.Load()
		before := k.table.Get("a.com")
		time.Sleep(time.Minute)
		wantEndpoint(t, c, "a.com", "10.0.0.1", Miss)
		require.Same(t, before, k.table.Get("a.com"))
		wantEndpoint(t, c, "a.com", "10.0.0.1", Hit)
	})
}

// Entry.Answered is the time of the last answer: a new answer changes it, and a failure does not.
func TestAnswered(t *testing.T) {
	bubble(t, nil, func(t *testing.T, c *Cache, src *fake) {
		answered := func(host string) time.Time {
			e, ok := c.Entry(host)
			require.True(t, ok)
			return e.Answered
		}
		start := time.Now()
		wantEndpoint(t, c, "a.com", "10.0.0.1", Miss)
		time.Sleep(90*time.Second + 600*time.Millisecond)
		require.Equal(t, start, answered("a.com"))
		wantEndpoint(t, c, "a.com", "10.0.0.1", Miss)
		require.Equal(t, start.Add(90*time.Second), answered("a.com"), "rounded down")
		time.Sleep(time.Minute)
		src.answer(failing(errDown))
		wantEndpoint(t, c, "a.com", "10.0.0.1", Stale)
		require.Equal(t, start.Add(90*time.Second), answered("a.com"))
		require.NoError(t, c.SetAll(maps.All(map[string]Entry{"b.com": {Endpoint: Endpoint{Addr: "10.0.0.2"}, Answered: start}})))
		require.Zero(t, answered("b.com"), "unknown")
		require.EqualValues(t, 128, unsafe.Sizeof(item{}), "two cache lines")
	})
}

func TestPeekAndAll(t *testing.T) {
	bubble(t, nil, func(t *testing.T, c *Cache, src *fake) {
		_, held := c.Entry("a.com")
		require.False(t, held)
		wantEndpoint(t, c, "a.com", "10.0.0.1", Miss)
		src.answer(failing(ErrNotFound))
		wantError(t, c, "b.com", ErrNotFound, Miss)
		src.answer(failing(errDown))
		wantError(t, c, "c.com", errDown, Miss)

		start := time.Now()
		want := map[string]Entry{
			"a.com": {Endpoint{App: "app", Host: "a.com", Addr: "10.0.0.1"}, nil, Hit, 30 * time.Second, start.Add(30 * time.Second), start},
			"b.com": {Endpoint{}, ErrNotFound, Negative, 5 * time.Second, start.Add(5 * time.Second), start},
			"c.com": {Endpoint{}, errDown, Failed, time.Second, start.Add(time.Second), start},
		}
		got := map[string]Entry{}
		for host, e := range c.All() {
			got[host] = e
			peeked, ok := c.Entry(host)
			require.True(t, ok)
			require.Equal(t, e, peeked)
		}
		require.Equal(t, want, got)

		synctest.Wait() // until the goroutines of the calls have ended, because Stats counts these calls
		before := c.Stats()
		time.Sleep(time.Minute)
		e, held := c.Entry("a.com")
		require.True(t, held, "the endpoint may still be served as stale")
		require.Equal(t, Entry{Endpoint{App: "app", Host: "a.com", Addr: "10.0.0.1"}, nil, Miss, 0, start.Add(30 * time.Second), start}, e)
		_, held = c.Entry("b.com")
		require.False(t, held, "ErrNotFound ends with its TTL")
		require.Equal(t, before, c.Stats(), "Entry does not count as a lookup")
		require.Equal(t, 3, src.allCalls())
		for range c.All() {
			break
		}
	})
}

func TestNamesThatAreNone(t *testing.T) {
	bubble(t, nil, func(t *testing.T, c *Cache, src *fake) {
		long := string(make([]byte, 254))
		for _, host := range []string{"", long} {
			wantError(t, c, host, ErrNotFound, Miss)
			require.Error(t, c.Set(host, Endpoint{Addr: "10.0.0.1"}))
		}
		require.Zero(t, src.allCalls())
		wantEndpoint(t, c, long[:253], "10.0.0.1", Miss)
		wantEndpoint(t, c, long[:253], "10.0.0.1", Hit)
		require.Error(t, c.Set("a.com", Endpoint{Addr: "10.0.0.1:http"}))
		require.Equal(t, 1, c.Stats().Hosts)
	})
}

func TestEndpointIsReturnedAsGiven(t *testing.T) {
	for name, ep := range map[string]Endpoint{
		"own name":  {App: "x", Host: "a.com", Addr: "10.0.0.1:1", TTL: time.Minute},
		"alias":     {App: "x", Host: "b.com", Addr: "10.0.0.1:1"},
		"wildcard":  {Host: "*.com", Addr: "[::1]:1"},
		"no name":   {Addr: "backend"},
		"long name": {Host: "a-name-that-does-not-fit-into-an-entry.example.com", Addr: "10.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, host := range []string{"a.com", "a-name-that-does-not-fit-into-an-entry.example.com"} {
				c := &Cache{}
				require.NoError(t, c.Set(host, ep))
				got, err := c.LookupHost(t.Context(), host)
				level := got.Level
				require.NoError(t, err)
				require.Equal(t, Hit, level)
				require.Equal(t, ep, got.Endpoint)
				for name, e := range c.All() {
					if name != ep.Host { // the wildcard that covers host
						require.Equal(t, host, name)
					}
					require.Equal(t, ep, e.Endpoint)
				}
				require.NoError(t, c.Close())
			}
		})
	}
}
