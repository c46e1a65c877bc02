package hostlookup

import (
	"context"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hostname"
)

// The function below returns a source that has the wildcard *.x.com with the address addr. The
// hosts in exact have their own addresses.
func below(addr string, exact map[string]string) func(context.Context, string) (Endpoint, error) {
	return func(_ context.Context, host string) (Endpoint, error) {
		if addr, ok := exact[host]; ok {
			return Endpoint{Host: host, Addr: addr}, nil
		}
		if hostname.Covers("*.x.com", host) {
			return Endpoint{Host: "*.x.com", Addr: addr}, nil
		}
		return Endpoint{}, ErrNotFound
	}
}

func wantAlias(t *testing.T, c *Cache, host, addr string, level Level) {
	t.Helper()
	answer, err := c.LookupHost(t.Context(), host)
	require.NoError(t, err)
	require.Equal(t, []string{"*.x.com", addr, level.String()}, []string{answer.Host, answer.Addr, answer.Level.String()})
}

func TestWildcardOf(t *testing.T) {
	for host, want := range map[string]string{"a.x.com": "*.x.com", "x.com": "*.com", "a.": "*.", "com": "", "": ""} {
		require.Equal(t, want, wildcardOf(host), host)
		require.Equal(t, want != "", hostname.Covers(want, host), host)
	}
}

// Each flood looks up more invented names than the cache can store. No flood evicts a known host:
// the cache still serves the known hosts after the source has failed.
func TestFloodsEvictNoKnownHost(t *testing.T) {
	exact := map[string]string{"shop.com": "10.0.0.1", "pay.com": "10.0.0.2", "admin.x.com": "10.0.0.3"}
	for flood, name := range map[string]func(i int) string{
		"labels below a wildcard":       func(i int) string { return "r" + strconv.Itoa(i) + ".x.com" },
		"names that are not found":      func(i int) string { return "r" + strconv.Itoa(i) + ".com" },
		"labels below labels":           func(i int) string { return "a.r" + strconv.Itoa(i) + ".x.com" },
		"long names":                    func(i int) string { return strings.Repeat("r", 60+i) + ".com" },
		"names with upper case letters": func(i int) string { return strings.Repeat("R", i%60) + strconv.Itoa(i) + ".x.com" },
	} {
		t.Run(flood, func(t *testing.T) {
			bubble(t, &Cache{MaxHosts: 10, MaxNegative: 10}, func(t *testing.T, c *Cache, src *fake) {
				src.answer(below("10.0.0.9", exact))
				wantAlias(t, c, "first.x.com", "10.0.0.9", Miss)
				for host, addr := range exact {
					wantEndpoint(t, c, host, addr, Miss)
				}
				down := failing(errDown)
				for _, source := range []func(context.Context, string) (Endpoint, error){below("10.0.0.9", exact), down} {
					src.answer(source)
					for i := range 100 {
						_, _ = c.LookupHost(t.Context(), name(i))
					}
				}
				time.Sleep(time.Minute)
				for host, addr := range exact {
					wantEndpoint(t, c, host, addr, Stale)
				}
				stats := c.Stats()
				require.Zero(t, stats.Evicted)
				require.LessOrEqual(t, stats.Hosts, 4)
				require.LessOrEqual(t, stats.Aliases, 10)
				require.LessOrEqual(t, stats.Negative, 10)
			})
		})
	}
}

