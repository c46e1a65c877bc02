package hashring

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// zone is one zone of a ring, with its nodes.
type zone struct {
	name   string
	digest uint64
	group  group
}

// newZones groups nodes by zone. The nodes must be sorted by name. If all nodes have the same zone,
// newZones returns nil.
func newZones(nodes []Node, digest func(name string) uint64) []zone {
	byName := map[string][]Node{}
	for _, n := range nodes {
		byName[n.Zone] = append(byName[n.Zone], n)
	}
	if len(byName) < 2 {
		return nil
	}
	zones := make([]zone, 0, len(byName))
	for name, nodes := range byName {
		zones = append(zones, zone{name: name, digest: zoneDigest(name), group: newGroup(nodes, digest)})
	}
	slices.SortFunc(zones, func(a, b zone) int { return strings.Compare(a.name, b.name) })
	return zones
}

// Spread returns k nodes for key, equally many from each zone if possible. If all nodes of the ring
// are in one zone, Spread returns the same nodes as [Ring.Top].
//
// The key and the names of the zones determine the order of the zones; nodes that join or leave do
// not change it. Spread picks the best node of each zone in this order, then the second best of
// each, and so on, and skips zones without further nodes. So Spread(key, k) is the beginning of
// Spread(key, k+1).
//
// Each zone contributes k/zones nodes, rounded down or up, unless a zone has fewer. Over many keys,
// each zone contributes the additional node equally often. The weight of a node affects only the
// choice within its zone.
//
// As few nodes as possible move. When a node leaves the ring, each key whose result contained this
// node gets one other node in its place. The results of all other keys stay the same. A node that
// joins replaces at most one node of each key. A node that changes its zone counts as one node that
// leaves and one that joins.
func (r *Ring) Spread(key string, k int) []Node { return r.AppendSpread(r.room(k), key, k) }

// AppendSpread appends the result of [Ring.Spread] to dst and returns the extended slice. It does
// not allocate if three conditions hold: dst has capacity for k more nodes, k is at most 64, and
// the ring has at most 16 zones.
func (r *Ring) AppendSpread(dst []Node, key string, k int) []Node {
	if len(r.zones) == 0 {
		return r.AppendTop(dst, key, k)
	}
	k = min(k, r.Len())
	if k <= 0 {
		return dst
	}
	digest := keyDigest(key)
	var zones [16]turn
	turns := r.turns(zones[:0], digest, k)

	// All zones share one buffer: "best" writes the candidates of a zone to buf[from:]. Only the
	// first t.quota of them are part of the result, so the next zone may overwrite the others.
	var stack [stackSlots + stackK]uint64
	buf := stack[:]
	if k > stackK {
		b := buffers.Get().(*[]uint64)
		defer buffers.Put(b)
		buf = sized(b, 2*k, math.MaxInt)
	}
	from := 0
	for i := range turns {
		t := &turns[i]
		t.zone.group.best(buf[from:], digest, t.quota)
		t.from = from
		from += t.quota
	}

	dst = slices.Grow(dst, k)
	for round := 0; k > 0; round++ {
		for i := range turns {
			if t := &turns[i]; round < t.quota {
				g := &t.zone.group
				dst = append(dst, g.nodes[buf[t.from+round]&g.mask])
				k--
			}
		}
	}
	return dst
}

// turn describes what one zone contributes to a result of Spread: how many nodes, and from which
// candidates.
type turn struct {
	zone  *zone
	score uint64
	quota int // number of nodes
	from  int // index of its first candidate in the buffer
}

// turns divides the k places of a result between the zones. A zone gets at most as many places as
// it has nodes. For each zone, turns appends a turn to dst, in the order of the zones for key. The
// field quota of the turn is the number of places of the zone.
func (r *Ring) turns(dst []turn, key uint64, k int) []turn {
	for i := range r.zones {
		z := &r.zones[i]
		dst = append(dst, turn{zone: z, score: score(key, z.digest)})
	}
	slices.SortFunc(dst, func(a, b turn) int {
		return cmp.Or(cmp.Compare(a.score, b.score), strings.Compare(a.zone.name, b.zone.name))
	})
	// In each round, every zone that still has nodes gets the same number of places, but no more
	// than it has nodes. When fewer places are left than there are such zones, the first of these
	// zones get one place each.
	for open := len(dst); k >= open && k > 0; {
		level := k / open
		open = 0
		for i := range dst {
			t := &dst[i]
			room := len(t.zone.group.nodes) - t.quota
			give := min(level, room)
			t.quota += give
			k -= give
			if give < room {
				open++
			}
		}
	}
	for i := range dst {
		if t := &dst[i]; k > 0 && t.quota < len(t.zone.group.nodes) {
			t.quota++
			k--
		}
	}
	return dst
}
