package hostlookup

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestChain(t *testing.T) {
	found, none, down := Func(at("10.0.0.1")), Func(failing(ErrNotFound)), Func(failing(errDown))
	other := Func(at("10.0.0.2"))
	for name, test := range map[string]struct {
		chain []Lookup
		addr  string
		err   error
	}{
		"of none":                     {nil, "", ErrNotFound},
		"the first knows":             {[]Lookup{found, other}, "10.0.0.1", nil},
		"the second knows":            {[]Lookup{none, other}, "10.0.0.2", nil},
		"nobody knows":                {[]Lookup{none, none}, "", ErrNotFound},
		"the first might have known":  {[]Lookup{down, found}, "", errDown},
		"the second might have known": {[]Lookup{none, down, found}, "", errDown},
		"failure behind the answer":   {[]Lookup{found, down}, "10.0.0.1", nil},
		"wrapped not-found":           {[]Lookup{Func(failing(&Error{ErrNotFound, 1})), other}, "10.0.0.2", nil},
		"chain in chain":              {[]Lookup{Chain(none, none), Chain(found)}, "10.0.0.1", nil},
	} {
		t.Run(name, func(t *testing.T) {
			answer, err := Chain(test.chain...).LookupHost(t.Context(), "a.com")
			require.ErrorIs(t, err, test.err)
			require.Equal(t, test.addr, answer.Addr)
			require.Equal(t, Miss, answer.Level)
		})
	}
}

func TestDefault(t *testing.T) {
	ep := Endpoint{App: "fallback", Addr: "10.9.9.9"}
	got, err := Default(Func(at("10.0.0.1")), ep).LookupHost(t.Context(), "a.com")
	require.NoError(t, err)
	require.Equal(t, "10.0.0.1", got.Addr)

	got, err = Default(Func(failing(ErrNotFound)), ep).LookupHost(t.Context(), "a.com")
	require.NoError(t, err)
	require.Equal(t, Endpoint{App: "fallback", Host: "a.com", Addr: "10.9.9.9", TTL: -1}, got.Endpoint)

	ep.Host = "named"
	got, err = Default(Func(failing(ErrNotFound)), ep).LookupHost(t.Context(), "a.com")
	require.NoError(t, err)
	require.Equal(t, "named", got.Host)

	_, err = Default(Func(failing(errDown)), ep).LookupHost(t.Context(), "a.com")
	require.ErrorIs(t, err, errDown)
}

// Chain and Default return the level of the cache inside them.
func TestLevelsThroughChainAndDefault(t *testing.T) {
	bubble(t, nil, func(t *testing.T, c *Cache, src *fake) {
		all := Default(Chain(&Hosts{}, c), Endpoint{Addr: "10.9.9.9"})
		for _, want := range []Level{Miss, Hit} {
			answer, err := all.LookupHost(t.Context(), "a.com")
			require.NoError(t, err)
			require.Equal(t, "10.0.0.1", answer.Addr)
			require.Equal(t, want, answer.Level)
		}
		src.answer(failing(ErrNotFound))
		for _, want := range []Level{Miss, Negative} {
			answer, err := all.LookupHost(t.Context(), "b.com")
			require.NoError(t, err)
			require.Equal(t, "10.9.9.9", answer.Addr)
			require.Equal(t, want, answer.Level)
		}
		// A cache around a Default does not store the default endpoint, so the answers with this
		// endpoint evict no host.
		inside := &Cache{Source: Default(src, Endpoint{Addr: "10.9.9.9"})}
		defer inside.Close()
		_, err := inside.LookupHost(t.Context(), "c.com")
		require.NoError(t, err)
		require.Zero(t, inside.Stats().Hosts)
	})
}

func TestLevelString(t *testing.T) {
	for level, want := range map[Level]string{
		Miss: "miss", Hit: "hit", Negative: "negative", Stale: "stale", Failed: "failed", 9: "level(9)",
	} {
		require.Equal(t, want, level.String())
	}
}
