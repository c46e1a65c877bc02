package haproxycfg_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
)

func TestSpare(t *testing.T) {
	s := haproxycfg.Server{Addr: netip.MustParseAddrPort("10.0.0.1:9707"), Check: true, AgentPort: 9707}
	want := s
	want.Addr, want.Slot, want.Disabled = netip.MustParseAddrPort("255.255.255.255:9707"), "spare12", true
	require.Equal(t, want, s.Spare(12))
	for name, is := range map[string]bool{"spare1": true, "spare20": true, "spare": false, "spare01": false, "spare1a": false, "s1": false, "10.0.0.1:9707": false} {
		require.Equal(t, is, haproxycfg.IsSpare(name), name)
	}
}
