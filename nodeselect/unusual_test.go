package nodeselect_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/nodeselect"
)

// addresses sets the internal addresses of a node.
func addresses(list ...string) func(*corev1.Node) {
	return func(n *corev1.Node) {
		n.Status.Addresses = nil
		for _, a := range list {
			n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
		}
	}
}

func families(list ...corev1.IPFamily) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.IPFamilies = list }
}

var webRef = nodeselect.Ref{Namespace: "shop", Service: "web"}

func selectWeb(s nodeselect.Selector, nodes []*corev1.Node, changes ...func(*corev1.Service)) nodeselect.Selection {
	svc := newService(append([]func(*corev1.Service){named("shop", "web"), nodePort(30080)}, changes...)...)
	return s.Select(nodeselect.NewObjects(nodes, []*corev1.Service{svc}), []nodeselect.Ref{webRef}, now, nil)
}

func addrsOf(nodes []nodeselect.Node) (list []string) {
	for _, n := range nodes {
		list = append(list, n.Addr.String())
	}
	return list
}

// kube-proxy opens a node port only for the families of the Service.
func TestNodesHaveAnAddressOfTheServicesFamily(t *testing.T) {
	var nodes []*corev1.Node
	for i := range 20 {
		nodes = append(nodes, newNode(fmt.Sprintf("n%02d", i), "", addresses(fmt.Sprintf("10.1.0.%d", i+1), fmt.Sprintf("fd00::%d", i+1))))
	}
	s := nodeselect.Selector{Size: 3}
	usual := selectWeb(s, nodes).Targets[0].Nodes
	require.Equal(t, usual, selectWeb(s, nodes, families(corev1.IPv4Protocol)).Targets[0].Nodes)
	require.Equal(t, usual, selectWeb(s, nodes, families(corev1.IPv6Protocol, corev1.IPv4Protocol)).Targets[0].Nodes)
	six := selectWeb(s, nodes, families(corev1.IPv6Protocol))
	require.Empty(t, six.Problems)
	for i, n := range six.Targets[0].Nodes {
		require.True(t, n.Addr.Is6())
		n.Addr = netip.MustParseAddr(n.Identity)
		require.Equal(t, usual[i], n, "the same node, with another address")
	}

	// A node without an address of the family gets no place.
	mixed := append(nodes[:1:1], newNode("only4", "10.2.0.1"))
	require.Equal(t, []string{"fd00::1"}, addrsOf(selectWeb(s, mixed, families(corev1.IPv6Protocol)).Targets[0].Nodes))
	none := selectWeb(s, mixed[1:], families(corev1.IPv6Protocol))
	require.Empty(t, none.Targets[0].Nodes)
	require.Equal(t, []nodeselect.Problem{{
		Object: "Service shop/web", Field: "spec.ipFamilies",
		Message: "no node that can be used has an IPv6 address, and the service has no other family",
	}}, none.Problems)
}

// Here one node has only an IPv6 address. So a change of any node may change the nodes of a service
// with one IP family.
func TestTrackerFollowsFamilies(t *testing.T) {
	service := func(f corev1.IPFamily) map[string]*corev1.Service {
		return map[string]*corev1.Service{webRef.Key(): newService(named("shop", "web"), nodePort(30080), families(f))}
	}
	tracker := nodeselect.NewTracker(nodeselect.Selector{}, nil)
	selection, _ := tracker.Update(nodeselect.Delta{
		Refs: []nodeselect.Ref{webRef}, Services: service(corev1.IPv4Protocol),
		Nodes: map[string]*corev1.Node{"a": newNode("a", "10.0.0.1"), "b": newNode("b", "fd00::2")},
	}, now)
	require.Equal(t, []string{"10.0.0.1"}, addrsOf(selection.Targets[0].Nodes))
	selection, _ = tracker.Update(nodeselect.Delta{Services: service(corev1.IPv6Protocol)}, now)
	require.Equal(t, []string{"fd00::2"}, addrsOf(selection.Targets[0].Nodes))
	selection, changed := tracker.Update(nodeselect.Delta{Nodes: map[string]*corev1.Node{"a": newNode("a", "", addresses("10.0.0.1", "fd00::1"))}}, now)
	require.Equal(t, []string{"fd00::1", "fd00::2"}, addrsOf(selection.Targets[0].Nodes))
	require.Equal(t, nodeselect.Changed{Nodes: []string{"a"}, Services: []string{"shop/web"}}, changed)
}

