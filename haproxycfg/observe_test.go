package haproxycfg_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
)

// FuzzParseObserved: for every answer, ParseObserved returns an error, or a count for each Refusal
// and for nothing else.
func FuzzParseObserved(f *testing.F) {
	f.Add("# table: observed, type: integer, size:1, used:1\n0x5: key=0 use=0 exp=0 shard=0 gpc0=3 gpc1=1 gpc6=2\n\n")
	f.Fuzz(func(t *testing.T, answer string) {
		got, err := haproxycfg.ParseObserved(answer)
		if err == nil {
			require.Len(t, got, 12)
		} else {
			require.Nil(t, got)
		}
	})
}

func TestParseObserved(t *testing.T) {
	got, err := haproxycfg.ParseObserved("# table: observed, type: integer, size:1, used:1\n0x5: key=0 use=0 exp=0 gpc0=3 gpc1=18446744073709551615 gpc6=4 gpc7=2 gpc8=9 gpc12=1 gpc-1=1 gpc2=x\n\n")
	require.NoError(t, err)
	require.Equal(t, map[haproxycfg.Refusal]uint64{
		haproxycfg.RefusedDotSegment: 3, haproxycfg.RefusedHeaderName: 1<<64 - 1, haproxycfg.RefusedClientHeader: 0,
		haproxycfg.RefusedConnection: 0, haproxycfg.RefusedUpgrade: 0, haproxycfg.RefusedMisdirected: 0, haproxycfg.RefusedRequests: 4, haproxycfg.RefusedConnections: 2,
		haproxycfg.RefusedUndeclaredHost: 9, haproxycfg.RefusedUntrustedProxy: 0, haproxycfg.RefusedServerName: 0, haproxycfg.RefusedHost: 0,
	}, got)
}

func TestParseObservedErrors(t *testing.T) {
	for _, answer := range []string{"", "Permission denied\n\n", "No such table\n\n", "# table: other, type: integer, size:1, used:0\n"} {
		got, err := haproxycfg.ParseObserved(answer)
		require.Error(t, err, answer)
		require.Nil(t, got)
	}
	_, err := haproxycfg.ParseObserved("Permission denied\n\n")
	require.ErrorContains(t, err, `answers "Permission denied"`)
}
