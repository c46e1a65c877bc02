package disruption_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/fleettest"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/disruption"
)

// parseNodes returns nodes from a text such as "a:z1 b:z1 c". The part after the colon is the zone.
func parseNodes(text string) []nodeselect.Node {
	var nodes []nodeselect.Node
	for _, field := range strings.Fields(text) {
		name, zone, _ := strings.Cut(field, ":")
		nodes = append(nodes, nodeselect.Node{Name: name, Zone: zone, Identity: name})
	}
	return nodes
}

// subsets returns subsets of nodes from lines such as "media/tracks: a b".
func subsets(nodes []nodeselect.Node, lines ...string) nodeselect.Subsets {
	set := nodeselect.Subsets{}
	for _, line := range lines {
		service, members, _ := strings.Cut(line, ": ")
		for _, name := range strings.Fields(members) {
			i := slices.IndexFunc(nodes, func(n nodeselect.Node) bool { return n.Name == name })
			if i < 0 {
				set[service] = append(set[service], nodeselect.Node{Name: name})
				continue
			}
			set[service] = append(set[service], nodes[i])
		}
	}
	return set
}

func newState(t testing.TB, b disruption.Budget, nodes []nodeselect.Node, sets ...nodeselect.Subsets) *disruption.State {
	t.Helper()
	s, err := disruption.New(b, nodes, sets...)
	require.NoError(t, err)
	return s
}

func TestAnswers(t *testing.T) {
	for _, tt := range []struct {
		name    string
		budget  disruption.Budget
		nodes   string
		subsets []string
		away    string
		named   string
		want    string
	}{
		{"two by default", disruption.Budget{}, "a b c d", []string{"x/s: a b c d"}, "a", "b", "yes"},
		{"not three", disruption.Budget{}, "a b c d", []string{"x/s: a b c d"}, "a b", "c", "no: service x/s: 2 away and 1 named, of at most 2"},
		{"together", disruption.Budget{}, "a b c d", []string{"x/s: a b c d"}, "a", "b c", "no: service x/s: 1 away and 2 named, of at most 2"},
		{"a name twice", disruption.Budget{}, "a b c d", []string{"x/s: a b c d"}, "a", "b b", "yes"},
		{"already exceeded", disruption.Budget{}, "a b c d e", []string{"x/s: a b c d", "x/t: d e c a"}, "a b c", "d", "no: service x/s: 3 away and 1 named, of at most 2; service x/t: 2 away and 1 named, of at most 2"},
		{"an exceeded service blocks no other", disruption.Budget{}, "a b c d e f", []string{"x/s: a b c d", "x/t: d e f"}, "a b c", "e", "yes"},
		{"away already", disruption.Budget{}, "a b c d", []string{"x/s: a b c d"}, "a b c", "c", "yes: node c is away already"},
		{"unknown", disruption.Budget{}, "a b", []string{"x/s: a b"}, "a", "z z", "yes: node z is unknown"},
		{"in no subset", disruption.Budget{}, "a b c", []string{"x/s: a b"}, "a", "c", "yes: node c is in no subset"},
		{"a remark does not help others", disruption.Budget{}, "a b c", []string{"x/s: a b"}, "a", "b c", "no: service x/s: 1 away and 1 named, of at most 1; node c is in no subset"},
		{"the last member stays", disruption.Budget{}, "a b", []string{"x/s: a b"}, "", "a b", "no: service x/s: 0 away and 2 named, of at most 1"},
		{"a single member stays", disruption.Budget{}, "a b", []string{"x/s: a"}, "", "a", "no: service x/s: 0 away and 1 named, of at most 0"},
		{"the last member may go", disruption.Budget{Last: true}, "a b", []string{"x/s: a b"}, "", "a b", "yes"},
		{"zone", disruption.Budget{Zone: 1}, "a:1 b:1 c:2 d", []string{"x/s: a b c d"}, "", "a b", `no: service x/s in zone "1": 0 away and 2 named, of at most 1`},
		{"other zones", disruption.Budget{Zone: 1}, "a:1 b:1 c:2 d", []string{"x/s: a b c d"}, "a", "c", "yes"},
		{"zone and service", disruption.Budget{Zone: 1}, "a:1 b:1 c:2 d", []string{"x/s: a b c d"}, "a c", "b d", `no: service x/s: 2 away and 2 named, of at most 2; service x/s in zone "1": 1 away and 1 named, of at most 1`},
		{"one zone", disruption.Budget{OneZone: true}, "a:1 b:1 c:2 d:2", []string{"x/s: a b", "x/t: c d"}, "a", "c", `no: zone "1": 1 away and 0 named; only one zone at a time; zone "2": 0 away and 1 named; only one zone at a time`},
		{"one zone together", disruption.Budget{OneZone: true}, "a:1 b:1 c:2 d:2", []string{"x/s: a b", "x/t: c d"}, "", "a c", `no: zone "1": 0 away and 1 named; only one zone at a time; zone "2": 0 away and 1 named; only one zone at a time`},
		{"the same zone", disruption.Budget{OneZone: true}, "a:1 b:1 c:1 d:2", []string{"x/s: a b c d"}, "a", "b", "yes"},
		{"an unused node is in no zone", disruption.Budget{OneZone: true}, "a:1 b:1 c:1 d:2", []string{"x/s: a b c"}, "d", "a", "yes"},
		{"share", disruption.Budget{Share: 0.29}, "a b c d e f g h i j", []string{"x/s: a b c", "x/t: d e f g h i j"}, "a", "d e", "no: all nodes: 1 away and 2 named, of at most 2"},
		{"share at least 1", disruption.Budget{Share: 0.01}, "a b c", []string{"x/s: a b c"}, "", "a", "yes"},
		{"a node that the cluster lacks is away", disruption.Budget{}, "a b c", []string{"x/s: a b c gone"}, "a", "b", "no: service x/s: 2 away and 1 named, of at most 2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			nodes := parseNodes(tt.nodes)
			s := newState(t, tt.budget, nodes, subsets(nodes, tt.subsets...))
			s.Away(strings.Fields(tt.away)...)
			named := strings.Fields(tt.named)
			answer := s.May(named...)
			require.Equal(t, tt.want, answer.String())
			require.Equal(t, answer, s.May(named...), "May has changed the state")
			require.Equal(t, answer, s.Take(named...))
			for _, n := range named {
				require.Equal(t, answer.OK && n != "z" || slices.Contains(strings.Fields(tt.away), n), s.IsAway(n), n)
			}
		})
	}
}

