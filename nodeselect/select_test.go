package nodeselect_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/headgate/headgate/hashring"
	"github.com/headgate/headgate/internal/manifesttest"
	"github.com/headgate/headgate/nodeselect"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func names(nodes []nodeselect.Node) []string {
	got := make([]string, len(nodes))
	for i := range nodes {
		got[i] = nodes[i].Name
	}
	return got
}

// numbered returns n nodes in three zones, named n000, n001 and so on.
func numbered(n int) []*corev1.Node {
	nodes := make([]*corev1.Node, n)
	for i := range nodes {
		nodes[i] = newNode(fmt.Sprintf("n%03d", i), fmt.Sprintf("10.0.%d.%d", i/250, i%250+1), zone(string(rune('a'+i%3))))
	}
	return nodes
}

// Pick returns the nodes that package hashring ranks best by address, sorted by name.
func TestPickIsRendezvous(t *testing.T) {
	nodes := numbered(100)
	for _, id := range []nodeselect.Identity{nodeselect.ByAddress, nodeselect.ByName, nodeselect.ByProviderID} {
		for _, spread := range []bool{false, true} {
			var ring []hashring.Node
			byID := map[string]string{}
			for i, n := range nodes {
				identity := n.Status.Addresses[0].Address
				switch {
				case id == nodeselect.ByName:
					identity = n.Name
				case id == nodeselect.ByProviderID && i%2 == 0:
					identity = "aws:///" + n.Name
					n.Spec.ProviderID = identity
				case id == nodeselect.ByProviderID:
					identity = n.Name
				}
				ring = append(ring, hashring.Node{Name: identity, Zone: n.Labels[corev1.LabelTopologyZone]})
				byID[identity] = n.Name
			}
			r, err := hashring.New(ring...)
			require.NoError(t, err)
			pool := nodeselect.Selector{Identity: id, Spread: spread}.Pool(nodes, now)
			for i := range 50 {
				key := fmt.Sprint("ns/service-", i)
				top := r.Top(key, 20)
				if spread {
					top = r.Spread(key, 20)
				}
				var want []string
				for _, n := range top {
					want = append(want, byID[n.Name])
				}
				slices.Sort(want)
				require.Equal(t, want, names(pool.Pick(key, nil)))
			}
		}
	}
}

// The oracle makes one ring for each service. The ring has the Eligible nodes, and the avoided
// nodes in the current subset of the service. Pick must get the same result from one ring for all
// services.
func TestPickKeepsAvoided(t *testing.T) {
	for _, spread := range []bool{false, true} {
		t.Run(fmt.Sprint("spread=", spread), func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, 2))
			for round := range 300 {
				n := 5 + random.IntN(60)
				nodes := numbered(n)
				for _, node := range nodes { // uneven zones
					zone(string(rune('a' + random.IntN(1+random.IntN(5)))))(node)
				}
				s := nodeselect.Selector{Size: 1 + random.IntN(12), Spread: spread, Identity: nodeselect.ByName}
				key := fmt.Sprint("ns/s", round)
				current := s.Pool(nodes, now).Pick(key, nil)
				inCurrent := map[string]bool{}
				for _, m := range current {
					inCurrent[m.Name] = true
				}
				var allowed []hashring.Node
				eligible := 0
				for _, node := range nodes {
					if random.IntN(3) == 0 {
						avoided(node)
						if !inCurrent[node.Name] {
							continue
						}
					} else {
						eligible++
					}
					allowed = append(allowed, hashring.Node{Name: node.Name, Zone: node.Labels[corev1.LabelTopologyZone]})
				}
				if eligible < s.Size {
					continue // Pick fills the subset with further avoided nodes, and the oracle does not
				}
				ring, err := hashring.New(allowed...)
				require.NoError(t, err)
				best := ring.Top(key, s.Size)
				if spread {
					best = ring.Spread(key, s.Size)
				}
				var want []string
				for _, m := range best {
					want = append(want, m.Name)
				}
				slices.Sort(want)
				require.Equal(t, want, names(s.Pool(nodes, now).Pick(key, current)), "round %d", round)
			}
		})
	}
}