// A virtual address that moves between nodes is the address of no node.
func TestSharedAddressIsNotUsed(t *testing.T) {
	nodes := []*corev1.Node{
		newNode("a", "", addresses("10.1.0.200", "10.1.0.1")),
		newNode("b", "", addresses("10.1.0.2", "10.1.0.200")),
		newNode("c", "10.1.0.3"),
	}
	selection := selectWeb(nodeselect.Selector{}, nodes)
	require.Equal(t, []string{"10.1.0.1", "10.1.0.2", "10.1.0.3"}, addrsOf(selection.Targets[0].Nodes))
	require.Equal(t, "10.1.0.1", selection.Targets[0].Nodes[0].Identity)
	require.Equal(t, []nodeselect.Problem{{
		Object: "Node a", Field: nodeselect.AddressField, Warning: true,
		Message: "10.1.0.200 is an address of several nodes, so it is not used; 10.1.0.1 is",
	}}, selection.Problems)

	// A machine is gone, and another machine has its only address. The object of the old machine
	// may still list this address. An address of another family is no substitute, because the
	// balancer may not reach it.
	for _, second := range [][]string{{"10.1.0.3"}, {"10.1.0.3", "fd00::3"}} {
		selection = selectWeb(nodeselect.Selector{}, []*corev1.Node{newNode("c", "10.1.0.3"), newNode("d", "", addresses(second...))})
		require.Equal(t, []string{"10.1.0.3"}, addrsOf(selection.Targets[0].Nodes))
	}
}

// The address that a node gets may depend on another node.
func TestTrackerFollowsSharedAddresses(t *testing.T) {
	tracker := nodeselect.NewTracker(nodeselect.Selector{}, nil)
	nodes := func(b ...string) map[string]*corev1.Node {
		return map[string]*corev1.Node{"b": newNode("b", "", addresses(b...))}
	}
	selection, _ := tracker.Update(nodeselect.Delta{
		Refs:     []nodeselect.Ref{webRef},
		Services: map[string]*corev1.Service{webRef.Key(): newService(named("shop", "web"), nodePort(30080))},
		Nodes:    map[string]*corev1.Node{"a": newNode("a", "", addresses("10.0.0.200", "10.0.0.1"))},
	}, now)
	require.Equal(t, []string{"10.0.0.200"}, addrsOf(selection.Targets[0].Nodes), "nobody else has the address")
	selection, changed := tracker.Update(nodeselect.Delta{Nodes: nodes("10.0.0.2", "10.0.0.200")}, now)
	require.Equal(t, []string{"10.0.0.1", "10.0.0.2"}, addrsOf(selection.Targets[0].Nodes))
	require.Equal(t, []string{"a", "b"}, changed.Nodes)
	_, changed = tracker.Update(nodeselect.Delta{Nodes: nodes("10.0.0.2", "10.0.0.200")}, now)
	require.True(t, changed.IsZero())
	selection, changed = tracker.Update(nodeselect.Delta{Nodes: nodes("10.0.0.2")}, now)
	require.Equal(t, []string{"10.0.0.200", "10.0.0.2"}, addrsOf(selection.Targets[0].Nodes))
	require.Equal(t, []string{"a"}, changed.Nodes)
}

// Without its zone label, a node gets about as many services as the others.
func TestNodesWithoutAZoneAreSpreadLikeTheOthers(t *testing.T) {
	var nodes []*corev1.Node
	for i := range 30 {
		nodes = append(nodes, newNode(fmt.Sprintf("n%02d", i), fmt.Sprintf("10.1.0.%d", i+1), zone(string(rune('a'+i%3)))))
	}
	delete(nodes[0].Labels, corev1.LabelTopologyZone)
	s := nodeselect.Selector{Size: 8, Spread: true}
	pool := s.Pool(nodes, now)
	services := 0
	for i := range 100 {
		picked := pool.Pick(fmt.Sprint("shop/s", i), nil)
		require.Len(t, picked, 8)
		for _, n := range picked {
			if n.Name == "n00" {
				require.Empty(t, n.Zone, "the node has no zone")
				services++
			}
		}
	}
	require.InDelta(t, 27, services, 12, "100 services of 8 nodes, on 30 nodes")
	require.Equal(t, []nodeselect.Problem{{
		Message: "1 of 30 nodes have no label topology.kubernetes.io/zone; each of them counts for one of the zones", Warning: true,
	}}, pool.Problems())

	s.Spread = false
	require.Empty(t, s.Pool(nodes, now).Problems())
	for _, n := range nodes {
		n.Labels = nil
	}
	without := s.Pool(nodes, now)
	s.Spread = true
	spread := s.Pool(nodes, now)
	require.Equal(t, []nodeselect.Problem{{
		Message: "no node has the label topology.kubernetes.io/zone, so the nodes of a service are not spread over zones", Warning: true,
	}}, spread.Problems())
	require.Equal(t, without.Pick("shop/web", nil), spread.Pick("shop/web", nil))
}

