package hashring

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// Node is a member of a [Ring]. Results contain the values that [New] received, unchanged.
type Node struct {
	// Name identifies the node, and the ring hashes it. It must not be empty. The same machine
	// under another name is another node.
	Name string

	// Zone groups nodes for [Ring.Spread]. Nothing else reads it. Nodes with an empty Zone form
	// one zone.
	Zone string

	// Weight is the share of the node relative to the other nodes. Zero means 1. Other values must
	// be between 1e-6 and 1e6.
	Weight float64
}

const (
	minWeight = 1e-6
	maxWeight = 1e6

	// maxNodes bounds the index of a node, which replaces the lowest bits of a 64-bit score (see
	// type group).
	maxNodes = 1 << 30
)

func (n Node) weight() float64 {
	if n.Weight == 0 {
		return 1
	}
	return n.Weight
}

func (n Node) validate() error {
	if n.Name == "" {
		return errors.New("hashring: node with an empty name")
	}
	// NaN fails this comparison; it would pass w < minWeight || w > maxWeight.
	if w := n.weight(); !(w >= minWeight && w <= maxWeight) {
		return fmt.Errorf("hashring: node %q: weight %v is neither 0 nor between %g and %g", n.Name, w, minWeight, maxWeight)
	}
	return nil
}

// Ring is an immutable set of nodes. The zero Ring has no nodes. Goroutines may call its methods
// concurrently.
type Ring struct {
	all   group
	zones []zone // sorted by name; nil if all nodes have the same zone
}

// New returns a ring of nodes. Their order does not matter. Without nodes, the ring is valid and
// picks none. New returns an error that names the node if a name is empty or occurs twice, or if a
// weight is out of bounds.
func New(nodes ...Node) (*Ring, error) {
	if len(nodes) > maxNodes {
		return nil, fmt.Errorf("hashring: %d nodes are more than %d", len(nodes), maxNodes)
	}
	for _, n := range nodes {
		if err := n.validate(); err != nil {
			return nil, err
		}
	}
	sorted := slices.Clone(nodes)
	slices.SortFunc(sorted, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(sorted); i++ {
		if sorted[i].Name == sorted[i-1].Name {
			return nil, fmt.Errorf("hashring: node %q is given twice", sorted[i].Name)
		}
	}
	return newRing(sorted, nodeDigest), nil
}

// newRing makes a ring of valid nodes that are sorted by name. It keeps the slice. Tests pass
// another digest function to force equal scores.
func newRing(sorted []Node, digest func(name string) uint64) *Ring {
	r := &Ring{zones: newZones(sorted, digest)}
	r.all = newGroup(sorted, digest)
	return r
}

// Len returns the number of nodes.
func (r *Ring) Len() int { return len(r.all.nodes) }

// Top returns the k best nodes for key, best first. It returns all nodes if the ring has k or
// fewer, and no nodes if k is 0 or negative.
func (r *Ring) Top(key string, k int) []Node { return r.AppendTop(r.room(k), key, k) }

// AppendTop appends the result of [Ring.Top] to dst and returns the extended slice. It does not
// allocate if dst has capacity for k more nodes. For k above 64, it uses buffers from a pool.
func (r *Ring) AppendTop(dst []Node, key string, k int) []Node {
	return r.all.appendBest(dst, keyDigest(key), k)
}

// room returns an empty slice with capacity for the nodes that Top(key, k) returns. It is nil for
// no nodes.
func (r *Ring) room(k int) []Node {
	if k = min(k, r.Len()); k <= 0 {
		return nil
	}
	return make([]Node, 0, k)
}

// Ranked returns a sequence of all nodes in their order for key, best first. Use it to try nodes
// until one of them suits. The sequence computes nodes on demand: the first few nodes cost about as
// much as one [Ring.Top]. A caller may iterate over the sequence more than once.
func (r *Ring) Ranked(key string) iter.Seq[Node] {
	return func(yield func(Node) bool) { r.all.ranked(keyDigest(key), yield) }
}

// Compare orders two nodes for key: the result is negative if a comes first, positive if b comes
// first, and 0 if both have the same name. [Ring.Top] and [Ring.Ranked] of every ring that holds
// both nodes have this order, and [Ring.Spread] has it within a zone.
//
// So a caller that keeps a full subset of a key needs no ring to add a node: the node enters the
// subset if it comes before the last one there.
//
// Compare does not check weights. They must be valid as [New] defines it.
func Compare(key string, a, b Node) int {
	digest := keyDigest(key)
	x, y := score(digest, nodeDigest(a.Name)), score(digest, nodeDigest(b.Name))
	byScore := cmp.Or(cmp.Compare(x, y), strings.Compare(a.Name, b.Name))
	if v, w := a.weight(), b.weight(); v != w {
		return cmp.Or(cmp.Compare(exponential(x)/v, exponential(y)/w), byScore)
	}
	return byScore
}