func TestPickFallsBack(t *testing.T) {
	type nodes = []*corev1.Node
	four := func(changes ...func(*corev1.Node)) nodes {
		list := numbered(4)
		for i, change := range changes {
			if change != nil {
				change(list[i])
			}
		}
		return list
	}
	unreachable := func(n *corev1.Node) { n.Status.Addresses = nil }
	tests := []struct {
		name    string
		nodes   nodes
		size    int
		want    []string
		warning string
	}{
		{"all", four(), 9, []string{"n000", "n001", "n002", "n003"}, ""},
		{"avoided left out", four(avoided), 3, []string{"n001", "n002", "n003"}, ""},
		{"excluded left out", four(excluded, excluded), 9, []string{"n002", "n003"}, ""},
		{"avoided fill up", four(avoided, excluded), 9, []string{"n000", "n002", "n003"}, "2 nodes are eligible for subsets of 9: nodes to avoid are used too"},
		{"avoided alone", four(avoided, avoided, excluded, excluded), 9, []string{"n000", "n001"}, "0 nodes are eligible for subsets of 9: nodes to avoid are used too"},
		{"excluded at last", four(excluded, excluded, deleted, unreachable), 9, []string{"n000", "n001", "n002"}, "no node is eligible: 3 excluded ones are used, since an empty subset would serve nobody"},
		{"unreachable never", four(unreachable, unreachable, unreachable, unreachable), 9, []string{}, "no node can be used: every subset is empty"},
		{"none", nil, 9, []string{}, "no node can be used: every subset is empty"},
	}
	for _, tt := range tests {
		for _, s := range []nodeselect.Selector{{}, {Spread: true}, {Sticky: true}} {
			t.Run(fmt.Sprintf("%s/spread=%v/sticky=%v", tt.name, s.Spread, s.Sticky), func(t *testing.T) {
				s.Size = tt.size
				pool := s.Pool(tt.nodes, now)
				require.Equal(t, tt.want, names(pool.Pick("a/b", nil)))
				if tt.warning == "" {
					require.Empty(t, pool.Problems())
					return
				}
				require.Len(t, pool.Problems(), 1)
				require.Equal(t, tt.warning, pool.Problems()[0].Error())
				require.Equal(t, len(tt.want) > 0, pool.Problems()[0].Warning)
			})
		}
	}
}

// With Sticky, a service gets a new node only when it loses a node.
func TestPickSticky(t *testing.T) {
	for _, spread := range []bool{false, true} {
		s := nodeselect.Selector{Size: 9, Sticky: true, Spread: spread}
		all := numbered(120)
		first := s.Pool(all[:60], now)
		for i := range 40 {
			key := fmt.Sprint("ns/s", i)
			current := first.Pick(key, nil)

			require.Equal(t, current, s.Pool(all, now).Pick(key, current), "nodes that join")

			nodes := slices.Clone(all)
			lost := slices.IndexFunc(nodes, func(n *corev1.Node) bool { return n.Name == current[4].Name })
			nodes = slices.Delete(nodes, lost, lost+1)
			next := s.Pool(nodes, now).Pick(key, current)
			change := nodeselect.DiffSubsets(nodeselect.Subsets{key: current}, nodeselect.Subsets{key: next}).Services
			require.Len(t, change, 1)
			require.Equal(t, []nodeselect.Node{current[4]}, change[0].Leave)
			require.Len(t, change[0].Enter, 1)
			if spread {
				require.Equal(t, current[4].Zone, change[0].Enter[0].Zone, "the place is free in that zone")
			}

			s := s
			s.Size = 6
			smaller := s.Pool(all, now).Pick(key, current)
			require.Len(t, smaller, 6)
			require.Zero(t, nodeselect.DiffSubsets(nodeselect.Subsets{key: current}, nodeselect.Subsets{key: smaller}).Enter)
		}
	}
}

// A node of the current subset does not stay if it is excluded, unknown, or listed twice.
func TestPickStickyDropsUnusableNodes(t *testing.T) {
	nodes := numbered(30)
	s := nodeselect.Selector{Size: 10, Sticky: true}
	current := s.Pool(nodes, now).Pick("a/b", nil)
	excluded(nodes[slices.IndexFunc(nodes, func(n *corev1.Node) bool { return n.Name == current[0].Name })])
	got := s.Pool(nodes, now).Pick("a/b", append(slices.Clone(current), current[1], nodeselect.Node{Name: "x", Identity: "x"}))
	require.Len(t, got, 10)
	require.NotContains(t, names(got), current[0].Name)
	require.Len(t, slices.Compact(names(got)), 10)
	require.Subset(t, names(got), names(current[1:]))
}

func TestPoolDuplicates(t *testing.T) {
	created := func(at time.Time) func(*corev1.Node) {
		return func(n *corev1.Node) { n.CreationTimestamp = metav1.NewTime(at) }
	}
	pool := nodeselect.Selector{}.Pool([]*corev1.Node{
		newNode("old", "10.0.0.1", created(now.Add(-time.Hour))),
		newNode("new", "10.0.0.1", created(now)),
		newNode("young-but-avoided", "10.0.0.2", created(now), avoided),
		newNode("fine", "10.0.0.2", created(now.Add(-time.Hour))),
	}, now)
	require.Equal(t, []string{"fine", "new"}, names(pool.Pick("a/b", nil)))
	require.Equal(t, []nodeselect.Finding{
		{Node: "old", Verdict: nodeselect.Unusable, Reason: "node new has the same identity 10.0.0.1"},
		{Node: "young-but-avoided", Verdict: nodeselect.Unusable, Reason: "node fine has the same identity 10.0.0.2"},
	}, pool.Findings())
	require.Equal(t, "Node old: node new has the same identity 10.0.0.1", pool.Problems()[0].Error())
}

