package hashring

import (
	"slices"
	"sync"
)

// Up to stackK nodes are selected within the caller's stack frame. 128 slots
// hold what best admits for 64 nodes (79 expected) with five standard
// deviations to spare.
const (
	stackK     = 64
	stackSlots = 128
)

var buffers = sync.Pool{New: func() any { return new([]uint64) }}

// sized makes *b long enough for best to take k of n nodes, at some speed.
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

// ranked yields all nodes, best first, selecting ever larger beginnings of the
// order as they are asked for.
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
