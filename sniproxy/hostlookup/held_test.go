package hostlookup_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/sniproxy/hostlookup"
)

func TestHeld(t *testing.T) {
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
	held := func(name, host string) bool {
		t.Helper()
		before := calls
		ep, level, err, ok := lookups[name].(hostlookup.Holder).Held(host)
		require.Equal(t, before, calls, "no source is asked")
		if !ok {
			require.Zero(t, ep)
			require.NoError(t, err)
			return false
		}
		wantEndpoint, wantLevel, wantErr := hostlookup.Get(t.Context(), lookups[name], host)
		require.Equal(t, wantEndpoint, ep, host)
		require.Equal(t, wantLevel, level, host)
		require.Equal(t, wantErr, err, host)
		return true
	}
	for _, host := range names {
		require.True(t, held("hosts", host))
		require.True(t, held("empty", host))
		require.False(t, held("cache", host), "nothing is known yet")
		require.Equal(t, host == "a.com", held("chain", host))
		require.Equal(t, host == "a.com", held("default", host))
		require.Equal(t, host == "a.com", held("mixed", host))
	}
	for _, host := range names {
		_, _ = cache.LookupHost(t.Context(), host)
	}
	for _, host := range names {
		if host != "" { // is not found, and not stored
			require.True(t, held("cache", host), host)
			require.True(t, held("chain", host), host)
			require.True(t, held("default", host), host)
		}
		require.Equal(t, host == "a.com", held("mixed", host))
	}
	_, isHolder := any(source).(hostlookup.Holder)
	require.False(t, isHolder)
}