// If a new machine gets the name of an old machine, it is another node by provider ID, so its
// subsets change. By name, it is the same node.
func TestNewMachineWithOldName(t *testing.T) {
	key := "a/b"
	for _, tt := range []struct {
		identity nodeselect.Identity
		same     bool
	}{{nodeselect.ByProviderID, false}, {nodeselect.ByName, true}} {
		nodes := numbered(200)
		for _, n := range nodes {
			n.Spec.ProviderID = "aws:///" + n.Name
		}
		s := nodeselect.Selector{Identity: tt.identity, Sticky: true}
		before := s.Pool(nodes, now).Pick(key, nil)
		for _, n := range nodes {
			if n.Name == before[0].Name {
				n.Spec.ProviderID += "-2"
			}
		}
		after := s.Pool(nodes, now).Pick(key, before)
		require.Equal(t, tt.same, slices.Equal(before, after))
	}
}

func TestSelect(t *testing.T) {
	services := []*corev1.Service{
		newService(port(corev1.ServicePort{Name: "metrics", Port: 9090, NodePort: 30090}), annotate("headgate.dev/agent-port", "31000")),
		newService(named("web", "front"), nodePort(31000), annotate("headgate.dev/weight", "50"), annotate("headgate.dev/agent-port", "9801")),
	}
	objects := nodeselect.NewObjects(append(numbered(30), newNode("cp", "10.9.9.9", excluded)), services)
	refs := []nodeselect.Ref{
		{Namespace: "web", Service: "front", Port: "http"},
		{Namespace: "media", Service: "gone", Port: "http"},
		{Namespace: "media", Service: "tracks", Port: "http"},
		{Namespace: "media", Service: "tracks", Port: "metrics"},
	}
	s := nodeselect.Selector{Size: 5}
	got := s.Select(objects, refs, now, nil)

	require.Len(t, got.Targets, 3)
	require.Equal(t, refs[0], got.Targets[0].Ref)
	require.Equal(t, 50, got.Targets[0].WeightPercent)
	require.Equal(t, uint16(9801), got.Targets[0].AgentPort)
	require.Equal(t, uint16(30090), got.Targets[2].NodePort)
	require.Equal(t, got.Targets[1].Nodes, got.Targets[2].Nodes, "ports of a service share nodes")
	require.NotEqual(t, got.Targets[0].Nodes, got.Targets[1].Nodes)
	require.Zero(t, got.Targets[1].AgentPort)
	require.Equal(t, []nodeselect.Finding{{Node: "cp", Verdict: nodeselect.Excluded, Reason: `label node.kubernetes.io/exclude-from-external-load-balancers=""`}}, got.Findings)
	var texts []string
	for _, p := range got.Problems {
		texts = append(texts, p.Error())
	}
	require.Equal(t, []string{
		"Service media/gone: there is no such service",
		`Service media/tracks: metadata.annotations[headgate.dev/agent-port]: "31000": the service has no agent, because it is a node port of Service web/front`,
	}, texts)

	require.True(t, got.Problems[1].Warning)

	reserved := s
	reserved.Reserved = []uint16{9801}
	require.Zero(t, reserved.Select(objects, refs, now, nil).Targets[0].AgentPort)

	// Subsets can be stored as JSON and used as current subsets.
	stored, err := json.Marshal(got.Subsets())
	require.NoError(t, err)
	var current nodeselect.Subsets
	require.NoError(t, json.Unmarshal(stored, &current))
	require.Equal(t, got.Subsets(), current)
	s.Sticky = true
	objects.Nodes = append(objects.Nodes, numbered(60)[30:]...)
	require.Equal(t, current, s.Select(objects, refs, now, current).Subsets())
}

