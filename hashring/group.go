package hashring

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"strings"
	"sync"
)

// group is a set of nodes that selects the best of them for a key: the whole ring or one zone.
//
// During selection, a node is a candidate, a uint64: the score of the node, with its lowest bits
// replaced by the index of the node in nodes. If weights differ, the bits of the cost replace the
// score; they sort like the cost. Candidates sort as plain integers. Nodes of the same weight are
// in name order, so equal scores sort by name. Two scores that differ only in the replaced bits
// occur once in billions of comparisons. Method order detects and repairs their order.
type group struct {
	nodes   []Node   // by weight, then name
	digests []uint64 // of nodes
	mask    uint64   // the bits of a candidate that contain its index
	bands   []band   // nil if all weights are equal
	total   float64  // sum of weights
	squares float64  // sum of squared weights
}

// newGroup makes a group of nodes that are sorted by name. It keeps the slice.
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

// best returns the k best nodes as candidates in order, 0 <= k <= len(g.nodes). It uses buf, which
// must have room for min(2*k, len(g.nodes)) candidates. A larger buf makes it faster.
//
// It admits only scores up to a limit that slightly more than k nodes are expected to pass, so it
// sorts few candidates. If fewer than k pass, it starts again with a higher limit.
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

// wanted returns the number of nodes to admit on average so that at least k of them pass in most
// cases. The number that passes is nearly Poisson distributed. With 1.7 standard deviations, one
// key in thirty needs a second round. A larger number would cost every key more time to sort.
func wanted(k int) float64 { return float64(k) + 1.7*math.Sqrt(float64(k)) + 1 }

// quantile returns the score at or below which a share (0 to 1) of all scores is.
func quantile(share float64) uint64 {
	if !(share < 1) {
		return math.MaxUint64
	}
	return uint64(share * (1 << 64))
}

// gather returns candidates in order: all nodes with a score up to limit or, if there are more than
// fit into buf, at least the best k of them.
func (g *group) gather(buf []uint64, key uint64, k int, limit uint64) []uint64 {
	n, left := 0, len(g.digests)
	for {
		n, left = scan(g.digests, 0, left, key, limit, g.mask, buf, n)
		distribute(buf[:n], limit)
		g.order(buf[:n], key)
		if left == 0 {
			return buf[:n]
		}
		// buf is full. Keep the best k, and lower the limit to the worst score among them. The
		// limit still admits that score, because nodes of equal score sort by name.
		n = k
		limit = min(limit, score(key, g.digests[buf[k-1]&g.mask]))
	}
}

// order sorts candidates into the order of score v1.
func (g *group) order(c []uint64, key uint64) {
	sortCandidates(c)
	for i := 1; i < len(c); i++ {
		if (c[i]^c[i-1])&^g.mask == 0 {
			g.repair(c, key)
			return
		}
	}
}

// repair sorts candidates into the order of score v1. They are in order already, except for the
// bits that the index replaced.
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

// compare compares two nodes, given by index, in the order of score v1.
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

// To select up to stackK nodes, a group uses a buffer in the stack frame of the caller. For 64
// nodes, best admits 79 on average, so 128 slots leave five standard deviations to spare.
const (
	stackK     = 64
	stackSlots = 128
)

var buffers = sync.Pool{New: func() any { return new([]uint64) }}

// sized grows *b and returns a part of it that is long enough for best to select k of n nodes fast.
func sized(b *[]uint64, k, n int) []uint64 {
	size := min(2*k+stackSlots, n)
	if cap(*b) < size {
		*b = make([]uint64, size)
	}
	return (*b)[:size]
}

func (g *group) appendBest(dst []Node, key uint64, k int) []Node {
	k = min(k, len(g.nodes))
	if k <= 0 {
		return dst
	}
	if k <= stackK {
		var stack [stackSlots]uint64
		return g.appendNodes(dst, g.best(stack[:], key, k))
	}
	b := buffers.Get().(*[]uint64)
	defer buffers.Put(b)
	return g.appendNodes(dst, g.best(sized(b, k, len(g.nodes)), key, k))
}

func (g *group) appendNodes(dst []Node, candidates []uint64) []Node {
	n := len(dst)
	dst = slices.Grow(dst, len(candidates))[:n+len(candidates)]
	picked := dst[n:]
	for i := range picked {
		picked[i] = g.nodes[candidates[i]&g.mask]
	}
	return dst
}

// ranked yields all nodes, best first. It selects the best 16 nodes, then the best 64, and so on, as
// the caller proceeds.
func (g *group) ranked(key uint64, yield func(Node) bool) {
	b := buffers.Get().(*[]uint64)
	defer buffers.Put(b)
	for from, k := 0, 16; from < len(g.nodes); k *= 4 {
		k = min(k, len(g.nodes))
		for _, c := range g.best(sized(b, k, len(g.nodes)), key, k)[from:] {
			if !yield(g.nodes[c&g.mask]) {
				return
			}
		}
		from = k
	}
}
