package hashring

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// The tests of quality use the numbers of a large fleet.
const (
	fleetServices = 2000
	fleetNodes    = 1000
	fleetK        = 20
)

// namingStyles are common schemes of node names. A weak hash function gives good results with some
// of them, and bad results with others.
var namingStyles = []struct {
	name string
	node func(i int) string
}{
	{"IPv4", func(i int) string { return fmt.Sprintf("10.0.%d.%d", i/256, i%256) }},
	{"IPv6", func(i int) string { return fmt.Sprintf("2001:db8::%x", i) }},
	{"FQDN", func(i int) string {
		return fmt.Sprintf("ip-10-0-%d-%d.eu-central-1.compute.internal", i/256, i%256)
	}},
	{"numbered", func(i int) string { return fmt.Sprintf("node-%d", i) }},
}

func styled(style func(int) string, n int) []Node {
	nodes := make([]Node, n)
	for i := range nodes {
		nodes[i].Name = style(i)
	}
	return nodes
}

// serviceName returns the name of service i in a fleet.
func serviceName(fleet, i int) string { return fmt.Sprintf("fleet-%d/service-%d", fleet, i) }

// loadRatio returns the standard deviation of the number of services on a node, divided by the
// standard deviation for random draws of k from n nodes (binomial distribution). 1 is ideal.
func loadRatio(subsets [][]int, n, k int) float64 {
	loads := make([]int, n)
	for _, s := range subsets {
		for _, node := range s {
			loads[node]++
		}
	}
	p, services := float64(k)/float64(n), float64(len(subsets))
	var squares float64
	for _, l := range loads {
		squares += (float64(l) - services*p) * (float64(l) - services*p)
	}
	return math.Sqrt(squares/float64(n)) / math.Sqrt(services*p*(1-p))
}

// The overlap of two subsets is the number of nodes in both. overlapRatio returns the variance of
// the overlap over all pairs of subsets, divided by the variance for independent random draws
// (hypergeometric distribution). 1 is ideal. overlapRatio detects that services share too many of
// their nodes. loadRatio cannot detect this.
//
// It iterates over pairs of nodes instead of pairs of services. For each node, the sum of overlaps
// counts the pairs of services that share the node. For each two nodes, the sum of squares counts
// the pairs of services that share both nodes.
func overlapRatio(subsets [][]int, n, k int) float64 {
	shared := make([]int32, n*n)
	for _, s := range subsets {
		for _, a := range s {
			row := shared[a*n : (a+1)*n]
			for _, b := range s {
				row[b]++
			}
		}
	}
	var sum, squares int
	for i, c := range shared {
		pairs := int(c) * int(c-1)
		squares += pairs
		if i%(n+1) == 0 { // a pair of a node with itself
			sum += pairs
		}
	}
	pairs := float64(len(subsets) * (len(subsets) - 1))
	mean := float64(sum) / pairs
	variance := float64(squares)/pairs - mean*mean
	p := float64(k) / float64(n)
	return variance / (float64(k) * p * (1 - p) * float64(n-k) / float64(n-1))
}

// subsets returns the indices of the nodes of each service in a fleet.
func subsets(t testing.TB, nodes []Node, fleet int) [][]int {
	index := map[string]int{}
	for i, n := range nodes {
		index[n.Name] = i
	}
	r := mustNew(t, nodes...)
	sets := make([][]int, fleetServices)
	for i := range sets {
		for _, n := range r.Top(serviceName(fleet, i), fleetK) {
			sets[i] = append(sets[i], index[n.Name])
		}
	}
	return sets
}

// TestEvenness checks both ratios. Even with a perfect hash function, the ratios are not exactly 1.
// By chance, loadRatio varies between fleets with a standard deviation of 1/sqrt(2*1000) = 0.022,
// and overlapRatio with a standard deviation of about 0.002. The names of the nodes and services
// are arbitrary: nobody has selected names with good results.
func TestEvenness(t *testing.T) {
	for _, style := range namingStyles {
		t.Run(style.name, func(t *testing.T) {
			sets := subsets(t, styled(style.node, fleetNodes), 0)
			load, overlap := loadRatio(sets, fleetNodes, fleetK), overlapRatio(sets, fleetNodes, fleetK)
			t.Logf("load sd / binomial sd = %.4f, overlap variance / hypergeometric variance = %.4f", load, overlap)
			require.InDelta(t, 1, load, 0.05, "load")
			require.InDelta(t, 1, overlap, 0.05, "overlap")
		})
	}
}

// TestEvennessOfManyFleets checks loadRatio with less influence of chance. The square root of the
// mean square over 6 fleets has a standard deviation of 0.009, so the bound of 0.025 is nearly
// three standard deviations.
func TestEvennessOfManyFleets(t *testing.T) {
	const fleets = 6
	for _, style := range namingStyles {
		t.Run(style.name, func(t *testing.T) {
			nodes := styled(style.node, fleetNodes)
			var squares float64
			for fleet := range fleets {
				load := loadRatio(subsets(t, nodes, fleet), fleetNodes, fleetK)
				squares += load * load
			}
			ratio := math.Sqrt(squares / fleets)
			t.Logf("load sd / binomial sd = %.4f", ratio)
			require.InDelta(t, 1, ratio, 0.025)
		})
	}
}

// TestEvennessGateBites checks that the bounds of these tests reject two wrong ways to compute a
// score from digests.
func TestEvennessGateBites(t *testing.T) {
	for name, mix := range map[string]func(key, node uint64) uint64{
		"xor": func(key, node uint64) uint64 { return key ^ node },
		"add": func(key, node uint64) uint64 { return key + node },
	} {
		t.Run(name, func(t *testing.T) {
			digests := make([]uint64, fleetNodes)
			for i := range digests {
				digests[i] = nodeDigest(namingStyles[0].node(i))
			}
			sets := make([][]int, 400)
			for i := range sets {
				key := keyDigest(serviceName(0, i))
				order := make([]int, fleetNodes)
				for j := range order {
					order[j] = j
				}
				slices.SortFunc(order, func(a, b int) int { return cmp.Compare(mix(key, digests[a]), mix(key, digests[b])) })
				sets[i] = order[:fleetK]
			}
			overlap := overlapRatio(sets, fleetNodes, fleetK)
			t.Logf("overlap variance / hypergeometric variance = %.1f", overlap)
			require.Greater(t, overlap, 2.0)
		})
	}
}
