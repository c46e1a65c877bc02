package hostlookup

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// LookupAll returns the results in the order of the hosts, with a Level and an error for each, and
// makes at most atOnce lookups at the same time.
func TestLookupAll(t *testing.T) {
	bubble(t, nil, func(t *testing.T, c *Cache, src *fake) {
		wantEndpoint(t, c, "known.com", "10.0.0.1", Miss)
		running, most := 0, 0
		src.answer(func(ctx context.Context, host string) (Endpoint, error) {
			src.mu.Lock()
			running++
			most = max(most, running)
			src.mu.Unlock()
			time.Sleep(time.Second)
			src.mu.Lock()
			running--
			src.mu.Unlock()
			switch host {
			case "unknown.com":
				return Endpoint{}, ErrNotFound
			case "failing.com":
				return Endpoint{}, errDown
			}
			return Endpoint{Host: host, Addr: "10.0.0.2"}, nil
		})
		hosts := append([]string{"known.com", "unknown.com", "failing.com", "known.com"}, names(10)...)
		start := time.Now()
		results := LookupAll(t.Context(), c, hosts, 3)
		require.Equal(t, 4*time.Second, time.Since(start), "12 lookups of a second, 3 at a time")
		require.Equal(t, 3, most)
		require.Len(t, results, len(hosts))
		for i, r := range results {
			require.Equal(t, hosts[i], r.Host)
			switch r.Host {
			case "known.com":
				require.NoError(t, r.Err)
				require.Equal(t, Hit, r.Answer.Level)
				require.Equal(t, "10.0.0.1", r.Answer.Addr)
			case "unknown.com":
				require.ErrorIs(t, r.Err, ErrNotFound)
			case "failing.com":
				require.ErrorIs(t, r.Err, errDown)
			default:
				require.NoError(t, r.Err)
				require.Equal(t, Miss, r.Answer.Level)
				require.Equal(t, "10.0.0.2", r.Answer.Addr)
			}
		}
		require.Empty(t, LookupAll(t.Context(), c, nil, 0))
		require.Equal(t, "10.0.0.2", LookupAll(t.Context(), c, names(1), 0)[0].Answer.Addr)
	})
}

// When the context ends, LookupAll returns the answers that it has. The other hosts get the cause.
func TestLookupAllEnds(t *testing.T) {
	bubble(t, nil, func(t *testing.T, c *Cache, src *fake) {
		wantEndpoint(t, c, "known.com", "10.0.0.1", Miss)
		src.answer(silent)
		errStop := errors.New("stop")
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan []Result)
		go func() { done <- LookupAll(ctx, c, append(names(5), "known.com"), 2) }()
		synctest.Wait()
		cancel(errStop)
		results := <-done
		for _, r := range results[:5] {
			require.ErrorIs(t, r.Err, errStop)
		}
		require.Equal(t, Hit, results[5].Answer.Level)
	})
}

// A Lookup that is no Peeker gets every host.
func TestLookupAllOfFunc(t *testing.T) {
	l := Func(func(_ context.Context, host string) (Endpoint, error) {
		return Endpoint{Host: host, Addr: host}, nil
	})
	for i, r := range LookupAll(t.Context(), l, names(200), 0) {
		require.NoError(t, r.Err)
		require.Equal(t, names(200)[i], r.Answer.Addr)
	}
}