func TestSessionAffinityIsAWarning(t *testing.T) {
	selection := selectWeb(nodeselect.Selector{}, []*corev1.Node{newNode("a", "10.0.0.1")}, func(s *corev1.Service) {
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	})
	require.Len(t, selection.Targets[0].Nodes, 1)
	require.Len(t, selection.Problems, 1)
	require.True(t, selection.Problems[0].Warning)
	require.EqualError(t, selection.Problems[0], "Service shop/web: spec.sessionAffinity: ClientIP: kube-proxy sees the balancer as the client, so each node sends all requests of a balancer to one pod, and most pods may get none")
}

// kube-proxy gets the connections to a node port before the agent that listens on the same port. So
// a Service that no route names can also disturb the checks of all other services.
func TestNodePortOfTheAgents(t *testing.T) {
	s := nodeselect.Selector{Reserved: []uint16{9707}}
	nodes := []*corev1.Node{newNode("a", "10.0.0.1")}
	problemsOf := func(change func(*corev1.Service)) (texts []string) {
		services := []*corev1.Service{
			newService(named("shop", "web"), nodePort(30080)),
			newService(named("shop", "other"), nodePort(30081), change),
		}
		for _, p := range s.Select(nodeselect.NewObjects(nodes, services), []nodeselect.Ref{webRef}, now, nil).Problems {
			require.True(t, p.Warning)
			texts = append(texts, p.Error())
		}
		return texts
	}
	require.Empty(t, problemsOf(func(*corev1.Service) {}))
	require.Equal(t, []string{"Service shop/other: spec.ports.nodePort: 9707 is on every node the port of the agents: HAProxy's checks of every service reach this service instead"},
		problemsOf(nodePort(9707)))
	require.Equal(t, []string{"Service shop/other: spec.healthCheckNodePort: 10256 is on every node the port of Kubernetes itself: its connections reach this service instead"},
		problemsOf(func(s *corev1.Service) { s.Spec.HealthCheckNodePort = 10256 }))
	require.Empty(t, problemsOf(func(s *corev1.Service) {
		s.Spec.Ports[0].NodePort, s.Spec.Ports[0].Protocol = 9707, corev1.ProtocolUDP
	}))

	tracker := nodeselect.NewTracker(s, nil)
	other := func(port int32) nodeselect.Delta {
		return nodeselect.Delta{Services: map[string]*corev1.Service{"shop/other": newService(named("shop", "other"), nodePort(port))}}
	}
	selection, changed := tracker.Update(other(9707), now)
	require.Equal(t, []string{"shop/other"}, changed.Services)
	require.Len(t, selection.Problems, 2, "and that there is no node")
	selection, changed = tracker.Update(other(30081), now)
	require.Equal(t, []string{"shop/other"}, changed.Services)
	require.Len(t, selection.Problems, 1)
}

// With externalTrafficPolicy Local, a node sends traffic only to its own pods.
func TestLocalPodsOutsideTheSubset(t *testing.T) {
	var nodes []*corev1.Node
	var ready []string
	for i := range 10 {
		nodes = append(nodes, newNode(fmt.Sprint("n", i), fmt.Sprintf("10.0.0.%d", i+1)))
		ready = append(ready, fmt.Sprint("n", i))
	}
	svc := newService(named("shop", "web"), nodePort(30080), func(s *corev1.Service) {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	})
	choose := func(s nodeselect.Selector, ready []string) nodeselect.Selection {
		objects := nodeselect.NewObjects(nodes, []*corev1.Service{svc})
		objects.ReadyNodes = map[string][]string{"shop/web": ready}
		return s.Select(objects, []nodeselect.Ref{webRef}, now, nil)
	}
	few := choose(nodeselect.Selector{Size: 4}, ready)
	require.Len(t, few.Targets[0].Nodes, 4)
	require.Equal(t, []nodeselect.Problem{{
		Object: "Service shop/web", Field: "spec.externalTrafficPolicy", Warning: true,
		Message: "Local: 10 nodes have a ready pod, and 4 of them get traffic: the pods on the others get none",
	}}, few.Problems)
	all := choose(nodeselect.Selector{Size: 4, AllLocal: true}, ready)
	require.Len(t, all.Targets[0].Nodes, 10)
	require.Empty(t, all.Problems)
	require.Empty(t, choose(nodeselect.Selector{Size: 4}, ready[:4]).Problems)
	require.Len(t, choose(nodeselect.Selector{Size: 4, AllLocal: true}, ready[:2]).Targets[0].Nodes, 2)
}
