package hashring

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// Node is a member of a [Ring]. The methods of the Ring return each Node unchanged, as the caller
// passed it to [New].
type Node struct {
	// Name identifies the node, and is all that the ring hashes. It must not be empty.
	Name string

	// Zone is the zone of the node for [Ring.Spread]. All other methods ignore it. Nodes with an
	// empty Zone form one zone.
	Zone string

	// Weight is the weight of the node, relative to the weights of the other nodes. 0 means 1.
	// Other values must be between 1e-6 and 1e6.
	Weight float64
}

const (
	minWeight = 1e-6
	maxWeight = 1e6

	// maxNodes limits the number of nodes. The index of a node replaces the lowest bits of a 64-bit
	// score (see type group). With at most 30 bits for the index, at least 34 bits of the score
	// remain.
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
	// NaN is an error too. Every comparison with NaN is false. So the shorter condition w <
	// minWeight || w > maxWeight would accept NaN.
	if w := n.weight(); !(w >= minWeight && w <= maxWeight) {
		return fmt.Errorf("hashring: node %q: weight %v is neither 0 nor between %g and %g", n.Name, w, minWeight, maxWeight)
	}
	return nil
}

// Ring is an immutable set of nodes. The zero Ring has no nodes. Any number of goroutines may call
// its methods at the same time.
type Ring struct {
	all   group
	zones []zone // sorted by name; nil if all nodes have the same zone
}

// New returns a ring of nodes, in any order; without nodes, the ring is valid and empty. It returns
// an error, with the name of the node, if a name is empty or occurs twice, or if a weight is out of
// bounds.
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

// newRing returns a ring of valid nodes sorted by name, and keeps the slice. Tests pass their own
// digest function, to get nodes with equal scores.
func newRing(sorted []Node, digest func(name string) uint64) *Ring {
	r := &Ring{zones: newZones(sorted, digest)}
	r.all = newGroup(sorted, digest)
	return r
}

// Len returns the number of nodes.
func (r *Ring) Len() int { return len(r.all.nodes) }

// Top returns the k best nodes for key, best first. If the ring has fewer than k nodes, Top returns
// all of them. If k is 0 or negative, Top returns no nodes.
func (r *Ring) Top(key string, k int) []Node { return r.AppendTop(r.room(k), key, k) }

// AppendTop appends the result of [Ring.Top] to dst and returns the extended slice. It does not
// allocate if dst has capacity for k more nodes. If k is above 64, it uses buffers from a
// sync.Pool.
func (r *Ring) AppendTop(dst []Node, key string, k int) []Node {
	return r.all.appendBest(dst, keyDigest(key), k)
}

// room returns an empty slice with capacity for the result of Top(key, k). If that result has no
// nodes, room returns nil.
func (r *Ring) room(k int) []Node {
	if k = min(k, r.Len()); k <= 0 {
		return nil
	}
	return make([]Node, 0, k)
}

// Ranked returns a sequence of all nodes for key, best first, for example to try nodes until one is
// suitable. The sequence computes nodes on demand: the first few cost about as much as one
// [Ring.Top]. It may be used more than once.
func (r *Ring) Ranked(key string) iter.Seq[Node] {
	return func(yield func(Node) bool) { r.all.ranked(keyDigest(key), yield) }
}

// Compare returns a negative number if the node a ranks before the node b for key, a positive
// number if b ranks before a, and 0 if they have the same name. [Ring.Top] and [Ring.Ranked] return
// nodes in this order, and so does [Ring.Spread] within a zone.
//
// So a caller that has stored the k best nodes of a key can add a node without a ring: if the new
// node ranks before the last of the k nodes, it replaces that node. Compare does not check weights;
// pass only weights that [New] accepts.
func Compare(key string, a, b Node) int {
	digest := keyDigest(key)
	x, y := score(digest, nodeDigest(a.Name)), score(digest, nodeDigest(b.Name))
	byScore := cmp.Or(cmp.Compare(x, y), strings.Compare(a.Name, b.Name))
	if v, w := a.weight(), b.weight(); v != w {
		return cmp.Or(cmp.Compare(exponential(x)/v, exponential(y)/w), byScore)
	}
	return byScore
}
