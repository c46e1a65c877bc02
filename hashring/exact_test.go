package hashring

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// sortAll computes the scores of all nodes of a group, and sorts all of them. The limits,
// candidates and buffers of the package must lead to the same order.
func sortAll(g *group, key uint64) []string {
	type scored struct {
		name  string
		cost  float64
		score uint64
	}
	all := make([]scored, len(g.nodes))
	for i, n := range g.nodes {
		s := score(key, g.digests[i])
		all[i] = scored{n.Name, exponential(s) / n.weight(), s}
	}
	slices.SortFunc(all, func(a, b scored) int {
		return cmp.Or(cmp.Compare(a.cost, b.cost), cmp.Compare(a.score, b.score), strings.Compare(a.name, b.name))
	})
	order := make([]string, len(all))
	for i := range all {
		order[i] = all[i].name
	}
	return order
}

// TestExactlyASort compares selection with a full sort of all nodes. It covers equal and different
// weights, sizes around every limit of the implementation, and digests that are equal, equal in
// their upper bits, or different.
func TestExactlyASort(t *testing.T) {
	digests := map[string]func(string) uint64{
		"v1":         nodeDigest,
		"four":       func(s string) uint64 { return nodeDigest(s) >> 62 },
		"low bits":   func(s string) uint64 { return nodeDigest(s) >> 54 },
		"upper bits": func(s string) uint64 { return nodeDigest(s) &^ (1<<56 - 1) },
		"clustered":  func(s string) uint64 { return 1<<40 + nodeDigest(s)>>58 },
		"constant":   func(string) uint64 { return 1 << 63 },
		"zero":       func(string) uint64 { return 0 },
		"ones":       func(string) uint64 { return 1<<64 - 1 },
	}
	weights := map[string]func(int) float64{
		"uniform":   func(int) float64 { return 0 },
		"equal":     func(int) float64 { return 2 },
		"two":       func(i int) float64 { return float64(1 + i%2) },
		"cores":     func(i int) float64 { return []float64{4, 8, 16, 64}[i*i%4] },
		"distinct":  func(i int) float64 { return 1 + float64(i)/7 },
		"one giant": func(i int) float64 { return []float64{1, 1e6}[max(0, 1-i)] },
		"extremes":  func(i int) float64 { return []float64{1e-6, 1, 1e6}[i%3] },
	}
	special := []uint64{0, 1, 1 << 63, 1<<64 - 1}
	rng := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{1, 2, 3, 8, 9, 64, 65, 128, 129, 600} {
		for weightName, weight := range weights {
			nodes := numbered(n)
			for i := range nodes {
				nodes[i].Weight = weight(i)
			}
			slices.SortFunc(nodes, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
			for digestName, digest := range digests {
				g := newGroup(slices.Clone(nodes), digest)
				for _, key := range []uint64{special[rng.IntN(len(special))], rng.Uint64()} {
					want := sortAll(&g, key)
					for _, k := range []int{1, 20, 64, 65, n / 2, n} {
						k = min(k, n)
						got := names(g.appendBest(nil, key, k))
						if !slices.Equal(want[:k], got) {
							t.Fatalf("n=%d weights=%s digests=%s key=%#x k=%d\nwant %v\n got %v", n, weightName, digestName, key, k, want[:k], got)
						}
					}
					var ranked []string
					g.ranked(key, func(n Node) bool { ranked = append(ranked, n.Name); return true })
					if !slices.Equal(want, ranked) {
						require.Equal(t, want, ranked, "n=%d weights=%s digests=%s key=%#x", n, weightName, digestName, key)
					}
				}
			}
		}
	}
}

// TestTightBuffers selects with the smallest buffers that the method "best" allows. During a
// selection, such a buffer becomes full many times.
func TestTightBuffers(t *testing.T) {
	for _, mixed := range []bool{false, true} {
		nodes := numbered(300)
		for i := range nodes {
			if mixed {
				nodes[i].Weight = float64(1 + i%5)
			}
		}
		g := newGroup(nodes, nodeDigest)
		for k := 1; k < 40; k++ {
			for i := range 5 {
				key := keyDigest(fmt.Sprint(i))
				want := sortAll(&g, key)
				for _, slots := range []int{2 * k, 2*k + 1, 3*k + 7} {
					var got []string
					for _, c := range g.best(make([]uint64, slots), key, k) {
						got = append(got, g.nodes[c&g.mask].Name)
					}
					if !slices.Equal(want[:k], got) {
						require.Equal(t, want[:k], got, "mixed=%v k=%d slots=%d", mixed, k, slots)
					}
				}
			}
		}
	}
}
