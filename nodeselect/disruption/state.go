package disruption

import (
	"fmt"
	"maps"
	"slices"

	"github.com/headgate/headgate/nodeselect"
)

// State holds the subsets of a cluster, and which nodes are away. It is not safe for concurrent
// use. When the subsets change, make another State with New.
type State struct {
	budget   Budget
	names    []string // the names of the nodes, sorted
	index    map[string]int32
	zoneOf   []int32 // index of the node's zone in zones, by node
	zones    []string
	services []string

	limits   []limit
	limitsOf lists // the limits for which a node counts
	nodesOf  lists // the nodes that count for a limit
	maxAway  int

	away    []bool // whether the node is away, by node
	awayIn  []int  // number of nodes that are away and in a subset, by zone
	awayAll int    // number of nodes that are away and in a subset, in all zones

	// The method May marks the nodes of its arguments in these two fields during a call. At the end
	// of the call, all elements of wasNamed are false.
	named    []int32
	wasNamed []bool // by node
}

// limit says how many nodes of a service, or of a service and a zone, may be away at the same time
// (max), and how many of them are away now (away).
type limit struct {
	away, max int32
	service   int32
	zone      int32 // index in State.zones; noZone if members of all zones count
}

const noZone = -1

// lists are many lists of numbers in one slice.
type lists struct {
	start []int32 // list i is items[start[i]:start[i+1]]
	items []int32
}

func (l *lists) of(i int32) []int32 { return l.items[l.start[i]:l.start[i+1]] }

// New returns a State in which all nodes are present. nodes are all nodes of the cluster; nil means
// all nodes in the subsets. subsets are those of each configuration that balancers use at present.
// If a subset contains a node that is missing in the argument "nodes", this node counts as away.
//
// New returns an error if the budget is not valid, if a node has no name, or if two nodes have the
// same name.
func New(b Budget, nodes []nodeselect.Node, subsets ...nodeselect.Subsets) (*State, error) {
	if err := b.Validate(); err != nil {
		return nil, err
	}
	s := &State{budget: b}
	missing, err := s.addNodes(nodes, subsets)
	if err != nil {
		return nil, err
	}
	s.addLimits(subsets)
	s.maxAway = b.nodes(len(s.names) - len(missing))
	s.away = make([]bool, len(s.names))
	s.awayIn = make([]int, len(s.zones))
	s.wasNamed = make([]bool, len(s.names))
	s.Away(missing...)
	return s, nil
}

// addNodes stores the nodes and their zones in the State. The result "missing" contains the names
// of the nodes that are in a subset, but not in the argument "nodes".
func (s *State) addNodes(nodes []nodeselect.Node, subsets []nodeselect.Subsets) (missing []string, err error) {
	zones := make(map[string]string, len(nodes))
	for _, n := range nodes {
		if _, ok := zones[n.Name]; ok {
			return nil, fmt.Errorf("disruption: node %q occurs twice", n.Name)
		}
		if n.Name == "" {
			return nil, fmt.Errorf("disruption: a node with the address %v has no name", n.Addr)
		}
		zones[n.Name] = n.Zone
	}
	for _, set := range subsets {
		for _, service := range slices.Sorted(maps.Keys(set)) {
			for _, n := range set[service] {
				if n.Name == "" {
					return nil, fmt.Errorf("disruption: a node of service %s with the address %v has no name", service, n.Addr)
				}
				if _, ok := zones[n.Name]; ok {
					continue
				}
				zones[n.Name] = n.Zone
				if nodes != nil {
					missing = append(missing, n.Name)
				}
			}
		}
	}
	s.names = slices.Sorted(maps.Keys(zones))
	s.index = make(map[string]int32, len(s.names))
	s.zones = slices.Compact(slices.Sorted(maps.Values(zones)))
	s.zoneOf = make([]int32, len(s.names))
	for i, name := range s.names {
		s.index[name] = int32(i)
		zone, _ := slices.BinarySearch(s.zones, zones[name])
		s.zoneOf[i] = int32(zone)
	}
	return missing, nil
}