// The result does not depend on the order of nodes, nor on the goroutine that calls Pick.
func TestSelectIsAFunction(t *testing.T) {
	objects := nodeselect.NewObjects(manifesttest.Nodes(100), manifesttest.Services(50))
	var refs []nodeselect.Ref
	for _, s := range objects.Services {
		refs = append(refs, nodeselect.Ref{Namespace: s.Namespace, Service: s.Name, Port: "http"})
	}
	want := nodeselect.Selector{Spread: true}.Select(objects, refs, now, nil)
	require.Empty(t, want.Problems)
	slices.Reverse(objects.Nodes)
	require.Equal(t, want.Targets, nodeselect.Selector{Spread: true}.Select(objects, refs, now, nil).Targets)

	pool := nodeselect.Selector{Spread: true}.Pool(objects.Nodes, now)
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for i := range want.Targets {
				if !slices.Equal(want.Targets[i].Nodes, pool.Pick(want.Targets[i].Key(), nil)) {
					panic("another subset")
				}
			}
		})
	}
	workers.Wait()
}

func TestDiffSubsets(t *testing.T) {
	node := func(i byte) nodeselect.Node {
		addr := netip.AddrFrom4([4]byte{10, 0, 0, i})
		return nodeselect.Node{Name: fmt.Sprint("n", i), Addr: addr, Identity: fmt.Sprint("id", i)}
	}
	moved := node(1)
	moved.Addr = netip.MustParseAddr("10.0.0.99")
	renamed := node(2)
	renamed.Name, renamed.Zone = "other", "z"
	type list = []nodeselect.Node
	old := nodeselect.Subsets{
		"a/same": {node(1), node(2)}, "b/lost": {node(1), node(2), node(3), node(4)}, "c/gone": {node(1)}, "d/moved": {node(1), node(2)},
	}
	next := nodeselect.Subsets{
		"a/same": {node(1), renamed}, "b/lost": {node(4), node(3), node(5)}, "d/moved": {moved, node(2)}, "e/new": {node(1)},
	}
	got := nodeselect.DiffSubsets(old, next)
	require.Equal(t, nodeselect.SubsetChanges{
		Services: []nodeselect.SubsetChange{
			{Service: "b/lost", Enter: list{node(5)}, Leave: list{node(1), node(2)}, Before: 4, After: 3},
			{Service: "c/gone", Leave: list{node(1)}, Before: 1},
			{Service: "d/moved", Enter: list{moved}, Leave: list{node(1)}, Before: 2, After: 2},
			{Service: "e/new", Enter: list{node(1)}, After: 1},
		},
		Enter: 3, Leave: 4, Before: 9, After: 8,
	}, got)
	require.InDelta(t, 4.0/9, got.Share(), 1e-12)
	require.InDelta(t, 0.5, got.Services[0].Share(), 1e-12)
	require.Zero(t, got.Services[3].Share())
	worst, ok := got.Largest()
	require.True(t, ok)
	require.Equal(t, "b/lost", worst.Service)

	same := nodeselect.DiffSubsets(old, old)
	require.Empty(t, same.Services)
	require.Zero(t, same.Share())
	_, ok = same.Largest()
	require.False(t, ok)
	require.Zero(t, nodeselect.DiffSubsets(nil, nil))
	require.Zero(t, nodeselect.DiffSubsets(nil, next).Share())
}

// If a node leaves, each service of this node gets one other node, and keeps all its other nodes.
func TestChurn(t *testing.T) {
	objects := nodeselect.NewObjects(manifesttest.Nodes(200), manifesttest.Services(300))
	var refs []nodeselect.Ref
	for _, s := range objects.Services {
		refs = append(refs, nodeselect.Ref{Namespace: s.Namespace, Service: s.Name, Port: "http"})
	}
	before := nodeselect.Selector{}.Select(objects, refs, now, nil).Subsets()
	had := 0
	for _, subset := range before {
		if slices.Contains(names(subset), objects.Nodes[7].Name) {
			had++
		}
	}
	require.Positive(t, had)
	objects.Nodes = slices.Delete(objects.Nodes, 7, 8)
	changes := nodeselect.DiffSubsets(before, nodeselect.Selector{}.Select(objects, refs, now, nil).Subsets())
	require.Len(t, changes.Services, had)
	require.Equal(t, had, changes.Enter)
	require.Equal(t, had, changes.Leave)
}

// A node without a name does not affect the others. Only a caller of NewObjects can have such a
// node.
func TestPoolOfNamelessNodes(t *testing.T) {
	for id, want := range map[nodeselect.Identity][]string{
		nodeselect.ByAddress: {"", "a"}, nodeselect.ByName: {"a"}, nodeselect.ByProviderID: {"a"},
	} {
		pool := nodeselect.Selector{Identity: id}.Pool([]*corev1.Node{newNode("", "10.0.0.1"), newNode("a", "10.0.0.2")}, now)
		require.Equal(t, want, names(pool.Pick("a/b", nil)))
		if len(want) == 1 {
			require.Equal(t, []nodeselect.Finding{{Verdict: nodeselect.Unusable, Reason: "neither a name nor a provider ID to know it by"}}, pool.Findings())
		}
	}
}
