package nodeselect

import (
	"slices"

	"github.com/headgate/headgate/hashring"
)

// memberChange is the difference of two pools for one identity. before is nil if the member is new,
// after is nil if the member is gone.
type memberChange struct{ before, after *member }

// memberChanges returns the differences of two pools.
func memberChanges(before, after *Pool) []memberChange {
	var gone, added []*member
	var changes []memberChange
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
			added = append(added, &b[0])
			b = b[1:]
		default:
			changes = append(changes, memberChange{&a[0], &b[0]})
			a, b = a[1:], b[1:]
		}
	}
	// The order is by name first, so an identity with a new name is both gone and added.
	byIdentity := make(map[string]*member, len(gone))
	for _, m := range gone {
		byIdentity[m.Identity] = m
	}
	for _, m := range added {
		changes = append(changes, memberChange{byIdentity[m.Identity], m})
		delete(byIdentity, m.Identity)
	}
	for _, m := range byIdentity {
		changes = append(changes, memberChange{m, nil})
	}
	return changes
}

// manyChanges is the number of changed members above which picking for all services costs less than
// finding the affected ones.
const manyChanges = 64

// markAffected marks the services whose subsets may differ between the pool before and u.pool. To
// mark too many services costs time. To mark too few is a fault.
//
// A service is affected if a node of its subset changes. A node outside of the subset matters only
// if it can enter, which follows from how Pick works: the subset is the nodes of best rank among
// the Eligible ones and those to Avoid that are in use, and each zone has a share of the places. So
// a node outside that leaves changes nothing, and a node that joins matters if it ranks before the
// last node of its zone. The share of a zone depends on the number of its nodes only while the zone
// has fewer nodes than its share.
func (u *update) markAffected(before *Pool) {
	changes := memberChanges(before, u.pool)
	if len(changes) > manyChanges {
		for _, s := range u.order {
			u.mark(s, true)
		}
		return
	}
	u.indexUsers()
	var joins []memberChange
	for _, c := range changes {
		if c.before != nil {
			for _, s := range u.users[c.before.Identity] {
				u.mark(s, true)
			}
		}
		if c.after != nil {
			joins = append(joins, c)
		}
	}
	if len(joins) == 0 && len(u.objects.ReadyNodes) == 0 {
		return
	}
	competing := before.eligibleByZone()
	for _, s := range u.order {
		if !s.picked || s.repick {
			continue
		}
		if s.local && anyNamed(changes, u.objects.ReadyNodes[s.key]) {
			u.mark(s, true)
			continue
		}
		if s.restricted {
			continue
		}
		for _, c := range joins {
			if u.mayEnter(s, c, before, competing) {
				u.mark(s, true)
				break
			}
		}
	}
}

// indexUsers sets users: the services that have a node in their subset, by the node's identity.
// From then on setSubset keeps users up to date.
func (t *Tracker) indexUsers() {
	if t.users != nil {
		return
	}
	t.users = map[string][]*service{}
	for _, s := range t.order {
		if !s.picked {
			continue
		}
		for i := range s.nodes {
			id := s.nodes[i].Identity
			t.users[id] = append(t.users[id], s)
		}
	}
}

// eligibleByZone returns the number of Eligible nodes in each zone; nil without Spread.
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

// anyNamed reports whether one of the changes is of a node with one of the names. names are sorted.
func anyNamed(changes []memberChange, names []string) bool {
	named := func(m *member) bool {
		if m == nil {
			return false
		}
		_, found := slices.BinarySearch(names, m.Name)
		return found
	}
	return len(names) > 0 && slices.ContainsFunc(changes, func(c memberChange) bool { return named(c.before) || named(c.after) })
}

// mayEnter reports whether a member outside of a service's subset may enter it. before is the pool
// that the subset is from, and competing its eligibleByZone.
func (u *update) mayEnter(s *service, c memberChange, before *Pool, competing map[string]int) bool {
	if !s.described {
		before.describe(s)
	}
	p, m := u.pool, c.after
	switch {
	case s.excluded || len(s.nodes) == 0:
		return true // every other verdict is better, and another Excluded node may rank better
	case m.verdict == Excluded:
		return false // the subset has nodes with a better verdict
	case len(s.nodes) < p.size:
		return true
	case m.verdict == Avoid || p.sticky:
		return false // the subset is full
	case c.before != nil && c.before.verdict == Eligible && c.before.Zone == m.Zone:
		return false // its rank was too low before, and ranks do not change
	}
	zone, last := p.zone(m.ringNode()), -1
	for i := range s.last {
		if s.last[i].zone == zone {
			last = i
		}
	}
	if p.spread {
		have := 0
		if last >= 0 {
			have = s.last[last].count
		}
		if competing[zone] <= have {
			return true // all nodes of the zone are in use, so the share of the zone may grow
		}
	}
	return last >= 0 && hashring.Compare(s.key, m.ringNode(), s.nodes[s.last[last].index].ringNode()) < 0
}

// zoneLast is the node of least rank that a subset has in a zone. Without Spread there is one zone.
type zoneLast struct {
	zone  string
	index int // in the subset
	count int // number of the subset's nodes in the zone
}

// describe sets excluded and last of a service, whose subset is from p.
func (p *Pool) describe(s *service) {
	s.described, s.excluded = true, false
	s.last = s.last[:0]
	for i, n := range s.nodes {
		if j, ok := p.index[n.Identity]; ok && p.members[j].verdict == Excluded {
			s.excluded = true
		}
		zone := p.zone(n.ringNode())
		j := slices.IndexFunc(s.last, func(l zoneLast) bool { return l.zone == zone })
		if j < 0 {
			s.last = append(s.last, zoneLast{zone: zone, index: i, count: 1})
			continue
		}
		l := &s.last[j]
		l.count++
		if hashring.Compare(s.key, n.ringNode(), s.nodes[l.index].ringNode()) > 0 {
			l.index = i
		}
	}
}
