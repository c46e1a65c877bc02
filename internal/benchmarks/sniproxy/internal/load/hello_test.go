package load

import (
	"bytes"
	"slices"
	"testing"

	"github.com/headgate/headgate/sniproxy/peek"
	"github.com/stretchr/testify/require"
)

// TestHello parses a hello with each name as a router does.
func TestHello(t *testing.T) {
	h, err := NewHello("site-0.example")
	require.NoError(t, err)
	require.Greater(t, h.Len(), 1200, "today's hello has a post-quantum key share")
	for _, host := range []string{"site-1.example", "site-9.example"} {
		wire := slices.Clone(h.For(host, wantBulk, 1<<40+5))
		var p peek.Parser
		seen, err := p.Parse(wire)
		require.NoError(t, err)
		require.Equal(t, host, seen.Name)
		require.Equal(t, len(wire), helloSize(wire))
		w, size, err := order(wire)
		require.NoError(t, err)
		require.Equal(t, wantBulk, w)
		require.EqualValues(t, 1<<40+5, size)
	}
	require.Panics(t, func() { h.For("longer.site-1.example", wantAnswer, 0) })
}

func TestOrderOfAForeignHello(t *testing.T) {
	_, _, err := order(bytes.Repeat([]byte{3}, randomAt+randomSize))
	require.ErrorContains(t, err, "another hello")
	require.Zero(t, helloSize([]byte{22, 3, 1, 0}))
}
