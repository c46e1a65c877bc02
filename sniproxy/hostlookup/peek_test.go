package hostlookup_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/sniproxy/hostlookup"
)

func TestPeek(t *testing.T) {
	hosts, problems, err := hostlookup.ParseHosts("hosts.json", []byte(`[{"app":"a","host":"a.com","endpoint":"10.0.0.1"}]`))
	require.NoError(t, err)
	require.Empty(t, problems)
	broken := errors.New("source is down")
	calls := 0
	source := hostlookup.Func(func(_ context.Context, host string) (hostlookup.Endpoint, error) {
		calls++
		switch host {
		case "b.com":
			return hostlookup.Endpoint{Host: host, Addr: "10.0.0.2"}, nil
		case "broken.com":
			return hostlookup.Endpoint{}, broken
		}
		return hostlookup.Endpoint{}, hostlookup.ErrNotFound
	})
	cache := &hostlookup.Cache{Source: source}
	defer cache.Close()
	elsewhere := hostlookup.Endpoint{Addr: "10.0.0.9"}
	lookups := map[string]hostlookup.Lookup{
		"hosts":   hosts,
		"cache":   cache,
		"chain":   hostlookup.Chain(hosts, cache),
		"default": hostlookup.Default(hostlookup.Chain(hosts, cache), elsewhere),
		"mixed":   hostlookup.Chain(hosts, source),
		"empty":   hostlookup.Chain(),
	}
	names := []string{"a.com", "b.com", "none.com", "broken.com", ""}
	// peeks reports whether Peek has a result. The result must be the same as that of LookupHost.
	peeks := func(name, host string) bool {
		t.Helper()
		before := calls
		answer, err := lookups[name].(hostlookup.Peeker).Peek(host)
		require.Equal(t, before, calls, "Peek asks no source")
		if errors.Is(err, hostlookup.ErrWouldWait) {
			require.Zero(t, answer)
			return false
		}
		wantAnswer, wantErr := lookups[name].LookupHost(t.Context(), host)
		require.Equal(t, wantAnswer, answer, host)
		require.Equal(t, wantErr, err, host)
		return true
	}
	for _, host := range names {
		require.True(t, peeks("hosts", host))
		require.True(t, peeks("empty", host))
		require.False(t, peeks("cache", host), "the cache is empty")
		require.Equal(t, host == "a.com", peeks("chain", host))
		require.Equal(t, host == "a.com", peeks("default", host))
		require.Equal(t, host == "a.com", peeks("mixed", host))
	}
	for _, host := range names {
		_, _ = cache.LookupHost(t.Context(), host)
	}
	for _, host := range names {
		if host != "" { // the cache never stores the empty name
			require.True(t, peeks("cache", host), host)
			require.True(t, peeks("chain", host), host)
			require.True(t, peeks("default", host), host)
		}
		require.Equal(t, host == "a.com", peeks("mixed", host))
	}
	_, isPeeker := any(source).(hostlookup.Peeker)
	require.False(t, isPeeker)
}
