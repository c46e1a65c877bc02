package hashring

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// zoned returns nodes in zones "0", "1" and so on, of the given sizes.
func zoned(sizes ...int) []Node {
	var nodes []Node
	for zone, size := range sizes {
		for i := range size {
			nodes = append(nodes, Node{Name: fmt.Sprintf("10.%d.0.%d", zone, i), Zone: fmt.Sprint(zone)})
		}
	}
	return nodes
}

func countZones(nodes []Node) map[string]int {
	counts := map[string]int{}
	for _, n := range nodes {
		counts[n.Zone]++
	}
	return counts
}

// TestSpreadQuotas checks the least and the largest number of nodes that each zone contributes over
// all keys.
func TestSpreadQuotas(t *testing.T) {
	for _, test := range []struct {
		name  string
		sizes []int
		k     int
		least []int
		most  []int
	}{
		{"divisible", []int{40, 40, 40}, 24, []int{8, 8, 8}, []int{8, 8, 8}},
		{"remainder", []int{40, 40, 40}, 25, []int{8, 8, 8}, []int{9, 9, 9}},
		{"sizes do not count", []int{10, 40, 400}, 25, []int{8, 8, 8}, []int{9, 9, 9}},
		{"fewer nodes than zones", []int{40, 40, 40}, 2, []int{0, 0, 0}, []int{1, 1, 1}},
		{"short zone", []int{40, 40, 5}, 25, []int{10, 10, 5}, []int{10, 10, 5}},
		{"short zone and remainder", []int{40, 40, 5}, 26, []int{10, 10, 5}, []int{11, 11, 5}},
		{"shortages in turn", []int{40, 2, 9, 5}, 25, []int{9, 2, 9, 5}, []int{9, 2, 9, 5}},
		{"shortage in the remainder", []int{40, 8, 40}, 25, []int{8, 8, 8}, []int{9, 8, 9}},
		{"all", []int{3, 1, 2}, 6, []int{3, 1, 2}, []int{3, 1, 2}},
		{"more than all", []int{3, 1, 2}, 60, []int{3, 1, 2}, []int{3, 1, 2}},
		{"one zone", []int{30}, 20, []int{20}, []int{20}},
		{"pooled buffers", []int{100, 100, 10}, 150, []int{70, 70, 10}, []int{70, 70, 10}},
		{"pooled buffers and remainder", []int{100, 100, 100}, 200, []int{66, 66, 66}, []int{67, 67, 67}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := mustNew(t, zoned(test.sizes...)...)
			least, most := make([]int, len(test.sizes)), make([]int, len(test.sizes))
			for i := range 300 {
				counts := countZones(r.Spread(serviceName(0, i), test.k))
				for zone := range test.sizes {
					n := counts[fmt.Sprint(zone)]
					if i == 0 {
						least[zone] = n
					}
					least[zone], most[zone] = min(least[zone], n), max(most[zone], n)
				}
			}
			require.Equal(t, test.least, least, "least")
			require.Equal(t, test.most, most, "most")
		})
	}
}

// TestSpreadRemainderIsFair counts which zones contribute one node more. The bound is the 99.9th
// percentile of chi-square with 6 degrees of freedom. It is loose, because the three zones of a key
// are drawn without repetition.
func TestSpreadRemainderIsFair(t *testing.T) {
	r := mustNew(t, zoned(9, 9, 9, 9, 9, 9, 9)...)
	extra := make([]int, 7)
	for i := range 10_000 {
		counts := countZones(r.Spread(serviceName(0, i), 2*7+3))
		for zone := range extra {
			extra[zone] += counts[fmt.Sprint(zone)] - 2
		}
	}
	x := chiSquare(extra, []float64{1, 1, 1, 1, 1, 1, 1})
	t.Logf("%v: chi-square %.2f", extra, x)
	require.Less(t, x, 22.5)
}

// TestSpreadIsEven does the same as TestEvenness for Spread. Within each of four zones of 250
// nodes, Spread should behave like a random draw of 5 nodes. The overlap of two such subsets has
// 1.003 times the variance of the overlap of two subsets of 20 of 1,000 nodes. TestEvenness
// explains the bounds.
func TestSpreadIsEven(t *testing.T) {
	nodes := zoned(250, 250, 250, 250)
	index := map[string]int{}
	for i, n := range nodes {
		index[n.Name] = i
	}
	r := mustNew(t, nodes...)
	sets := make([][]int, fleetServices)
	for i := range sets {
		for _, n := range r.Spread(serviceName(0, i), fleetK) {
			sets[i] = append(sets[i], index[n.Name])
		}
	}
	load, overlap := loadRatio(sets, fleetNodes, fleetK), overlapRatio(sets, fleetNodes, fleetK)
	t.Logf("load sd / binomial sd = %.4f, overlap variance / hypergeometric variance = %.4f", load, overlap)
	require.InDelta(t, 1, load, 0.05)
	require.InDelta(t, 1, overlap, 0.05)
}

// TestSpreadTakesTheBestOfEachZone checks which nodes Spread picks. The nodes of each zone are the
// best nodes of a ring with that zone alone, and the zones take turns.
func TestSpreadTakesTheBestOfEachZone(t *testing.T) {
	nodes := zoned(7, 30, 12)
	r := mustNew(t, nodes...)
	zones := []*Ring{mustNew(t, nodes[:7]...), mustNew(t, nodes[7:37]...), mustNew(t, nodes[37:]...)}
	for i := range 100 {
		key := serviceName(0, i)
		spread := r.Spread(key, 20)
		counts := map[string]int{}
		byZone := map[string][]Node{}
		for j, n := range spread {
			counts[n.Zone]++
			byZone[n.Zone] = append(byZone[n.Zone], n)
			if j < 3 {
				require.Equal(t, 1, counts[n.Zone], "zones must take turns")
			}
		}
		for zone, ring := range zones {
			name := fmt.Sprint(zone)
			require.Equal(t, ring.Top(key, counts[name]), byZone[name])
		}
	}
}
