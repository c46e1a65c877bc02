package nodeselect_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/internal/manifesttest"
	"github.com/headgate/headgate/nodeselect"
)

var tracksRef = nodeselect.Ref{Namespace: "media", Service: "tracks", Port: "http"}

func TestExplain(t *testing.T) {
	local := func(s *corev1.Service) {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	onlyIPv6 := families(corev1.IPv6Protocol)
	drained := func(n *corev1.Node) { n.Annotations = map[string]string{"headgate.dev/drain": "true"} }
	nodes := func(list ...*corev1.Node) []*corev1.Node { return list }
	tests := []struct {
		name     string
		selector nodeselect.Selector
		nodes    []*corev1.Node
		service  func(*corev1.Service)
		ready    []string          // nodes with a ready pod; nil means unknown
		current  []nodeselect.Node // before the selection
		chosen   []nodeselect.Node // instead of the result of Select
		want     map[string]string // parts of the texts
		why      map[string]nodeselect.Why
	}{
		{
			name: "all eligible nodes", nodes: nodes(newNode("a", "10.0.0.1"), newNode("b", "10.0.0.2")),
			why:  map[string]nodeselect.Why{"a": nodeselect.Ranked, "b": nodeselect.Ranked},
			want: map[string]string{"a": "all eligible nodes are used; the service has 20 places"},
		},
		{
			name: "not selected by the hash", selector: nodeselect.Selector{Size: 1},
			nodes: nodes(newNode("a", "10.0.0.1"), newNode("b", "10.0.0.2")),
			why:   map[string]nodeselect.Why{"a": nodeselect.Outranked, "b": nodeselect.Ranked},
			want: map[string]string{
				"a": "not selected by the hash: rank 2 of 2 by hash, and the service has 1 place", "b": "rank 1 of 2 by hash",
			},
		},
		{
			name: "cordoned and drained nodes", nodes: nodes(newNode("a", "10.0.0.1", cordoned), newNode("b", "10.0.0.2", drained)),
			why:  map[string]nodeselect.Why{"a": nodeselect.Ranked, "b": nodeselect.Ranked},
			want: map[string]string{"a": "(cordoned)", "b": "(annotation headgate.dev/drain)"},
		},
		{
			name: "avoided, excluded, address refused", selector: nodeselect.Selector{Size: 1},
			nodes: nodes(newNode("a", "10.0.0.1", ready(corev1.ConditionFalse, now.Add(-time.Hour))), newNode("b", "10.0.0.2", excluded), newNode("c", "169.254.0.1"), newNode("d", "10.0.0.4")),
			why:   map[string]nodeselect.Why{"a": nodeselect.Avoided, "b": nodeselect.IsExcluded, "c": nodeselect.IsUnusable, "d": nodeselect.Ranked},
			want:  map[string]string{"a": "avoided: not ready", "b": "excluded: label " + nodeselect.ExcludeLabel, "c": "unusable: "},
		},
		{
			name: "cordoned nodes are avoided", selector: nodeselect.Selector{Size: 1, Predicates: []nodeselect.Predicate{nodeselect.NotCordoned}},
			nodes: nodes(newNode("a", "10.0.0.1", cordoned), newNode("b", "10.0.0.2")),
			why:   map[string]nodeselect.Why{"a": nodeselect.Avoided, "b": nodeselect.Ranked},
			want:  map[string]string{"a": "avoided: cordoned (cordoned)"},
		},
		{
			name: "an avoided node keeps its place", selector: nodeselect.Selector{Size: 1},
			nodes:   nodes(newNode("a", "10.0.0.1"), newNode("b", "10.0.0.2", avoided)),
			current: []nodeselect.Node{{Name: "b", Identity: "10.0.0.2"}},
			why:     map[string]nodeselect.Why{"a": nodeselect.Outranked, "b": nodeselect.Kept},
			want:    map[string]string{"b": "kept, because the service uses the node already: taint"},
		},
		{
			name: "a sticky node keeps its place", selector: nodeselect.Selector{Size: 1, Sticky: true},
			nodes:   nodes(newNode("a", "10.0.0.1"), newNode("b", "10.0.0.2")),
			current: []nodeselect.Node{{Name: "a", Identity: "10.0.0.1"}},
			why:     map[string]nodeselect.Why{"a": nodeselect.Kept, "b": nodeselect.Outranked},
			want:    map[string]string{"b": "other nodes keep their places"},
		},
		{
			name: "too few eligible nodes", selector: nodeselect.Selector{Size: 2},
			nodes: nodes(newNode("a", "10.0.0.1"), newNode("b", "10.0.0.2", avoided), newNode("c", "10.0.0.3", excluded)),
			why:   map[string]nodeselect.Why{"a": nodeselect.Ranked, "b": nodeselect.Fallback, "c": nodeselect.IsExcluded},
			want:  map[string]string{"b": "used because too few nodes are eligible; the service has 2 places: taint"},
		},
		{
			name:  "only excluded nodes",
			nodes: nodes(newNode("a", "10.0.0.1", excluded)), why: map[string]nodeselect.Why{"a": nodeselect.Fallback},
		},
		{
			name: "pods", service: local, ready: []string{"a"},
			nodes: nodes(newNode("a", "10.0.0.1"), newNode("b", "10.0.0.2")),
			why:   map[string]nodeselect.Why{"a": nodeselect.Ranked, "b": nodeselect.NoPod},
			want:  map[string]string{"b": "no ready pod"},
		},
		{
			name: "all nodes with pods", service: local, ready: []string{"a", "b"}, selector: nodeselect.Selector{Size: 1, AllLocal: true},
			nodes: nodes(newNode("a", "10.0.0.1"), newNode("b", "10.0.0.2"), newNode("c", "10.0.0.3")),
			why:   map[string]nodeselect.Why{"a": nodeselect.Ranked, "b": nodeselect.Ranked, "c": nodeselect.NoPod},
		},
		{
			name: "family", service: onlyIPv6,
			nodes: nodes(newNode("a", "10.0.0.1", addresses("10.0.0.1", "fd00::1")), newNode("b", "10.0.0.2")),
			why:   map[string]nodeselect.Why{"a": nodeselect.Ranked, "b": nodeselect.OtherFamily},
			want:  map[string]string{"b": "no address in the only IP family of the service"},
		},
		{
			name: "a subset that is older than the objects", selector: nodeselect.Selector{Size: 1},
			nodes:  nodes(newNode("a", "10.0.0.1"), newNode("b", "10.0.0.2")),
			chosen: []nodeselect.Node{{Name: "a", Identity: "10.0.0.1"}, {Name: "z", Identity: "10.0.0.9"}},
			why:    map[string]nodeselect.Why{"a": nodeselect.Leaving, "b": nodeselect.Entering, "z": nodeselect.Gone},
			want:   map[string]string{"a": "removes the node", "b": "adds the node", "z": "no such node any more"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			svc := newService()
			if tt.service != nil {
				tt.service(svc)
			}
			objects := nodeselect.NewObjects(tt.nodes, []*corev1.Service{svc})
			if tt.ready != nil {
				objects.ReadyNodes = map[string][]string{"media/tracks": tt.ready}
			}
			chosen := tt.chosen
			if chosen == nil {
				chosen = tt.selector.Select(objects, []nodeselect.Ref{tracksRef}, now, nodeselect.Subsets{"media/tracks": tt.current}).Targets[0].Nodes
			}
			c := tt.selector.Explain(objects, tracksRef, now, chosen)
			got := map[string]nodeselect.Why{}
			for _, n := range c.Nodes {
				got[n.Node] = n.Why
				require.Contains(t, n.Text(c), tt.want[n.Node])
			}
			require.Equal(t, tt.why, got)
		})
	}
}

// TestExplainAgreesWithSelect: for random clusters, Explain finds a reason for each node that
// Select has chosen, finds no difference between the subset and the objects, and ranks the nodes as
// Select does.
func TestExplainAgreesWithSelect(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for round := range 300 {
		selector := nodeselect.Selector{Size: 1 + rng.IntN(8), Spread: rng.IntN(2) == 0, Sticky: rng.IntN(3) == 0}
		var nodes []*corev1.Node
		for i := range 1 + rng.IntN(20) {
			n := newNode(fmt.Sprint("n", i), manifesttest.NodeAddr(i), zone(string(rune('a'+rng.IntN(3)))))
			switch rng.IntN(6) {
			case 0:
				avoided(n)
			case 1:
				excluded(n)
			}
			nodes = append(nodes, n)
		}
		objects := nodeselect.NewObjects(nodes, []*corev1.Service{newService()})
		current := nodeselect.Subsets{}
		for range 2 { // the second selection begins with the nodes of the first
			s := selector.Select(objects, []nodeselect.Ref{tracksRef}, now, current)
			current = s.Subsets()
			c := selector.Explain(objects, tracksRef, now, s.Targets[0].Nodes)
			chosen := 0
			for _, n := range c.Nodes {
				if n.Chosen {
					chosen++
					require.Contains(t, []nodeselect.Why{nodeselect.Ranked, nodeselect.Kept, nodeselect.Fallback}, n.Why, "round %d", round)
				} else {
					require.NotEqual(t, nodeselect.Entering, n.Why, "round %d", round)
				}
				if n.Why == nodeselect.Outranked && !selector.Sticky {
					require.Greater(t, n.Rank, c.Places-avoidedIn(c), "round %d: %+v", round, c)
				}
			}
			require.Equal(t, len(s.Targets[0].Nodes), chosen)
		}
	}
}

// avoidedIn returns the number of avoided nodes that are in the subset, and so have taken the
// places of eligible nodes.
func avoidedIn(c nodeselect.Choices) (n int) {
	for _, choice := range c.Nodes {
		if choice.Chosen && choice.Verdict != nodeselect.Eligible {
			n++
		}
	}
	return n
}
