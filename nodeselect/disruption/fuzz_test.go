package disruption_test

import (
	"cmp"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/disruption"
)

// naive gives the same answers as a State. It follows the definitions directly, and uses no index.
type naive struct {
	budget disruption.Budget
	nodes  []nodeselect.Node
	sets   []nodeselect.Subsets
	away   map[string]bool
}

func (o *naive) node(name string) (nodeselect.Node, bool) {
	i := slices.IndexFunc(o.nodes, func(n nodeselect.Node) bool { return n.Name == name })
	if i >= 0 {
		return o.nodes[i], true
	}
	for _, set := range o.sets {
		for _, members := range set {
			for _, n := range members {
				if n.Name == name {
					return n, true
				}
			}
		}
	}
	return nodeselect.Node{}, false
}

func (o *naive) used(name string) bool {
	for _, set := range o.sets {
		for _, members := range set {
			if slices.ContainsFunc(members, func(n nodeselect.Node) bool { return n.Name == name }) {
				return true
			}
		}
	}
	return false
}

func (o *naive) may(names []string) disruption.Answer {
	var a disruption.Answer
	named := map[string]bool{}
	for _, name := range names {
		kind := disruption.Kind("")
		switch _, known := o.node(name); {
		case !known:
			kind = disruption.Unknown
		case o.away[name]:
			kind = disruption.AlreadyAway
		case !o.used(name):
			kind = disruption.Unused
		default:
			named[name] = true
			continue
		}
		if r := (disruption.Remark{Node: name, Kind: kind}); !slices.Contains(a.Remarks, r) {
			a.Remarks = append(a.Remarks, r)
		}
	}
	worst := map[disruption.Blocked]disruption.Blocked{} // by service, zone and rule
	check := func(b disruption.Blocked, count func(n nodeselect.Node) bool, all []nodeselect.Node) {
		for _, n := range all {
			if count(n) && o.away[n.Name] {
				b.Away++
			}
			if count(n) && named[n.Name] {
				b.Named++
			}
		}
		if b.Named == 0 || b.Away+b.Named <= b.Limit {
			return
		}
		key := disruption.Blocked{Service: b.Service, Zone: b.Zone, Rule: b.Rule}
		if old, ok := worst[key]; !ok || cmp.Or(cmp.Compare(b.Away+b.Named-b.Limit, old.Away+old.Named-old.Limit), cmp.Compare(b.Away, old.Away), cmp.Compare(b.Limit, old.Limit)) > 0 {
			worst[key] = b
		}
	}
	everyone := func(nodeselect.Node) bool { return true }
	for _, set := range o.sets {
		for service, members := range set {
			limit := cmp.Or(o.budget.Service, 2)
			if !o.budget.Last {
				limit = min(limit, len(members)-1)
			}
			limit = min(limit, len(members))
			check(disruption.Blocked{Service: service, Rule: disruption.RuleService, Limit: limit}, everyone, members)
			for _, n := range members {
				if o.budget.Zone > 0 && o.budget.Zone < limit {
					zone := o.zone(n)
					check(disruption.Blocked{Service: service, Zone: zone, Rule: disruption.RuleZone, Limit: min(o.budget.Zone, len(members))},
						func(n nodeselect.Node) bool { return o.zone(n) == zone }, members)
				}
			}
		}
	}
	var serving []nodeselect.Node
	for _, name := range o.names() {
		if n, _ := o.node(name); o.used(name) {
			serving = append(serving, n)
		}
	}
	if o.budget.Share > 0 {
		check(disruption.Blocked{Rule: disruption.RuleShare, Limit: max(1, int(o.budget.Share*float64(len(o.nodes))+1e-9))}, everyone, serving)
	}
	for _, b := range worst {
		a.Blocked = append(a.Blocked, b)
	}
	if o.budget.OneZone && len(named) > 0 {
		zones := map[string]*disruption.Blocked{}
		for _, n := range serving {
			if !o.away[n.Name] && !named[n.Name] {
				continue
			}
			if zones[n.Zone] == nil {
				zones[n.Zone] = &disruption.Blocked{Zone: n.Zone, Rule: disruption.RuleOneZone}
			}
			if o.away[n.Name] {
				zones[n.Zone].Away++
			} else {
				zones[n.Zone].Named++
			}
		}
		for _, b := range zones {
			if len(zones) > 1 {
				a.Blocked = append(a.Blocked, *b)
			}
		}
	}
	slices.SortFunc(a.Blocked, func(a, b disruption.Blocked) int {
		return cmp.Or(strings.Compare(a.Service, b.Service), strings.Compare(a.Zone, b.Zone), strings.Compare(string(a.Rule), string(b.Rule)))
	})
	a.OK = len(a.Blocked) == 0
	return a
}

// zone returns the zone of a node. If the list of nodes and a subset have different zones for it,
// the zone in the list of nodes counts.
func (o *naive) zone(n nodeselect.Node) string {
	n, _ = o.node(n.Name)
	return n.Zone
}