// For a name without an earlier answer of the source, the cache serves the endpoint of the
// wildcard, but only after the source has failed for this name.
func TestWildcardStandsInForUnknownNames(t *testing.T) {
	exact := map[string]string{"admin.x.com": "10.0.0.3"}
	cache := func() *Cache {
		return &Cache{StaleWhileRevalidate: time.Hour, StaleFor: time.Hour, Timeout: 5 * time.Second}
	}
	t.Run("the source is asked first", func(t *testing.T) {
		bubble(t, cache(), func(t *testing.T, c *Cache, src *fake) {
			src.answer(below("10.0.0.9", exact))
			wantAlias(t, c, "a.x.com", "10.0.0.9", Miss)
			wantAlias(t, c, "a.x.com", "10.0.0.9", Hit)
			wantEndpoint(t, c, "admin.x.com", "10.0.0.3", Miss)
			wantAlias(t, c, "b.x.com", "10.0.0.9", Miss)
			require.Equal(t, 3, src.allCalls())
			require.Equal(t, map[string]bool{"*.x.com": true, "a.x.com": true, "b.x.com": true, "admin.x.com": true}, held(c))
		})
	})
	t.Run("a slow source is not a failure", func(t *testing.T) {
		bubble(t, cache(), func(t *testing.T, c *Cache, src *fake) {
			src.answer(below("10.0.0.9", exact))
			wantAlias(t, c, "a.x.com", "10.0.0.9", Miss)
			src.answer(after(4*time.Second, below("10.0.0.9", exact)))
			wantEndpoint(t, c, "admin.x.com", "10.0.0.3", Miss)
			src.answer(silent)
			wantAlias(t, c, "b.x.com", "10.0.0.9", Stale)
		})
	})
	t.Run("the source fails", func(t *testing.T) {
		bubble(t, cache(), func(t *testing.T, c *Cache, src *fake) {
			src.answer(failing(errDown))
			wantError(t, c, "failed.x.com", errDown, Miss)
			src.answer(below("10.0.0.9", exact))
			wantAlias(t, c, "a.x.com", "10.0.0.9", Miss)
			time.Sleep(2 * time.Second)
			src.answer(failing(errDown))
			wantAlias(t, c, "failed.x.com", "10.0.0.9", Stale)
			wantAlias(t, c, "admin.x.com", "10.0.0.9", Stale)
			wantAlias(t, c, "admin.x.com", "10.0.0.9", Stale)
			require.Equal(t, 1, src.callsOf("admin.x.com"), "no second call within Recheck")
			wantError(t, c, "a.b.x.com", errDown, Miss)
			wantError(t, c, "x.com", errDown, Miss)

			src.answer(below("10.0.0.9", exact))
			time.Sleep(31 * time.Second)
			wantEndpoint(t, c, "admin.x.com", "10.0.0.3", Miss)
			src.answer(failing(errDown))
			time.Sleep(time.Minute)
			wantEndpoint(t, c, "admin.x.com", "10.0.0.3", Stale)
		})
	})
	t.Run("the wildcard becomes too old", func(t *testing.T) {
		bubble(t, cache(), func(t *testing.T, c *Cache, src *fake) {
			src.answer(below("10.0.0.9", nil))
			wantAlias(t, c, "a.x.com", "10.0.0.9", Miss)
			src.answer(failing(errDown))
			time.Sleep(time.Hour)
			wantAlias(t, c, "b.x.com", "10.0.0.9", Stale)
			time.Sleep(time.Minute)
			wantError(t, c, "b.x.com", errDown, Miss)
			wantError(t, c, "c.x.com", errDown, Miss)
		})
	})
	for name, test := range map[string]struct {
		ttl  time.Duration
		kept bool
	}{"revalidated each time": {Revalidate, true}, "not kept": {-1, false}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, cache(), func(t *testing.T, c *Cache, src *fake) {
				src.answer(func(_ context.Context, _ string) (Endpoint, error) {
					return Endpoint{Host: "*.x.com", Addr: "10.0.0.9", TTL: test.ttl}, nil
				})
				wantAlias(t, c, "a.x.com", "10.0.0.9", Miss)
				src.answer(failing(errDown))
				if test.kept {
					wantAlias(t, c, "b.x.com", "10.0.0.9", Stale)
				} else {
					wantError(t, c, "b.x.com", errDown, Miss)
				}
			})
		})
	}
}

// A name below a wildcard follows the newest certain answer of the source.
func TestWildcardAndExactAnswersReplaceEachOther(t *testing.T) {
	bubble(t, nil, func(t *testing.T, c *Cache, src *fake) {
		for _, exact := range []map[string]string{nil, {"a.x.com": "10.0.0.1"}, nil} {
			src.answer(below("10.0.0.9", exact))
			time.Sleep(time.Minute)
			want := Stats{Hosts: 1, Aliases: 1}
			if exact == nil {
				wantAlias(t, c, "a.x.com", "10.0.0.9", Miss)
			} else {
				wantEndpoint(t, c, "a.x.com", "10.0.0.1", Miss)
				want = Stats{Hosts: 2}
			}
			stats := c.Stats()
			require.Equal(t, want, Stats{Hosts: stats.Hosts, Aliases: stats.Aliases})
		}
		src.answer(below("10.0.0.8", nil)) // the wildcard moves, and a new name shows it
		wantAlias(t, c, "b.x.com", "10.0.0.8", Miss)
		src.answer(failing(errDown))
		wantAlias(t, c, "c.x.com", "10.0.0.8", Stale)

		src.answer(failing(ErrNotFound)) // the wildcard is gone, and a new name shows it
		wantError(t, c, "none.x.com", ErrNotFound, Miss)
		src.answer(failing(errDown))
		wantError(t, c, "d.x.com", errDown, Miss)
		time.Sleep(time.Minute)
		wantAlias(t, c, "b.x.com", "10.0.0.8", Stale)
		wantError(t, c, "none.x.com", errDown, Miss)
	})
}

