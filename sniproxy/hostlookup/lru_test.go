package hostlookup

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func held(c *Cache) map[string]bool {
	all := map[string]bool{}
	for host := range c.All() {
		all[host] = true
	}
	return all
}

func TestEvictsLongestUnused(t *testing.T) {
	bubble(t, &Cache{MaxHosts: 3, TTL: time.Hour}, func(t *testing.T, c *Cache, _ *fake) {
		for _, host := range []string{"a.com", "b.com", "c.com"} {
			wantEndpoint(t, c, host, "10.0.0.1", Miss)
			time.Sleep(2 * time.Second)
		}
		wantEndpoint(t, c, "a.com", "10.0.0.1", Hit)
		wantEndpoint(t, c, "d.com", "10.0.0.1", Miss)
		require.Equal(t, map[string]bool{"a.com": true, "c.com": true, "d.com": true}, held(c))
		require.Equal(t, uint64(1), c.Stats().Evicted)
		_, ok := c.Entry("c.com") // does not count as a use
		require.True(t, ok)
		wantEndpoint(t, c, "e.com", "10.0.0.1", Miss)
		require.Equal(t, map[string]bool{"a.com": true, "e.com": true, "d.com": true}, held(c))
	})
}

// A hit makes its host more recently used at most once a second.
func TestTouchesOnceASecond(t *testing.T) {
	bubble(t, &Cache{MaxHosts: 2, TTL: time.Hour}, func(t *testing.T, c *Cache, _ *fake) {
		// Wait for the begin of a touchTick, so that the next lines are within one.
		k := c.init()
		time.Sleep(time.Duration(1<<30 - k.clock.now()%(1<<30)))
		wantEndpoint(t, c, "a.com", "10.0.0.1", Miss)
		wantEndpoint(t, c, "b.com", "10.0.0.1", Miss)
		wantEndpoint(t, c, "a.com", "10.0.0.1", Hit)
		oldest, _, _ := k.known.GetOldest()
		require.Equal(t, "a.com", oldest.Name(), "no move within the second of the Set")
		time.Sleep(1100 * time.Millisecond)
		wantEndpoint(t, c, "a.com", "10.0.0.1", Hit)
		oldest, _, _ = k.known.GetOldest()
		require.Equal(t, "b.com", oldest.Name())
	})
}

func TestForgetWildcard(t *testing.T) {
	bubble(t, nil, func(t *testing.T, c *Cache, src *fake) {
		for _, host := range []string{"a.x.com", "b.x.com", "a.b.x.com", "x.com", "a.y.com", "ax.com"} {
			wantEndpoint(t, c, host, "10.0.0.1", Miss)
		}
		src.answer(failing(ErrNotFound))
		wantError(t, c, "none.x.com", ErrNotFound, Miss)
		c.Forget("*.x.com")
		require.Equal(t, map[string]bool{"a.b.x.com": true, "x.com": true, "a.y.com": true, "ax.com": true}, held(c))
		c.Forget("x.com")
		c.Forget("absent.com")
		require.Equal(t, map[string]bool{"a.b.x.com": true, "a.y.com": true, "ax.com": true}, held(c))
		c.Purge()
		require.Empty(t, held(c))
		require.Zero(t, c.Stats().Evicted, "that is not eviction")
	})
}

func TestExpire(t *testing.T) {
	bubble(t, &Cache{TTL: Forever, NegativeTTL: Forever, StaleFor: time.Hour}, func(t *testing.T, c *Cache, src *fake) {
		wantEndpoint(t, c, "a.com", "10.0.0.1", Miss)
		wantEndpoint(t, c, "b.com", "10.0.0.1", Miss)
		src.answer(failing(ErrNotFound))
		wantError(t, c, "none.com", ErrNotFound, Miss)
		c.Expire()
		src.answer(failing(errDown))
		wantEndpoint(t, c, "a.com", "10.0.0.1", Stale)
		wantError(t, c, "none.com", errDown, Miss)
		src.answer(at("10.0.0.2"))
		wantEndpoint(t, c, "b.com", "10.0.0.2", Miss)
		// A second call of Expire does not extend the time for which the cache may serve hosts
		// after the first call.
		time.Sleep(50 * time.Minute)
		c.Expire()
		src.answer(failing(errDown))
		wantEndpoint(t, c, "a.com", "10.0.0.1", Stale)
		time.Sleep(11 * time.Minute)
		wantError(t, c, "a.com", errDown, Miss)
		wantEndpoint(t, c, "b.com", "10.0.0.2", Stale)
	})
}

// The goroutine of the coarse clock runs only while there are lookups. A later lookup starts it
// again.
func TestCoarseClock(t *testing.T) {
	bubble(t, &Cache{TTL: time.Hour}, func(t *testing.T, c *Cache, _ *fake) {
		wantEndpoint(t, c, "a.com", "10.0.0.1", Miss)
		k := c.core.Load()
		require.Zero(t, k.clock.coarse.Load(), "there was no hit yet")
		for range 3 {
			for range 50 {
				wantEndpoint(t, c, "a.com", "10.0.0.1", Hit)
				synctest.Wait()
				require.InDelta(t, k.clock.now(), k.clock.coarse.Load(), float64(clockTick))
				time.Sleep(clockTick / 3)
			}
			time.Sleep(time.Minute)
			require.Zero(t, k.clock.coarse.Load(), "the clock stops without lookups")
		}
	})
}

func TestStats(t *testing.T) {
	bubble(t, nil, func(t *testing.T, c *Cache, src *fake) {
		wantEndpoint(t, c, "a.com", "10.0.0.1", Miss)
		for range 3 {
			wantEndpoint(t, c, "a.com", "10.0.0.1", Hit)
		}
		src.answer(failing(ErrNotFound))
		wantError(t, c, "b.com", ErrNotFound, Miss)
		wantError(t, c, "b.com", ErrNotFound, Negative)
		src.answer(failing(errDown))
		wantError(t, c, "c.com", errDown, Miss)
		wantError(t, c, "c.com", errDown, Failed)
		time.Sleep(time.Minute)
		wantEndpoint(t, c, "a.com", "10.0.0.1", Stale)
		synctest.Wait()
		require.Equal(t, Stats{
			Hits: 3, Misses: 3, Negatives: 1, Failures: 1, Stales: 1,
			Calls: 4, NotFound: 1, Errors: 2, Hosts: 1, Negative: 2,
		}, c.Stats())
	})
}
