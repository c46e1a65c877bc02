package hostlookup

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A Cache can be the source of another Cache. If a program forgets a host in both, first in the Cache
// that asks the source, then the next lookup asks the source.
func TestCacheBeforeCache(t *testing.T) {
	bubble(t, &Cache{TTL: time.Minute}, func(t *testing.T, far *Cache, src *fake) {
		near := &Cache{Source: far, TTL: time.Second, Jitter: -1}
		defer near.Close()
		wantEndpoint(t, near, "a.com", "10.0.0.1", Miss)
		wantEndpoint(t, near, "a.com", "10.0.0.1", Hit)
		time.Sleep(time.Second + tick)
		wantEndpoint(t, near, "a.com", "10.0.0.1", Miss) // the near cache asks the far one
		require.Equal(t, 1, src.allCalls())

		src.answer(at("10.0.0.2"))
		far.Forget("a.com")
		near.Forget("a.com")
		wantEndpoint(t, near, "a.com", "10.0.0.2", Miss)
		require.Equal(t, 2, src.allCalls())

		src.answer(failing(errDown))
		time.Sleep(2 * time.Minute)
		wantEndpoint(t, near, "a.com", "10.0.0.2", Miss) // the far cache has served it as stale
	})
}
