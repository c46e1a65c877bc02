package haproxycfg_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
)

func TestParseVersion(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]haproxycfg.Version{
		"HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\nStatus: long-term supported branch": {Major: 2, Minor: 6},
		"HAProxy version 3.4.7-1 2026/10/14 - https://haproxy.org/\n":                                            {Major: 3, Minor: 4},
		"HAProxy version 3.10-dev5-1a2b3c 2027/01/01 - https://haproxy.org/\n":                                   {Major: 3, Minor: 10},
		"HA-Proxy version 2.2.9-2+deb11u6 2023/12/28 - https://haproxy.org/\n":                                   {Major: 2, Minor: 2},
		"a warning of the loader\nHAProxy version 3.0.11\n":                                                      {Major: 3, Minor: 0},
	} {
		got, err := haproxycfg.ParseVersion(text)
		require.NoError(t, err)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "HAProxy version", "HAProxy version 3", "nginx version: nginx/1.22.1", "HAProxy version 99999.1", "see HAProxy version 3.0"} {
		_, err := haproxycfg.ParseVersion(text)
		require.Error(t, err, text)
	}
}

func TestVersionAtLeast(t *testing.T) {
	t.Parallel()
	for _, at := range []struct {
		version      haproxycfg.Version
		major, minor int
		want         bool
	}{
		{haproxycfg.Version{}, 2, 6, true},
		{haproxycfg.Version{}, 2, 7, false},
		{haproxycfg.Version{Major: 2, Minor: 9}, 3, 0, false},
		{haproxycfg.Version{Major: 3}, 2, 9, true},
		{haproxycfg.Version{Major: 3}, 3, 0, true},
		{haproxycfg.Version{Major: 3, Minor: 10}, 3, 9, true},
	} {
		require.Equal(t, at.want, at.version.AtLeast(at.major, at.minor), "%v at least %d.%d", at.version, at.major, at.minor)
	}
	require.Equal(t, "2.6", haproxycfg.Version{}.String())
}

func FuzzParseVersion(f *testing.F) {
	f.Add("HAProxy version 3.4.7-1 2026/10/14 - https://haproxy.org/\n")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := haproxycfg.ParseVersion(text)
		if err != nil {
			require.Zero(t, v)
			return
		}
		require.Contains(t, text, "roxy version ")
		again, err := haproxycfg.ParseVersion("HAProxy version " + v.String())
		require.NoError(t, err)
		if v != (haproxycfg.Version{}) {
			require.Equal(t, v, again)
		}
		require.False(t, strings.HasPrefix(v.String(), "-"))
	})
}
