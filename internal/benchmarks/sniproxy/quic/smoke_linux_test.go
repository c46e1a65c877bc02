package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/peer"
)

// TestWrite checks the table. make ci runs the whole command.
func TestWrite(t *testing.T) {
	var out bytes.Buffer
	write(&out, []peer.Router{{Name: "a", Version: "1.2"}, {Name: "b"}}, [][]figures{{{1, 20}, {3, 40}, {2, 30}}, {{4}, {5}, {6}}})
	require.Contains(t, out.String(), "| a 1.2 | 2 (1–3) | 30 (20–40) | 0 (0–0) |")
	require.Contains(t, out.String(), "| b | 5 (4–6) |")
}

// TestHello checks the hello that all clients of the load send.
func TestHello(t *testing.T) {
	hello, err := captureHello(t.Context())
	require.NoError(t, err)
	require.Len(t, hello, 2)
}
