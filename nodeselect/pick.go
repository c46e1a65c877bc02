package nodeselect

import (
	"maps"
	"slices"

	"github.com/headgate/headgate/hashring"
)

// Pick returns the nodes for a service, sorted by name. key is its Ref.Key, "namespace/name".
// current contains the nodes that the service uses now, by their Identity; nil means unknown.
//
// Pick chooses the nodes of best rank among the Eligible nodes and the current nodes with the
// verdict Avoid. With Sticky, current nodes keep their places. If there are too few such nodes,
// Pick adds other nodes with the verdict Avoid, and Excluded nodes only if there is no other node.
func (p *Pool) Pick(key string, current []Node) []Node {
	var scratch [64]hashring.Node
	picked := p.best(p.rings[Eligible], scratch[:0], key, p.size)
	if len(current) > 0 {
		picked = p.keep(picked, key, current)
	}
	if len(picked) < p.size && p.rings[Avoid].Len() > 0 {
		picked = p.fill(picked, key)
	}
	if len(picked) == 0 {
		picked = p.best(p.rings[Excluded], picked, key, p.size)
	}
	return p.byName(picked)
}

// byName returns the picked nodes, sorted by name. It sorts their indexes and not the nodes,
// because nodes are large.
func (p *Pool) byName(picked []hashring.Node) []Node {
	var scratch [64]int32
	order := scratch[:0]
	for i := range picked {
		order = append(order, p.index[picked[i].Name])
	}
	slices.Sort(order)
	nodes := make([]Node, len(order))
	for i, m := range order {
		nodes[i] = p.members[m].Node
	}
	return nodes
}

// best appends the k nodes of best rank in r to dst. With Spread, it chooses the same number of
// nodes from each zone, as far as possible.
func (p *Pool) best(r *hashring.Ring, dst []hashring.Node, key string, k int) []hashring.Node {
	if p.spread {
		return r.AppendSpread(dst, key, k)
	}
	return r.AppendTop(dst, key, k)
}

// keep returns the new nodes of a service, at most p.size. picked contains the best Eligible nodes,
// and current the present nodes of the service:
//
//   - Without Sticky, the new nodes are the best of the picked nodes and the current Avoid nodes.
//   - With Sticky, the current Eligible and Avoid nodes get the first places, and the picked nodes
//     the others.
func (p *Pool) keep(picked []hashring.Node, key string, current []Node) []hashring.Node {
	in := make(map[string]bool, len(picked)+len(current))
	var stay []hashring.Node
	for _, n := range current {
		i, ok := p.index[n.Identity]
		if !ok || in[n.Identity] {
			continue
		}
		m := &p.members[i]
		if m.verdict > Avoid || m.verdict == Eligible && !p.sticky {
			continue
		}
		in[n.Identity] = true
		stay = append(stay, m.ringNode())
	}
	switch {
	case len(stay) == 0:
		return picked
	case len(stay) >= p.size:
		return p.best(newRing(stay), nil, key, p.size)
	}
	var others []hashring.Node
	for _, n := range picked {
		if !in[n.Name] {
			others = append(others, n)
		}
	}
	if p.sticky {
		return fillPlaces(stay, others, p.size, p.spread)
	}
	// The ring needs only the nodes that may stay and the picked nodes. A ring that also contains
	// all other Eligible nodes would give the same result with more work: a node that was not
	// picked affects neither the rank of another node nor the share of a zone.
	return p.best(newRing(append(stay, others...)), nil, key, p.size)
}

// fill adds avoided nodes, best first for key, until the subset is full. To save time, it reads
// only as many nodes as it needs. The time matters if a cluster loses its control plane: all nodes
// become avoided, and Pick calls fill for every service.
func (p *Pool) fill(picked []hashring.Node, key string) []hashring.Node {
	places := p.size - len(picked)
	in := make(map[string]bool, len(picked))
	room := maps.Clone(p.avoidable) // number of further avoided nodes in each zone
	for _, n := range picked {
		in[n.Name] = true
		if p.members[p.index[n.Name]].verdict == Avoid {
			room[p.zone(n)]--
		}
	}
	wanted := 0
	for zone, n := range room {
		room[zone] = min(n, places)
		wanted += room[zone]
	}
	others := make([]hashring.Node, 0, wanted)
	for n := range p.rings[Avoid].Ranked(key) {
		if !in[n.Name] && room[p.zone(n)] > 0 {
			room[p.zone(n)]--
			others = append(others, n)
		}
		if len(others) == wanted {
			break
		}
	}
	return fillPlaces(picked, others, p.size, p.spread)
}

// zone returns the zone of a node. Without Spread, it returns "" for every node.
func (p *Pool) zone(n hashring.Node) string {
	if !p.spread {
		return ""
	}
	return n.Zone
}

// fillPlaces appends nodes from "others" to "nodes", until "nodes" has as many nodes as the
// argument "size" says. The list "others" must be sorted by rank, best first. With spread, each
// place goes to the zone that has the fewest nodes so far.
func fillPlaces(nodes, others []hashring.Node, size int, spread bool) []hashring.Node {
	if !spread {
		return append(nodes, others[:min(len(others), size-len(nodes))]...)
	}
	count := make(map[string]int)
	for _, n := range nodes {
		count[n.Zone]++
	}
	for len(nodes) < size && len(others) > 0 {
		best := 0
		for i := range others {
			if count[others[i].Zone] < count[others[best].Zone] {
				best = i
			}
		}
		nodes = append(nodes, others[best])
		count[others[best].Zone]++
		others = slices.Delete(others, best, best+1)
	}
	return nodes
}
