package hashring

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// The function without returns the names of the nodes that are in a but not in b.
func without(a, b []Node) []string {
	var out []string
	for _, n := range a {
		if !slices.ContainsFunc(b, func(m Node) bool { return m.Name == n.Name }) {
			out = append(out, n.Name)
		}
	}
	return out
}

// picks returns the subsets of services 0 to n-1.
func picks(r *Ring, n int, pick func(r *Ring, key string) []Node) [][]Node {
	sets := make([][]Node, n)
	for i := range sets {
		sets[i] = pick(r, serviceName(0, i))
	}
	return sets
}

// requireLeastChurn compares the subsets of all services before and after a change of nodes. The
// argument "removed" is the node that left, and the argument "added" is the node that joined; ""
// means no such node. No other node may move. requireLeastChurn returns the number of services
// whose subset changed.
func requireLeastChurn(t *testing.T, before, after [][]Node, removed, added string) (changed int) {
	t.Helper()
	for i := range before {
		old, now := before[i], after[i]
		held := slices.ContainsFunc(old, func(n Node) bool { return n.Name == removed })
		entered := slices.ContainsFunc(now, func(n Node) bool { return n.Name == added })
		if !held && !entered {
			if !slices.Equal(old, now) {
				require.Equal(t, old, now, "service %d changed without cause", i)
			}
			continue
		}
		left, joined := without(old, now), without(now, old)
		if held {
			require.Equal(t, []string{removed}, left, "service %d lost others than the removed node", i)
		} else {
			require.LessOrEqual(t, len(left), 1, "service %d lost more than one node", i)
		}
		if entered {
			require.Equal(t, []string{added}, joined, "service %d took others than the added node", i)
		} else {
			require.LessOrEqual(t, len(joined), 1, "service %d took more than one node", i)
		}
		changed++
	}
	return changed
}

func topK(k int) func(*Ring, string) []Node {
	return func(r *Ring, key string) []Node { return r.Top(key, k) }
}

func spreadK(k int) func(*Ring, string) []Node {
	return func(r *Ring, key string) []Node { return r.Spread(key, k) }
}

// TestChurn removes, adds and replaces nodes of a large fleet in three zones. No node moves without
// need.
func TestChurn(t *testing.T) {
	for _, style := range namingStyles {
		t.Run(style.name+"/top", func(t *testing.T) { testChurn(t, style.node, topK(fleetK)) })
		t.Run(style.name+"/spread", func(t *testing.T) { testChurn(t, style.node, spreadK(fleetK)) })
	}
}

func testChurn(t *testing.T, style func(int) string, pick func(*Ring, string) []Node) {
	nodes := styled(style, fleetNodes+1)
	for i := range nodes {
		nodes[i].Zone = fmt.Sprint(i % 3)
	}
	nodes[fleetNodes].Zone = nodes[0].Zone // the replacement has the zone of the old node
	full, added := nodes[:fleetNodes], nodes[fleetNodes]
	subsets := func(nodes []Node) [][]Node { return picks(mustNew(t, nodes...), fleetServices/4, pick) }
	before := subsets(full)
	t.Run("add", func(t *testing.T) {
		changed := requireLeastChurn(t, before, subsets(nodes), "", added.Name)
		require.NotZero(t, changed, "nothing was tested")
	})
	for _, i := range []int{0, fleetNodes - 1} {
		require.Equal(t, added.Zone, full[i].Zone)
		rest := slices.Delete(slices.Clone(full), i, i+1)
		t.Run(fmt.Sprintf("remove %d", i), func(t *testing.T) {
			changed := requireLeastChurn(t, before, subsets(rest), full[i].Name, "")
			require.NotZero(t, changed, "nothing was tested")
		})
		t.Run(fmt.Sprintf("replace %d", i), func(t *testing.T) {
			after := subsets(append(slices.Clone(rest), added))
			changed := requireLeastChurn(t, before, after, full[i].Name, added.Name)
			require.NotZero(t, changed, "nothing was tested")
		})
	}
}

// TestChurnOfRandomEvents adds, removes and replaces nodes in rings with weights and zones. Some
// zones have too few nodes, appear or disappear. One ring has three zones of 40 nodes, and k is 25.
// There, quotas in proportion to the sizes of the zones would move two and a half times as many
// nodes as necessary.
func TestChurnOfRandomEvents(t *testing.T) {
	for _, test := range []struct {
		name    string
		zones   []int // initial sizes
		weights []float64
		pick    func(*Ring, string) []Node
	}{
		{"weighted top", []int{300}, []float64{1, 2, 4, 0.5}, topK(20)},
		{"three zones", []int{40, 40, 40}, []float64{0}, spreadK(25)},
		{"three zones weighted", []int{40, 40, 40}, []float64{1, 2, 7}, spreadK(25)},
		{"short zone", []int{40, 40, 5}, []float64{0}, spreadK(25)},
		{"short zones", []int{30, 4, 3, 1}, []float64{1, 3}, spreadK(20)},
		{"tiny zones", []int{1, 1, 1, 1, 2, 2}, []float64{0}, spreadK(4)},
		{"all nodes", []int{4, 4}, []float64{0}, spreadK(8)},
	} {
		t.Run(test.name, func(t *testing.T) {
			const services = 100
			rng := rand.New(rand.NewPCG(25, 40))
			var nodes []Node
			made, changed := 0, 0
			node := func(zone int) Node {
				made++
				return Node{Name: fmt.Sprintf("10.1.%d.%d", made/256, made%256), Zone: fmt.Sprint(zone), Weight: test.weights[made%len(test.weights)]}
			}
			for zone, size := range test.zones {
				for range size {
					nodes = append(nodes, node(zone))
				}
			}
			subsets := func() [][]Node { return picks(mustNew(t, nodes...), services, test.pick) }
			before := subsets()
			size := len(nodes)
			for range 30 {
				var removed, added string
				event := rng.IntN(3)
				if event != 0 || len(nodes) > size+3 {
					i := rng.IntN(len(nodes))
					removed = nodes[i].Name
					zone := nodes[i].Zone
					nodes = slices.Delete(nodes, i, i+1)
					if event == 1 || len(nodes) < size-3 { // replace the node in its zone
						n := node(0)
						n.Zone = zone
						added = n.Name
						nodes = append(nodes, n)
					}
				} else {
					n := node(rng.IntN(len(test.zones)))
					added = n.Name
					nodes = append(nodes, n)
				}
				rng.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
				after := subsets()
				changed += requireLeastChurn(t, before, after, removed, added)
				before = after
			}
			require.NotZero(t, changed, "nothing was tested")
		})
	}
}

// TestPrefixes checks that a larger subset begins with the smaller one, and that Ranked has the
// order of Top with all nodes.
func TestPrefixes(t *testing.T) {
	nodes := numbered(90)
	for i := range nodes {
		nodes[i].Zone = fmt.Sprint(i * i % 7)
		nodes[i].Weight = float64(i % 3)
	}
	r := mustNew(t, nodes...)
	for i := range 20 {
		key := serviceName(0, i)
		top, spread := r.Top(key, len(nodes)), r.Spread(key, len(nodes))
		require.ElementsMatch(t, nodes, top)
		require.ElementsMatch(t, nodes, spread)
		require.Equal(t, top, slices.Collect(r.Ranked(key)))
		for k := range nodes {
			require.Equal(t, top[:k], r.AppendTop([]Node{}, key, k))
			require.Equal(t, spread[:k], r.AppendSpread([]Node{}, key, k))
		}
	}
}
