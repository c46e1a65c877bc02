package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTables(t *testing.T) {
	var out strings.Builder
	require.NoError(t, run(&out, []setting{{300, 100, 8}}, []int{2}, 50_000))
	require.Contains(t, out.String(), "| 300 / 100 / 8 | 2 | 4 | 130 | 132 | 132 | 154 |\n")
	require.Contains(t, out.String(), "| 300 / 100 / 8 | 2 | 75 | 6 | 5 | 6 | 4 | 4 of 5, 3 |\n")
}

func TestAtMost(t *testing.T) {
	small := setting{nodes: 4, services: 1, size: 2}
	require.InDelta(t, 1.0/6, atMost(small, 2, 0), 1e-9)
	require.InDelta(t, 5.0/6, atMost(small, 2, 1), 1e-9)
	require.InDelta(t, 1, atMost(small, 2, 2), 1e-9)
	require.Zero(t, atMost(small, 4, 1))
}

func TestBounds(t *testing.T) {
	large := setting{nodes: 1000, services: 2000, size: 20}
	require.Equal(t, 2, randomBatch(large, 2))
	require.Equal(t, 58, largestWave(large, 2))
}
