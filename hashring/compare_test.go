package hashring

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCompareIsTheOrderOfARing sorts nodes with Compare. The result must be the order of Ranked,
// for equal and for different weights.
func TestCompareIsTheOrderOfARing(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, weights := range [][]float64{{0}, {3}, {0, 1}, {1, 2}, {4, 8, 16, 64}, {1e-6, 1, 1e6}} {
		t.Run(fmt.Sprint(weights), func(t *testing.T) {
			for i := range 50 {
				nodes := numbered(1 + rng.IntN(80))
				for j := range nodes {
					nodes[j].Weight = weights[rng.IntN(len(weights))]
				}
				ring, err := New(nodes...)
				require.NoError(t, err)
				key := fmt.Sprint("key-", i)
				rng.Shuffle(len(nodes), func(a, b int) { nodes[a], nodes[b] = nodes[b], nodes[a] })
				slices.SortFunc(nodes, func(a, b Node) int { return Compare(key, a, b) })
				require.Equal(t, slices.Collect(ring.Ranked(key)), nodes)
			}
		})
	}
	require.Zero(t, Compare("key", Node{Name: "a"}, Node{Name: "a", Zone: "z"}))
}

func BenchmarkCompare(b *testing.B) {
	x, y := Node{Name: "10.0.0.1"}, Node{Name: "10.0.0.2"}
	b.ReportAllocs()
	for b.Loop() {
		if Compare("media/tracks", x, y) == 0 {
			b.Fatal("equal")
		}
	}
}
