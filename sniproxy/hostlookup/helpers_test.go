package hostlookup

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var errDown = errors.New("API is down")

// fake is a source with answers that a test can replace at any time.
type fake struct {
	mu    sync.Mutex
	do    func(ctx context.Context, host string) (Endpoint, error)
	calls map[string]int
	total int
}

func (f *fake) LookupHost(ctx context.Context, host string) (Answer, error) {
	f.mu.Lock()
	if f.calls == nil {
		f.calls = map[string]int{}
	}
	f.calls[host]++
	f.total++
	do := f.do
	f.mu.Unlock()
	return Func(do).LookupHost(ctx, host)
}

// answer replaces the function that answers later calls.
func (f *fake) answer(do func(ctx context.Context, host string) (Endpoint, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.do = do
}

func (f *fake) callsOf(host string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[host]
}

func (f *fake) allCalls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.total
}

func at(addr string) func(context.Context, string) (Endpoint, error) {
	return atFor(addr, 0)
}

func atFor(addr string, ttl time.Duration) func(context.Context, string) (Endpoint, error) {
	return func(_ context.Context, host string) (Endpoint, error) {
		return Endpoint{App: "app", Host: host, Addr: addr, TTL: ttl}, nil
	}
}

func failing(err error) func(context.Context, string) (Endpoint, error) {
	return func(context.Context, string) (Endpoint, error) { return Endpoint{}, err }
}

// The function "silent" is a source that returns only when its context ends.
func silent(ctx context.Context, _ string) (Endpoint, error) {
	<-ctx.Done()
	return Endpoint{}, ctx.Err()
}

// The function "after" returns a function that waits for the time d and then calls the function in
// the argument "do".
func after(d time.Duration, do func(context.Context, string) (Endpoint, error)) func(context.Context, string) (Endpoint, error) {
	return func(ctx context.Context, host string) (Endpoint, error) {
		time.Sleep(d)
		return do(ctx, host)
	}
}

// bubble runs f in a bubble of testing/synctest, with a cache without jitter. It closes the cache
// at the end. If a goroutine is then still running, synctest makes the test fail.
func bubble(t *testing.T, c *Cache, f func(t *testing.T, c *Cache, src *fake)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		src := &fake{do: at("10.0.0.1")}
		if c == nil {
			c = &Cache{}
		}
		if c.Jitter == 0 {
			c.Jitter = -1
		}
		c.Source = src
		defer c.Close()
		f(t, c, src)
	})
}

// wantEndpoint looks host up, and wants an endpoint.
func wantEndpoint(t *testing.T, c *Cache, host, addr string, level Level) {
	t.Helper()
	ep, err := c.LookupHost(t.Context(), host)
	got := ep.Level
	require.NoError(t, err)
	require.Equal(t, addr, ep.Addr)
	require.Equal(t, host, ep.Host)
	require.Equal(t, level, got, "level %v, not %v", got, level)
}

// wantError looks host up, and wants an error.
func wantError(t *testing.T, c *Cache, host string, want error, level Level) {
	t.Helper()
	ep, err := c.LookupHost(t.Context(), host)
	got := ep.Level
	require.ErrorIs(t, err, want)
	if !errors.Is(want, ErrNotFound) {
		require.NotErrorIs(t, err, ErrNotFound, "a failure is not ErrNotFound")
	}
	require.Zero(t, ep.Endpoint)
	require.Equal(t, level, got, "level %v, not %v", got, level)
}

// names returns n host names.
func names(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = "host-" + strconv.Itoa(i) + ".example.com"
	}
	return all
}

// tick is longer than the lag of the coarse clock.
const tick = 2 * clockTick