func TestReturnFreesThePlace(t *testing.T) {
	nodes := parseNodes("a b c d")
	s := newState(t, disruption.Budget{Service: 1}, nodes, subsets(nodes, "x/s: a b c d"))
	s.Away("a", "a", "nobody")
	require.False(t, s.Take("b").OK)
	s.Return("a", "a", "c", "nobody")
	require.True(t, s.Take("b").OK)
	require.False(t, s.Take("a").OK)
}

// A balancer that lags behind uses an older configuration.
func TestEveryConfigurationMustAllowIt(t *testing.T) {
	nodes := parseNodes("a b c d e")
	applied, lagging := subsets(nodes, "x/s: a b c"), subsets(nodes, "x/s: c d e")
	s := newState(t, disruption.Budget{}, nodes, applied, lagging, lagging)
	require.True(t, s.Take("d", "a").OK)
	require.True(t, s.Take("b").OK)
	require.Equal(t, []disruption.Blocked{{Service: "x/s", Rule: disruption.RuleService, Away: 2, Named: 1, Limit: 2}}, s.May("c").Blocked, "each service once, the worse configuration")
	require.True(t, s.May("e").OK)
}

func TestNodesOfTheSubsetsAreTheDefault(t *testing.T) {
	s := newState(t, disruption.Budget{Share: 0.5}, nil, subsets(nil, "x/s: a b c", "x/t: c d"))
	require.False(t, s.IsAway("a"))
	require.Equal(t, "no: all nodes: 0 away and 3 named, of at most 2; service x/s: 0 away and 3 named, of at most 2", s.May("a", "b", "c").String())
}

func TestNewRefuses(t *testing.T) {
	nodes := parseNodes("a b")
	for _, tt := range []struct {
		budget disruption.Budget
		nodes  []nodeselect.Node
		set    nodeselect.Subsets
		want   string
	}{
		{disruption.Budget{Service: -1}, nodes, nil, "disruption: Budget.Service is -1, and must not be negative"},
		{disruption.Budget{Zone: -1}, nodes, nil, "disruption: Budget.Zone is -1, and must not be negative"},
		{disruption.Budget{Share: 1.5}, nodes, nil, "disruption: Budget.Share is 1.5, and must be from 0 to 1"},
		{disruption.Budget{Share: math.NaN()}, nodes, nil, "disruption: Budget.Share is NaN, and must be from 0 to 1"},
		{disruption.Budget{}, append(nodes, nodes[0]), nil, `disruption: node "a" occurs twice`},
		{disruption.Budget{}, []nodeselect.Node{{}}, nil, "disruption: a node with the address invalid IP has no name"},
		{disruption.Budget{}, nodes, nodeselect.Subsets{"x/s": {{}}}, "disruption: a node of service x/s with the address invalid IP has no name"},
	} {
		_, err := disruption.New(tt.budget, tt.nodes, tt.set)
		require.EqualError(t, err, tt.want)
	}
}