// A wildcard covers one label. If the source answers with a wildcard for a name with more labels,
// this name is an alias too. But the cache serves the endpoint of the wildcard for no other name
// with more labels.
func TestNestedWildcards(t *testing.T) {
	bubble(t, nil, func(t *testing.T, c *Cache, src *fake) {
		answer := func(pattern, addr string) {
			src.answer(func(context.Context, string) (Endpoint, error) { return Endpoint{Host: pattern, Addr: addr}, nil })
		}
		answer("*.b.x.com", "10.0.0.1")
		_, err := c.LookupHost(t.Context(), "a.b.x.com")
		require.NoError(t, err)
		answer("*.x.com", "10.0.0.2")
		wantAlias(t, c, "a.x.com", "10.0.0.2", Miss)
		wantAlias(t, c, "a.c.x.com", "10.0.0.2", Miss)
		src.answer(failing(errDown))
		wantAlias(t, c, "new.x.com", "10.0.0.2", Stale)
		got, err := c.LookupHost(t.Context(), "new.b.x.com")
		require.NoError(t, err)
		require.Equal(t, "10.0.0.1", got.Addr)
		wantError(t, c, "new.c.x.com", errDown, Miss)
		require.Equal(t, 2, c.Stats().Hosts)
	})
}

// Changes of a wildcard by Forget, Set, Expire and Purge.
func TestWildcardChanges(t *testing.T) {
	bubble(t, &Cache{StaleFor: time.Hour, Recheck: -1}, func(t *testing.T, c *Cache, src *fake) {
		learn := func() {
			src.answer(below("10.0.0.9", nil))
			c.Purge()
			wantAlias(t, c, "a.x.com", "10.0.0.9", Miss)
			src.answer(failing(errDown))
		}
		learn()
		require.NoError(t, c.Apply(Change{Host: "*.x.com"}))
		require.Empty(t, held(c))
		wantError(t, c, "b.x.com", errDown, Miss)
		learn()
		c.Forget("a.x.com") // the wildcard stays
		wantAlias(t, c, "a.x.com", "10.0.0.9", Stale)
		learn()
		c.Expire()
		wantAlias(t, c, "a.x.com", "10.0.0.9", Stale)
		wantAlias(t, c, "b.x.com", "10.0.0.9", Stale)
		require.NoError(t, c.Set("*.x.com", Endpoint{Addr: "10.0.0.8"}))
		for i := range 10 {
			wantAlias(t, c, "new"+strconv.Itoa(i)+".x.com", "10.0.0.8", Stale)
		}
		require.Equal(t, 1, c.Stats().Hosts, "names below a wildcard without Host are aliases too")
		c.Purge()
		wantError(t, c, "b.x.com", errDown, Miss)

		// A change during a call: the cache does not store the answer of this call.
		src.answer(after(time.Second, below("10.0.0.9", nil)))
		go func() { _, _ = c.LookupHost(t.Context(), "late.x.com") }()
		synctest.Wait()
		c.Forget("*.x.com")
		time.Sleep(2 * time.Second)
		require.Empty(t, held(c))
	})
}

// The cache saves the wildcard, and not the names below it that have the same endpoint. After a
// restart, while the source fails, the cache serves the endpoint of the wildcard for each name
// below it.
func TestSaveAndLoadWildcards(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cache.json")
	bubble(t, nil, func(t *testing.T, c *Cache, src *fake) {
		src.answer(below("10.0.0.9", map[string]string{"admin.x.com": "10.0.0.3"}))
		for _, host := range []string{"admin.x.com", "a.x.com", "b.x.com"} {
			_, err := c.LookupHost(t.Context(), host)
			require.NoError(t, err)
		}
		require.NoError(t, c.Set("other.com", Endpoint{Host: "alias.com", Addr: "10.0.0.4"}))
		require.NoError(t, c.Save(file))
	})
	bubble(t, nil, func(t *testing.T, c *Cache, src *fake) {
		loaded, err := c.Load(file)
		require.NoError(t, err)
		require.Equal(t, LoadResult{Hosts: 3}, loaded)
		require.Equal(t, map[string]bool{"*.x.com": true, "admin.x.com": true, "other.com": true}, held(c))
		src.answer(failing(errDown))
		wantAlias(t, c, "a.x.com", "10.0.0.9", Stale)
		wantEndpoint(t, c, "admin.x.com", "10.0.0.3", Stale)
		wantEndpoint(t, c, "other.com", "10.0.0.4", Stale)
	})
}
