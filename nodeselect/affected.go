package nodeselect

import (
	"slices"

	"github.com/headgate/headgate/hashring"
)

// shift is what happens to a member of a pool: nil, it was or is not there.
type shift struct{ before, after *member }

// shifts gives the differences of two pools by identity.
func shifts(before, after *Pool) []shift {
	var gone, come []*member
	var list []shift
	a, b := before.members, after.members
	for len(a) > 0 || len(b) > 0 {
		order := 0
		switch {
		case len(a) == 0:
			order = 1
		case len(b) == 0:
			order = -1
		case a[0] == b[0]:
			a, b = a[1:], b[1:]
			continue
		default:
			order = a[0].compare(b[0])
		}
		switch {
		case order < 0:
			gone = append(gone, &a[0])
			a = a[1:]
		case order > 0:
			come = append(come, &b[0])
			b = b[1:]
		default:
			list = append(list, shift{&a[0], &b[0]})
			a, b = a[1:], b[1:]
		}
	}
	// What is gone under one name may have come under another.
	byIdentity := make(map[string]*member, len(gone))
	for _, m := range gone {
		byIdentity[m.Identity] = m
	}
	for _, m := range come {
		list = append(list, shift{byIdentity[m.Identity], m})
		delete(byIdentity, m.Identity)
	}
	for _, m := range byIdentity {
		list = append(list, shift{m, nil})
	}
	return list
}

// manyShifts is from where on it costs less to pick for all services than to find out
// which ones are affected.
const manyShifts = 64

// pickAgain marks the services whose subsets the step from before to the pool of now
// may change. That a subset is marked in vain costs time; one that is not marked and
// would have changed is a fault.
//
// Whether a node that a service has not got matters follows from how Pick works. The
// best nodes are those of least rank among the eligible ones and those to avoid that
// are in use, in each zone as many as its share is: so a node that leaves and was not
// among them changes nothing, and one that joins matters only if it comes before the
// last of them. The share of a zone depends on its size only while it has too few.
func (u *updating) pickAgain(before *Pool) {
	list := shifts(before, u.pool)
	if len(list) > manyShifts {
		for _, d := range u.order {
			u.dirty[d] = true
		}
		return
	}
	joins := list[:0:0]
	for _, s := range list {
		if s.before != nil {
			for _, d := range u.users[s.before.Identity] {
				u.dirty[d] = true
			}
		}
		if s.after != nil {
			joins = append(joins, s)
		}
	}
	if len(joins) == 0 && len(u.objects.ReadyNodes) == 0 {
		return
	}
	competing := before.eligibleByZone()
	for _, d := range u.order {
		if !d.picked || u.dirty[d] {
			continue
		}
		if d.local && touches(list, u.objects.ReadyNodes[d.key]) {
			u.dirty[d] = true
			continue
		}
		if d.restricted {
			continue
		}
		for _, s := range joins {
			if u.mayJoin(d, s, competing) {
				u.dirty[d] = true
				break
			}
		}
	}
}

// eligibleByZone counts the nodes of each zone that compete for its places.
func (p *Pool) eligibleByZone() map[string]int {
	if !p.spread {
		return nil
	}
	count := make(map[string]int)
	for i := range p.members {
		if m := &p.members[i]; m.verdict == Eligible {
			count[m.Zone]++
		}
	}
	return count
}

// touches is true if one of the nodes that names has, sorted, is among the shifts.
func touches(list []shift, names []string) bool {
	has := func(m *member) bool {
		if m == nil {
			return false
		}
		_, found := slices.BinarySearch(names, m.Name)
		return found
	}
	return len(names) > 0 && slices.ContainsFunc(list, func(s shift) bool { return has(s.before) || has(s.after) })
}

// mayJoin says whether a node that d has not got may enter its subset.
func (u *updating) mayJoin(d *declared, s shift, competing map[string]int) bool {
	p, m := u.pool, s.after
	switch {
	case d.excluded || len(d.nodes) == 0:
		return true // any node is better, and other excluded ones are as good
	case m.verdict == Excluded:
		return false // there are others
	case len(d.nodes) < p.size:
		return true
	case m.verdict == Avoid || p.sticky:
		return false // full
	case s.before != nil && s.before.verdict == Eligible && s.before.Zone == m.Zone:
		return false // it was not among the best, and its rank is the same
	}
	zone, last := p.zone(m.ringNode()), -1
	for i := range d.last {
		if d.last[i].zone == zone {
			last = i
		}
	}
	if p.spread {
		have := 0
		if last >= 0 {
			have = d.last[last].count
		}
		if competing[zone] <= have {
			return true // the zone gave all it had: with one more its share may grow
		}
	}
	return last >= 0 && hashring.Compare(d.key, m.ringNode(), d.nodes[d.last[last].index].ringNode()) < 0
}

// zoneLast is the last by rank of the nodes that a subset has in a zone.
type zoneLast struct {
	zone  string
	index int // in the subset
	count int // of nodes in the zone
}

// describe notes what mayJoin needs of a subset.
func (u *updating) describe(d *declared) {
	d.excluded = false
	d.last = d.last[:0]
	for i, n := range d.nodes {
		if j, ok := u.pool.index[n.Identity]; ok && u.pool.members[j].verdict == Excluded {
			d.excluded = true
		}
		zone := u.pool.zone(n.ringNode())
		j := slices.IndexFunc(d.last, func(l zoneLast) bool { return l.zone == zone })
		if j < 0 {
			d.last = append(d.last, zoneLast{zone: zone, index: i, count: 1})
			continue
		}
		l := &d.last[j]
		l.count++
		if hashring.Compare(d.key, n.ringNode(), d.nodes[l.index].ringNode()) > 0 {
			l.index = i
		}
	}
}
