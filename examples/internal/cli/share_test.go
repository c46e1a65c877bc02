package cli

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseShare(t *testing.T) {
	for text, want := range map[string]float64{"30%": 0.3, "0.3": 0.3, "0": 0, "0%": 0, "1": 1, "100%": 1} {
		got, err := ParseShare(text)
		require.NoError(t, err, text)
		require.InDelta(t, want, got, 1e-9, text)
	}
	for _, text := range []string{"", "%", "half", "30", "101%", "-1%", "NaN", "NaN%", "30%%", "Inf"} {
		_, err := ParseShare(text)
		require.ErrorContains(t, err, "want a share", text)
	}
}
