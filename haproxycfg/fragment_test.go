package haproxycfg_test

import (
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
)

func TestRequirementMet(t *testing.T) {
	config := haproxycfg.Config{Fragment: "headgate-", Global: haproxycfg.Global{
		BufferSize: 32768, MaxHeaders: 64, HardStopAfter: 24 * time.Hour, Grace: 1500 * time.Millisecond, StateFile: "/run/state",
	}}
	byKeyword := map[string]haproxycfg.Requirement{}
	for _, r := range config.Requirements() {
		byKeyword[r.Keyword] = r
	}
	for _, tc := range []struct {
		keyword, value string
		met            bool
	}{
		{"tune.bufsize", "", false},
		{"tune.bufsize", "16384", false},
		{"tune.bufsize", "32768", true},
		{"tune.bufsize", "$SIZE", true},
		{"tune.http.maxhdr", "", true}, // HAProxy's default is 101
		{"tune.http.maxhdr", "63", false},
		{"hard-stop-after", "", false},
		{"hard-stop-after", "1d", true},
		{"hard-stop-after", "25h", false},
		{"hard-stop-after", "86400000", true}, // milliseconds
		{"hard-stop-after", "86400001", false},
		{"grace", "1s", false},
		{"grace", "1500ms", true},
		{"mworker-max-reloads", "", true},
		{"mworker-max-reloads", "50", false},
		{"mworker-max-reloads", strconv.Itoa(math.MaxInt32), true},
		{"server-state-file", "/run/other", false},
		{"server-state-file", "/run/state", true},
	} {
		require.Contains(t, byKeyword, tc.keyword)
		require.Equal(t, tc.met, byKeyword[tc.keyword].Met(tc.value), "%s %s", tc.keyword, tc.value)
	}
	config.Global.Version = haproxycfg.Version{Major: 3, Minor: 3}
	for _, r := range config.Requirements() {
		if r.Keyword == "mworker-max-reloads" {
			require.False(t, r.Met(""), "the default of HAProxy 3.3 is 50")
		}
	}
}

func TestFragmentFaults(t *testing.T) {
	config := haproxycfg.Config{
		Fragment: "head:gate-",
		Global: haproxycfg.Global{
			User: "u", Group: "g", MaxConn: 1, Descriptors: 1000, Threads: 1, Observe: true,
			Variables: []haproxycfg.Variable{{Name: "v"}},
		},
		Frontends: []haproxycfg.Frontend{{Name: "http"}},
		Backends:  []haproxycfg.Backend{{Name: "b"}},
	}
	err := config.Validate()
	require.ErrorIs(t, err, haproxycfg.ErrInvalid)
	for _, part := range []string{
		`prefix "head:gate-"`, "no User", "no Group", "no MaxConn", "no Descriptors", "no Threads", "no Observe", "no Variables",
		`frontend "http" does not begin`, `backend "b" does not begin`,
	} {
		require.ErrorContains(t, err, part)
	}
}

func TestFragmentWithCertificatesInADirectoryWithABlank(t *testing.T) {
	config := haproxycfg.Config{Fragment: "headgate-", CertificateLists: []haproxycfg.CertificateList{{Name: "list"}}}
	_, err := config.Render("/var/lib/head gate")
	require.ErrorContains(t, err, "/var/lib/head gate")
	_, err = config.Render("/var/lib/headgate")
	require.NoError(t, err)
}
