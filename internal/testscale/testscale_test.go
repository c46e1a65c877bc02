package testscale_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/testscale"
)

func TestOf(t *testing.T) {
	for text, want := range map[string]int{"": 7, "1": 7, "3": 21} {
		t.Setenv(testscale.Variable, text)
		require.Equal(t, want, testscale.Of(7), text)
	}
	for _, text := range []string{"0", "-1", "x", "1.5"} {
		t.Setenv(testscale.Variable, text)
		require.Panics(t, func() { testscale.Of(7) }, text)
	}
}
