package hashring

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// Node is a member of a [Ring]. Results hold the very values given to [New].
type Node struct {
	// Name is what is hashed: it identifies the node, and a node under another
	// name is another node. It must not be empty.
	Name string

	// Zone groups nodes for [Ring.Spread]; nothing else reads it. Nodes without
	// a zone form one zone of their own.
	Zone string

	// Weight is the node's share relative to the others. Zero means 1; other
	// values must lie between 1e-6 and 1e6.
	Weight float64
}

const (
	minWeight = 1e-6
	maxWeight = 1e6

	// maxNodes keeps indices within the bits that a packed candidate has for
	// them (see group), with room to spare.
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
	// Written so that NaN fails.
	if w := n.weight(); !(w >= minWeight && w <= maxWeight) {
		return fmt.Errorf("hashring: node %q: weight %v is neither 0 nor between %g and %g", n.Name, w, minWeight, maxWeight)
	}
	return nil
}

// Ring is an immutable set of nodes. The zero Ring has no nodes. Its methods may
// be called concurrently.
type Ring struct {
	all   group
	zones []zone // by name; nil when all nodes are of one zone
}

// New returns a ring of the given nodes, in whatever order. No nodes make a
// valid ring that picks none. An empty name, a name given twice or a weight
// outside its bounds is an error that names the node.
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

// newRing makes a ring of valid nodes sorted by name, which it keeps. Tests give
// another digest to force equal scores.
func newRing(sorted []Node, digest func(name string) uint64) *Ring {
	r := &Ring{zones: newZones(sorted, digest)}
	r.all = newGroup(sorted, digest)
	return r
}

// Len returns the number of nodes.
func (r *Ring) Len() int { return len(r.all.nodes) }

// Top returns the k best nodes for key, best first: all nodes if there are no
// more than k, and none if k is not positive.
func (r *Ring) Top(key string, k int) []Node { return r.AppendTop(r.room(k), key, k) }

// AppendTop appends what [Ring.Top] returns to dst and returns the extended
// slice. It does not allocate if dst has room for k more nodes; for k above 64
// it works in buffers that are pooled between calls.
func (r *Ring) AppendTop(dst []Node, key string, k int) []Node {
	return r.all.appendBest(dst, keyDigest(key), k)
}

// room returns an empty slice for k nodes, nil for none.
func (r *Ring) room(k int) []Node {
	if k = min(k, r.Len()); k <= 0 {
		return nil
	}
	return make([]Node, 0, k)
}

// Ranked returns all nodes in their order for key, best first, so that a caller
// can walk on to the next best until one suits. It is lazy: to stop after a few
// nodes costs about as much as one [Ring.Top]. The sequence can be walked again.
func (r *Ring) Ranked(key string) iter.Seq[Node] {
	return func(yield func(Node) bool) { r.all.ranked(keyDigest(key), yield) }
}