// names returns the names of all nodes, including nodes that are only in a subset.
func (o *naive) names() []string {
	all := map[string]bool{}
	for _, n := range o.nodes {
		all[n.Name] = true
	}
	for _, set := range o.sets {
		for _, members := range set {
			for _, n := range members {
				all[n.Name] = true
			}
		}
	}
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// largest returns the size of the largest wave. It tries all sets of nodes.
func (o *naive) largest(candidates []string) int {
	candidates = slices.DeleteFunc(slices.Clone(candidates), func(name string) bool { return o.away[name] })
	most := 0
	for set := range 1 << len(candidates) {
		var some []string
		for i, name := range candidates {
			if set>>i&1 == 1 {
				some = append(some, name)
			}
		}
		if len(some) > most && o.may(some).OK {
			most = len(some)
		}
	}
	return most
}

// FuzzState compares a State with the naive one. The first bytes make a small cluster and a budget.
// Each byte after them is an operation on a set of nodes.
func FuzzState(f *testing.F) {
	f.Fuzz(compareWithNaive)
}

func TestStateMatchesNaive(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		data := make([]byte, 30)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		compareWithNaive(t, data)
		if t.Failed() {
			t.Fatalf("input %q", data)
		}
	}
}

func compareWithNaive(t *testing.T, data []byte) {
	next := func() byte {
		if len(data) == 0 {
			return 0
		}
		b := data[0]
		data = data[1:]
		return b
	}
	flags := next()
	o := &naive{away: map[string]bool{}, budget: disruption.Budget{
		Service: int(flags & 3), Zone: int(flags >> 2 & 3), OneZone: flags&16 != 0, Last: flags&32 != 0, Share: float64(flags>>6) / 4,
	}}
	const most = 7
	zones := next()
	all := make([]nodeselect.Node, most)
	for i := range all {
		all[i] = nodeselect.Node{Name: fmt.Sprint("n", i), Zone: []string{"", "1", "2"}[(int(zones)>>i&3)%3]}
	}
	count := int(next())%most + 1 // the other nodes may be in subsets only
	o.nodes = all[:count]
	for range next()%2 + 1 {
		set := nodeselect.Subsets{}
		for service := range next() % 5 {
			members := []nodeselect.Node{}
			mask := next()
			for i := range all {
				if mask>>i&1 == 1 {
					members = append(members, all[i])
				}
			}
			set[fmt.Sprint("ns/s", service)] = members
		}
		o.sets = append(o.sets, set)
	}
	s := newState(t, o.budget, o.nodes, o.sets...)
	for _, name := range o.names() {
		_, present := slices.BinarySearchFunc(o.nodes, name, func(n nodeselect.Node, name string) int { return strings.Compare(n.Name, name) })
		o.away[name] = !present
	}
	for range 6 {
		op, mask := next(), next()
		var names []string
		for i := range most + 1 {
			if mask>>i&1 == 1 {
				names = append(names, fmt.Sprint("n", i)) // n7 is unknown
			}
		}
		switch op % 5 {
		case 0:
			s.Away(names...)
			for _, n := range names {
				if _, known := o.node(n); known {
					o.away[n] = true
				}
			}
		case 1:
			s.Return(names...)
			for _, n := range names {
				delete(o.away, n)
			}
		case 2:
			require.Equal(t, o.may(names), s.May(names...))
		case 3:
			want := o.may(names)
			require.Equal(t, want, s.Take(names...))
			for _, n := range names {
				if _, known := o.node(n); known && want.OK {
					o.away[n] = true
				}
			}
		case 4:
			wave := s.Wave(names, int(op))
			require.True(t, slices.IsSorted(wave))
			require.True(t, o.may(wave).OK, "%q may not go", wave)
			for _, n := range wave {
				require.False(t, o.away[n])
				require.Contains(t, names, n)
			}
			largest := o.largest(names)
			require.LessOrEqual(t, len(wave), largest)
			for _, n := range names {
				if !o.away[n] && !slices.Contains(wave, n) {
					require.False(t, o.may(append(slices.Clone(wave), n)).OK, "%s may be added to %q", n, wave)
				}
			}
			e := s.Estimate(names, 0)
			alone := &naive{budget: o.budget, nodes: o.nodes, sets: o.sets, away: map[string]bool{}}
			stuck := 0
			for _, n := range names {
				if !alone.may([]string{n}).OK {
					stuck++
				}
			}
			require.Equal(t, stuck, e.Stuck)
			require.LessOrEqual(t, e.Waves, bits.OnesCount8(mask)-stuck)
			require.Equal(t, bits.OnesCount8(mask) == stuck, e.Waves == 0)
		}
		for _, n := range o.names() {
			require.Equal(t, o.away[n], s.IsAway(n))
		}
	}
}
