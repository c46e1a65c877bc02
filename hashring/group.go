package hashring

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"strings"
)

// group is a set of nodes from which the best for a key are taken: the whole
// ring or one zone.
//
// While they are being selected, nodes are uint64 candidates: the score (or the
// bits of the cost, which are ordered as the cost is) with its lowest bits
// replaced by the index of the node. Candidates sort as plain integers, and as
// nodes of one weight stand in name order, so do ties. What the index displaced
// matters once in billions of comparisons; order looks for it and repairs it.
type group struct {
	nodes   []Node   // by weight, then name
	digests []uint64 // of nodes
	mask    uint64   // bits of a candidate that hold its index
	bands   []band   // nil when all weights are equal
	total   float64  // sum of weights
	squares float64  // sum of squared weights
}

// newGroup makes a group of nodes sorted by name and keeps the slice.
func newGroup(nodes []Node, digest func(name string) uint64) group {
	g := group{nodes: nodes}
	if len(nodes) == 0 {
		return g
	}
	byWeight := func(a, b Node) int { return cmp.Compare(a.weight(), b.weight()) }
	if !slices.IsSortedFunc(nodes, byWeight) {
		slices.SortStableFunc(nodes, byWeight)
	}
	g.digests = make([]uint64, len(nodes))
	g.mask = 1<<bits.Len(uint(len(nodes)-1)) - 1
	for i, n := range nodes {
		g.digests[i] = digest(n.Name)
	}
	if nodes[0].weight() != nodes[len(nodes)-1].weight() {
		g.weigh()
	}
	return g
}

func (g *group) uniform() bool { return g.bands == nil }

// best returns the k best nodes as candidates in order, 0 <= k <= len(g.nodes).
// It works in buf, which must have room for min(2*k, len(g.nodes)); more makes
// it faster.
//
// It admits only scores below the quantile where rather more than k of them are
// expected, so that few have to be sorted; when fewer than k turn up, it starts
// again with a wider one.
func (g *group) best(buf []uint64, key uint64, k int) []uint64 {
	if k == 0 {
		return nil
	}
	if !g.uniform() {
		return g.bestWeighted(buf, key, k)
	}
	for want := wanted(k); ; want *= 4 {
		limit := quantile(want / float64(len(g.digests)))
		if got := g.gather(buf, key, k, limit); len(got) >= k {
			return got[:k]
		}
	}
}

// wanted is how many nodes to admit so that k are among them: the number that
// pass is nearly Poisson, and 1.7 standard deviations leave one key in thirty to
// a second round. More would cost each key more to sort than that.
func wanted(k int) float64 { return float64(k) + 1.7*math.Sqrt(float64(k)) + 1 }

// quantile is the score at or below which a share of all scores lies.
func quantile(share float64) uint64 {
	if !(share < 1) {
		return math.MaxUint64
	}
	return uint64(share * (1 << 64))
}

// gather returns, in order, all nodes that score no more than limit, or those of
// them that the best k are among.
func (g *group) gather(buf []uint64, key uint64, k int, limit uint64) []uint64 {
	n, left := 0, len(g.digests)
	for {
		n, left = scan(g.digests, 0, left, key, limit, g.mask, buf, n)
		distribute(buf[:n], limit)
		g.order(buf[:n], key)
		if left == 0 {
			return buf[:n]
		}
		// buf is full: of its nodes only the best k can matter, and of those to
		// come only what is not worse than them. Equal scores must be let in.
		n = k
		limit = min(limit, score(key, g.digests[buf[k-1]&g.mask]))
	}
}

// order puts candidates into their exact order.
func (g *group) order(c []uint64, key uint64) {
	sortCandidates(c)
	for i := 1; i < len(c); i++ {
		if (c[i]^c[i-1])&^g.mask == 0 {
			g.repair(c, key)
			return
		}
	}
}

// repair puts candidates into their exact order that are in order but for the
// bits that their index displaced.
func (g *group) repair(c []uint64, key uint64) {
	for i := 0; i < len(c); {
		j := i + 1
		for j < len(c) && (c[j]^c[i])&^g.mask == 0 {
			j++
		}
		slices.SortFunc(c[i:j], func(a, b uint64) int {
			return g.compare(key, int(a&g.mask), int(b&g.mask))
		})
		i = j
	}
}

// compare orders two nodes as score v1 says.
func (g *group) compare(key uint64, a, b int) int {
	s, t := score(key, g.digests[a]), score(key, g.digests[b])
	if !g.uniform() {
		if c := cmp.Compare(exponential(s)/g.nodes[a].weight(), exponential(t)/g.nodes[b].weight()); c != 0 {
			return c
		}
	}
	if c := cmp.Compare(s, t); c != 0 {
		return c
	}
	return strings.Compare(g.nodes[a].Name, g.nodes[b].Name)
}