func TestWaveChoosesNodesThatBlockFew(t *testing.T) {
	nodes := parseNodes("a b c d e f unused gone")
	set := subsets(nodes, "x/s: a b gone", "x/t: a c gone", "x/u: a d gone", "x/v: e f")
	s := newState(t, disruption.Budget{Service: 1}, nodes, set)
	require.Equal(t, []string{"b", "c", "d", "e", "unused"}, s.Wave(s.Nodes(), 0), "a would block b, c and d")
	require.Equal(t, []string{"a", "b2", "unused"}, s.Wave([]string{"unused", "a", "b2", "a"}, 0))
	s.Away("gone", "unused")
	require.Equal(t, []string{"e"}, s.Wave(s.Nodes(), 10))
	require.Empty(t, s.Wave(nil, 0), "no candidates")
}

func TestWaveInOneZone(t *testing.T) {
	nodes := parseNodes("a:1 b:1 c:2 d:2 e:2")
	set := subsets(nodes, "x/s: a c", "x/t: b d", "x/u: e a")
	s := newState(t, disruption.Budget{OneZone: true}, nodes, set)
	require.Equal(t, []string{"c", "d", "e"}, s.Wave(s.Nodes(), 100))
	s.Away("b")
	require.Equal(t, []string{"a"}, s.Wave(s.Nodes(), 0))
	s.Away("e")
	require.Empty(t, s.Wave(s.Nodes(), 0), "nodes of two zones are away")
}

func TestEstimateSaysWhatItIs(t *testing.T) {
	nodes := parseNodes("a b c d e")
	s := newState(t, disruption.Budget{Service: 1}, nodes, subsets(nodes, "x/s: a b c d", "x/t: e"))
	s.Away("a")
	e := s.Estimate(s.Nodes(), 0)
	require.Equal(t, disruption.Estimate{Waves: 4, Bound: 4, Stuck: 1}, e)
	require.Equal(t, "about 4 waves; at least 4 with high probability (first-moment bound); 1 nodes may not go in any wave", e.String())
	require.Equal(t, disruption.Estimate{}, s.Estimate(nil, 0))
	require.Equal(t, disruption.Estimate{Waves: 1, Bound: 1}, s.Estimate([]string{"unknown"}, 0))
	require.False(t, s.May("b").OK, "Estimate has changed the state")
}

func TestBoundKnowsAllRules(t *testing.T) {
	nodes := parseNodes("a:1 b:2 c:3 d:3 e f")
	set := subsets(nodes, "x/s: a b c d")
	for _, tt := range []struct {
		budget disruption.Budget
		sets   []nodeselect.Subsets
		want   int
	}{
		{disruption.Budget{Service: 3}, []nodeselect.Subsets{set}, 2},
		{disruption.Budget{Service: 3, OneZone: true}, []nodeselect.Subsets{set}, 3},
		{disruption.Budget{Service: 3, Share: 0.1}, []nodeselect.Subsets{set}, 4},
		{disruption.Budget{Service: 3, Zone: 1}, []nodeselect.Subsets{set}, 2},
		{disruption.Budget{Service: 1}, []nodeselect.Subsets{set}, 4},
	} {
		s := newState(t, tt.budget, nodes, tt.sets...)
		e := s.Estimate(s.Nodes(), 0)
		require.Equal(t, tt.want, e.Bound, "%+v", tt.budget)
		require.LessOrEqual(t, e.Bound, e.Waves)
	}
}

// If one configuration lags behind by a few nodes, its subsets are nearly the same as in the other
// configuration, and not a second random choice. So Bound does not count them again.
func TestALaggingConfigurationDoesNotRaiseTheBound(t *testing.T) {
	f := fleettest.New(300, 300, 8)
	applied := f.Subsets()
	lagging := nodeselect.Subsets{}
	for service, members := range applied {
		lagging[service] = members[1:]
	}
	one, both := newState(t, disruption.Budget{}, f.Nodes, applied), newState(t, disruption.Budget{}, f.Nodes, applied, lagging)
	require.Equal(t, one.Estimate(one.Nodes(), 0).Bound, both.Estimate(both.Nodes(), 0).Bound)
}

func ExampleState_Take() {
	nodes := []nodeselect.Node{{Name: "worker-1"}, {Name: "worker-2"}, {Name: "worker-3"}, {Name: "worker-4"}}
	subsets := nodeselect.Subsets{"media/tracks": nodes[:3], "media/waveforms": nodes[1:]}
	state, err := disruption.New(disruption.Budget{Service: 1}, nodes, subsets)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(state.Take("worker-1"))
	fmt.Println(state.Take("worker-2"))
	fmt.Println(state.Take("worker-4"))
	// Output:
	// yes
	// no: service media/tracks: 1 away and 1 named, of at most 1
	// yes
}