// addLimits adds every service in the subsets, and the limits that the Budget sets for it, to the
// State.
func (s *State) addLimits(subsets []nodeselect.Subsets) {
	keys := map[string]bool{}
	for _, set := range subsets {
		for service := range set {
			keys[service] = true
		}
	}
	s.services = slices.Sorted(maps.Keys(keys))
	s.nodesOf.start = append(s.nodesOf.start, 0)
	var members []int32
	for i, service := range s.services {
		first := len(s.limits)
		for _, set := range subsets {
			members = members[:0]
			for _, n := range set[service] {
				members = append(members, s.index[n.Name])
			}
			slices.Sort(members)
			members = slices.Compact(members)
			if len(members) > 0 && !s.hasLimit(first, members) {
				s.addLimit(int32(i), members)
			}
		}
	}
	s.limitsOf = s.nodesOf.invert(len(s.names))
}

// hasLimit reports whether s.limits already contains a limit for exactly the nodes in the argument
// "members". The argument "first" is the first index at which hasLimit searches. In most cases, all
// balancers use the same subset of a service, so addLimits needs only one limit for all of them.
func (s *State) hasLimit(first int, members []int32) bool {
	for i := first; i < len(s.limits); i++ {
		if s.limits[i].zone == noZone && slices.Equal(s.nodesOf.of(int32(i)), members) {
			return true
		}
	}
	return false
}

// addLimit adds the limits for a service with these members.
func (s *State) addLimit(service int32, members []int32) {
	add := func(max int, zone int32) {
		for _, n := range members {
			if zone == noZone || s.zoneOf[n] == zone {
				s.nodesOf.items = append(s.nodesOf.items, n)
			}
		}
		s.nodesOf.start = append(s.nodesOf.start, int32(len(s.nodesOf.items)))
		s.limits = append(s.limits, limit{max: int32(min(max, len(members))), service: service, zone: zone})
	}
	whole := s.budget.service(len(members))
	add(whole, noZone)
	if s.budget.Zone == 0 || s.budget.Zone >= whole {
		return // the limit of the service is at least as strict
	}
	var seen []int32
	for _, n := range members {
		if zone := s.zoneOf[n]; !slices.Contains(seen, zone) {
			seen = append(seen, zone)
			add(s.budget.Zone, zone)
		}
	}
}

// invert exchanges lists and numbers: list i of the result contains the index of each list of l in
// which the number i occurs. The result has n lists, and all numbers in l are below n. For n = 3:
// [0 2] [2] → [0] [] [0 1].
func (l *lists) invert(n int) lists {
	inverse := lists{start: make([]int32, n+1), items: make([]int32, len(l.items))}
	for _, item := range l.items {
		inverse.start[item+1]++
	}
	for i := range n {
		inverse.start[i+1] += inverse.start[i]
	}
	next := slices.Clone(inverse.start)
	for i := range int32(len(l.start) - 1) {
		for _, item := range l.of(i) {
			inverse.items[next[item]] = i
			next[item]++
		}
	}
	return inverse
}

// Away counts nodes as away, even if a limit is then exceeded: nodes that are not ready, that no
// longer exist, or that somebody is about to take away. It ignores nodes that are away already, and
// unknown names.
func (s *State) Away(names ...string) {
	for _, name := range names {
		if i, ok := s.index[name]; ok && !s.away[i] {
			s.add(i, 1)
		}
	}
}

// Return marks nodes as present again. It ignores nodes that are not away.
func (s *State) Return(names ...string) {
	for _, name := range names {
		if i, ok := s.index[name]; ok && s.away[i] {
			s.add(i, -1)
		}
	}
}

// add marks a node as away (d is 1) or as back (d is -1), and adds d to the number of away nodes of
// each limit that applies to the node.
func (s *State) add(node int32, d int32) {
	s.away[node] = d > 0
	of := s.limitsOf.of(node)
	for _, l := range of {
		s.limits[l].away += d
	}
	if len(of) > 0 {
		s.awayIn[s.zoneOf[node]] += int(d)
		s.awayAll += int(d)
	}
}

// Nodes returns the names of all nodes, sorted.
func (s *State) Nodes() []string { return slices.Clone(s.names) }

// IsAway reports whether a node counts as away.
func (s *State) IsAway(name string) bool {
	i, ok := s.index[name]
	return ok && s.away[i]
}

// Take returns the answer of May for the named nodes. If somebody may take these nodes away, Take
// also marks them as away, by calling Away.
func (s *State) Take(names ...string) Answer {
	a := s.May(names...)
	if a.OK {
		s.Away(names...)
	}
	return a
}

