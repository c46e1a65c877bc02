package hashring

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// zone is the nodes of one zone.
type zone struct {
	name   string
	digest uint64
	group  group
}

// newZones groups nodes, which are sorted by name, by zone. It returns nil if
// they are all of one.
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

// Spread returns k nodes for key taken evenly from all zones, whatever their
// sizes. It is [Ring.Top] if there is one zone.
//
// The zones are ordered for each key by their scores, as nodes are, and take
// turns: the best node of each zone in this order, then the second best of
// each, and so on until there are k. A zone that has no more nodes is passed
// over, so its share falls evenly to the others. The result is in this order:
// its first nodes are the best of each zone, and Spread(key, k) is the beginning
// of Spread(key, k+1).
//
// So each zone gives k/zones nodes, rounded down or up, unless one has fewer;
// over many keys the zones that give one more are drawn fairly, and for one key
// they stay the same whatever joins or leaves. Weights count among the nodes of
// a zone, not among zones.
//
// Churn is the least possible here too: when a node leaves the ring, the keys
// that had it take one other node and all other keys keep their nodes; a node
// that joins displaces at most one node of a key. This holds also where a zone
// is short of nodes, appears or vanishes. A node that changes its zone leaves
// the one and joins the other.
func (r *Ring) Spread(key string, k int) []Node { return r.AppendSpread(r.room(k), key, k) }

// AppendSpread appends what [Ring.Spread] returns to dst and returns the
// extended slice. It does not allocate if dst has room for k more nodes, k is at
// most 64, and there are no more than 16 zones.
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

	// Each zone selects in what is left of one buffer, keeps its candidates at the
	// front of that, and leaves the rest to the next zone.
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

// turn is one zone's part in a Spread.
type turn struct {
	zone  *zone
	score uint64
	quota int
	from  int // where its candidates start
}

// turns appends the zones in their order for a key to dst, with quotas that add
// up to k, which must not exceed the number of nodes.
func (r *Ring) turns(dst []turn, key uint64, k int) []turn {
	for i := range r.zones {
		z := &r.zones[i]
		dst = append(dst, turn{zone: z, score: score(key, z.digest)})
	}
	slices.SortFunc(dst, func(a, b turn) int {
		return cmp.Or(cmp.Compare(a.score, b.score), strings.Compare(a.zone.name, b.zone.name))
	})
	// Raise all quotas together as far as k goes, up to the size of each zone;
	// what small zones leave is shared again among the others. In the end fewer
	// seats are left than zones with room, and the first of those take one each.
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
