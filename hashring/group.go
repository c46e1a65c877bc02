package hashring

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"strings"
	"sync"
)

// group is a set of nodes, either the whole ring or one zone, that selects its best nodes for a
// key.
//
// A candidate is a uint64 that represents a node, so that a selection sorts plain integers. Its
// lowest bits (see "mask") are the index of the node in the field "nodes". This field contains
// nodes of the same weight in the order of their names. The other bits of the candidate are the
// upper bits of the node's score or, if weights differ, of its cost. If two scores differ only in
// the lowest bits, the method "order" corrects their order.
type group struct {
	nodes   []Node   // the nodes, ordered by weight, and by name if the weights are equal
	digests []uint64 // the digests of nodes, in the same order
	mask    uint64   // the bits of a candidate that contain its index
	bands   []band   // nil if all weights are equal
	total   float64  // sum of weights
	squares float64  // sum of squared weights
}

// newGroup returns a group of nodes. The nodes must be sorted by name. The group keeps the slice.
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

// best returns candidates (see the comment of group) for the k best nodes, best first; 0 ≤ k ≤
// len(g.nodes). buf must have room for min(2*k, len(g.nodes)) candidates, and a larger buf is
// faster.
//
// To sort few candidates, best uses only the nodes whose score is at most a limit. On average, the
// limit selects slightly more than k nodes. If it selects fewer than k nodes, best starts again
// with a higher limit.
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

// To find the k best nodes, the method "best" selects the nodes whose score is below a limit.
// wanted returns how many nodes this limit shall select on average. The actual number has nearly a
// Poisson distribution. For about one key in thirty, it is smaller than k, and best needs a second
// round. A larger average would make best sort more candidates for every key.
func wanted(k int) float64 { return float64(k) + 1.7*math.Sqrt(float64(k)) + 1 }

// quantile returns a limit such that the given share of all possible scores is below the limit. The
// share is from 0 to 1.
func quantile(share float64) uint64 {
	if !(share < 1) {
		return math.MaxUint64
	}
	return uint64(share * (1 << 64))
}

// gather finds the nodes whose score is at most limit, and returns their candidates, best first. If
// all these candidates fit into buf, gather returns all of them. Otherwise it returns some of them,
// including the k best.
func (g *group) gather(buf []uint64, key uint64, k int, limit uint64) []uint64 {
	n, left := 0, len(g.digests)
	for {
		n, left = scan(g.digests, 0, left, key, limit, g.mask, buf, n)
		distribute(buf[:n], limit)
		g.order(buf[:n], key)
		if left == 0 {
			return buf[:n]
		}
		// buf is full, and nodes are left. Keep only the k best candidates, and scan the remaining
		// nodes with the worst score of these k as the limit. A node with exactly this score must
		// pass the limit: its name may come before the name of the k-th candidate.
		n = k
		limit = min(limit, score(key, g.digests[buf[k-1]&g.mask]))
	}
}

// The method "order" sorts the candidates c into the final order of their nodes. A candidate
// contains only the upper bits of the score or cost of its node. If these bits are equal in two
// candidates, the method compares the full scores or costs.
func (g *group) order(c []uint64, key uint64) {
	sortCandidates(c)
	for i := 1; i < len(c); i++ {
		if (c[i]^c[i-1])&^g.mask == 0 {
			g.repair(c, key)
			return
		}
	}
}

// repair corrects the order of the candidates c, which are already sorted as integers. A candidate
// has the upper bits of the node's score, and the index of the node in place of the lower bits. If
// candidates have equal upper bits, repair sorts them with the method "compare".
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

// compare compares the nodes with the indexes a and b in the order that score v1 defines.
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

// A selection of up to stackK nodes does not allocate: its candidates fit into stackSlots places on
// the caller's stack. To select 64 nodes, best makes 79 candidates on average; 128 places exceed
// this average by five standard deviations.
const (
	stackK     = 64
	stackSlots = 128
)

var buffers = sync.Pool{New: func() any { return new([]uint64) }}

// sized returns a part of *b as the buffer for [group.best]. If *b is too small, sized first
// replaces *b by a larger slice. The returned buffer is large enough for the fastest way in which
// best selects k of n nodes.
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

// ranked yields all nodes, best first. It works in rounds, and starts a round only when the caller
// needs more nodes: it selects the best 16 nodes, then the best 64, then the best 256, and so on.
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