// May reports whether somebody may take all named nodes away now, in addition to the nodes that are
// away. It changes nothing.
//
// May permits three kinds of nodes without a check: a node that is away already, a node in no
// subset, and an unknown node. The answer has a remark for each such node.
func (s *State) May(names ...string) Answer {
	var a Answer
	s.named = s.named[:0]
	for _, name := range names {
		i, ok := s.index[name]
		switch {
		case !ok:
			a.remark(name, Unknown)
		case s.wasNamed[i]:
		case s.away[i]:
			a.remark(name, AlreadyAway)
		case len(s.limitsOf.of(i)) == 0:
			a.remark(name, Unused)
		default:
			s.wasNamed[i] = true
			s.named = append(s.named, i)
		}
	}
	for _, i := range s.named {
		s.wasNamed[i] = false
	}
	a.OK = s.fits(s.named)
	if !a.OK {
		a.Blocked = s.blocked(s.named)
	}
	return a
}

func (a *Answer) remark(node string, kind Kind) {
	if r := (Remark{node, kind}); !slices.Contains(a.Remarks, r) {
		a.Remarks = append(a.Remarks, r)
	}
}

// fits reports whether somebody may take the nodes away at the same time without exceeding a limit.
// Each of the nodes must be present and in a subset.
func (s *State) fits(nodes []int32) bool {
	if len(nodes) == 0 {
		return true
	}
	if len(nodes) > s.maxAway-s.awayAll {
		return false
	}
	if s.budget.OneZone {
		zone := s.zoneOf[nodes[0]]
		if s.awayIn[zone] < s.awayAll {
			return false
		}
		for _, n := range nodes {
			if s.zoneOf[n] != zone {
				return false
			}
		}
	}
	if len(nodes) == 1 {
		for _, l := range s.limitsOf.of(nodes[0]) {
			if s.limits[l].away >= s.limits[l].max {
				return false
			}
		}
		return true
	}
	ok := true
	for _, n := range nodes {
		ok = s.charge(n, 1) && ok
	}
	for _, n := range nodes {
		s.charge(n, -1)
	}
	return ok
}

// charge adds d to the number of nodes that are away, in each limit that applies to the node. It
// returns false if this number then exceeds one of these limits.
func (s *State) charge(node, d int32) bool {
	ok := true
	for _, l := range s.limitsOf.of(node) {
		s.limits[l].away += d
		ok = ok && s.limits[l].away <= s.limits[l].max
	}
	return ok
}

// blocked returns the limits that would be exceeded if the nodes went away too.
func (s *State) blocked(nodes []int32) []Blocked {
	var list []Blocked
	if named := len(nodes); named > s.maxAway-s.awayAll {
		list = append(list, Blocked{Rule: RuleShare, Away: s.awayAll, Named: named, Limit: s.maxAway})
	}
	if s.budget.OneZone {
		list = append(list, s.blockedZones(nodes)...)
	}
	named := map[int32]int{}
	for _, n := range nodes {
		for _, l := range s.limitsOf.of(n) {
			named[l]++
		}
	}
	for l, count := range named {
		if limit := s.limits[l]; int(limit.away)+count > int(limit.max) {
			list = append(list, s.describe(limit, count))
		}
	}
	return sortBlocked(list)
}

// Blocking returns the limits that are reached now: no further node of such a limit may be taken
// away. The list is sorted by service and zone. A limit of 0 is in the list only if a node of the
// service is away.
func (s *State) Blocking() []Blocked {
	var list []Blocked
	for _, l := range s.limits {
		if l.away > 0 && l.away >= l.max {
			list = append(list, s.describe(l, 0))
		}
	}
	return sortBlocked(list)
}

func (s *State) describe(l limit, named int) Blocked {
	b := Blocked{Service: s.services[l.service], Rule: RuleService, Away: int(l.away), Named: named, Limit: int(l.max)}
	if l.zone != noZone {
		b.Rule, b.Zone = RuleZone, s.zones[l.zone]
	}
	return b
}

// blockedZones checks the limit Budget.OneZone, for the nodes that are away together with the nodes
// in the argument "nodes". If all these nodes are in one zone, the limit is not exceeded, and
// blockedZones returns nil. Otherwise it returns their zones.
func (s *State) blockedZones(nodes []int32) []Blocked {
	named := make([]int, len(s.zones))
	for _, n := range nodes {
		named[s.zoneOf[n]]++
	}
	var list []Blocked
	for zone := range s.zones {
		if s.awayIn[zone]+named[zone] > 0 {
			list = append(list, Blocked{Zone: s.zones[zone], Rule: RuleOneZone, Away: s.awayIn[zone], Named: named[zone]})
		}
	}
	if len(list) < 2 {
		return nil
	}
	return list
}