// scan reads the digests (hashes of node names) in digests[from:to], from the last to the first.
// For each digest whose score for the key is at most limit, it writes a candidate to buf[n] and
// increments n. It stops when buf is full.
//
// scan returns the new n, and the index of the digest at which it has stopped. If it has read the
// whole range, this index is the argument "from".
func scan(digests []uint64, from, to int, key, limit, mask uint64, buf []uint64, n int) (int, int) {
	rest := digests[from:to]
	for n < len(buf) {
		var s uint64
		if rest, s = next(rest, key, limit); rest == nil {
			return n, from
		}
		buf[n] = s&^mask | uint64(from+len(rest))
		n++
	}
	return n, from + len(rest)
}

// The function "next" finds the last digest in d whose score is at most limit. It returns the part
// of d before this digest, and the score. If the digest is the first of d, the part is empty but
// not nil. If d has no such digest, the part is nil.
//
// The loop is unrolled, because a selection spends most of its time here: Ring.AppendTop takes 1.2
// µs instead of 2.4 µs for 20 of 1,000 nodes. This matters to programs that call AppendTop for each
// request. It does not matter to a terminator: with 2,000 services, a run of "terminator -once" takes
// 0.88 s (BenchmarkOnce in examples/terminator), and saves only 2 ms of it.
func next(d []uint64, key, limit uint64) ([]uint64, uint64) {
	for len(d) >= 8 {
		hi, lo := bits.Mul64(d[len(d)-1], key)
		if s := hi ^ lo; s <= limit {
			return d[:len(d)-1], s
		}
		hi, lo = bits.Mul64(d[len(d)-2], key)
		if s := hi ^ lo; s <= limit {
			return d[:len(d)-2], s
		}
		hi, lo = bits.Mul64(d[len(d)-3], key)
		if s := hi ^ lo; s <= limit {
			return d[:len(d)-3], s
		}
		hi, lo = bits.Mul64(d[len(d)-4], key)
		if s := hi ^ lo; s <= limit {
			return d[:len(d)-4], s
		}
		hi, lo = bits.Mul64(d[len(d)-5], key)
		if s := hi ^ lo; s <= limit {
			return d[:len(d)-5], s
		}
		hi, lo = bits.Mul64(d[len(d)-6], key)
		if s := hi ^ lo; s <= limit {
			return d[:len(d)-6], s
		}
		hi, lo = bits.Mul64(d[len(d)-7], key)
		if s := hi ^ lo; s <= limit {
			return d[:len(d)-7], s
		}
		hi, lo = bits.Mul64(d[len(d)-8], key)
		if s := hi ^ lo; s <= limit {
			return d[:len(d)-8], s
		}
		d = d[:len(d)-8]
	}
	for len(d) > 0 {
		hi, lo := bits.Mul64(d[len(d)-1], key)
		d = d[:len(d)-1]
		if s := hi ^ lo; s <= limit {
			return d, s
		}
	}
	return nil, 0
}

// distribute puts the candidates nearly into order, so that sortCandidates has less work. It uses
// up to 64 buckets. The values of the candidates must be evenly distributed from 0 to about the
// value of the argument "limit". If there are more than stackSlots candidates, distribute does
// nothing.
//
// With distribute, sorting a few dozen candidates takes half the time, because the CPU mispredicts
// fewer branches. This makes Ring.AppendTop a tenth faster for 20 of 1,000 nodes.
func distribute(c []uint64, limit uint64) {
	if len(c) > stackSlots {
		return
	}
	var copied [stackSlots]uint64
	var ends [64]uint8
	from := copied[:copy(copied[:], c)]
	shift := max(bits.Len64(limit), 6) - 6
	for _, v := range from {
		ends[v>>(shift&63)&63]++
	}
	sum := uint8(0)
	for i, n := range ends {
		ends[i] = sum
		sum += n
	}
	for _, v := range from {
		b := v >> (shift & 63) & 63
		c[ends[b]] = v
		ends[b]++
	}
}

// sortCandidates sorts candidates. If there are at most stackSlots of them, distribute has put them
// nearly into order already. An insertion sort is then the fastest way to finish.
func sortCandidates(c []uint64) {
	if len(c) > stackSlots {
		slices.Sort(c)
		return
	}
	for i := 1; i < len(c); i++ {
		v, j := c[i], i
		for ; j > 0 && c[j-1] > v; j-- {
			c[j] = c[j-1]
		}
		c[j] = v
	}
}
