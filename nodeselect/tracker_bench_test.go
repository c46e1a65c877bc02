package nodeselect_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/internal/manifesttest"
	"github.com/headgate/headgate/nodeselect"
)

// BenchmarkTracker measures one event in a cluster of 1,000 nodes and 2,000 services of 20 nodes
// each, and a complete Select for comparison.
func BenchmarkTracker(b *testing.B) {
	const nodes, services = 1000, 2000
	at := manifesttest.Epoch.AddDate(0, 2, 0)
	objects := nodeselect.NewObjects(manifesttest.Nodes(nodes), manifesttest.Services(services))
	refs := make([]nodeselect.Ref, services)
	for i, s := range objects.Services {
		refs[i] = nodeselect.Ref{Namespace: s.Namespace, Service: s.Name, Port: "http"}
	}
	one := objects.Nodes[7]
	tainted := one.DeepCopy()
	tainted.Spec.Taints = []corev1.Taint{{Key: nodeselect.TaintKarpenter}}
	beat := one.DeepCopy()
	beat.ResourceVersion += "1"
	service := objects.Services[7]
	key := service.Namespace + "/" + service.Name
	weighted := service.DeepCopy()
	weighted.Annotations = map[string]string{"headgate.dev/weight": "50"}
	agent := service.DeepCopy()
	agent.Annotations = map[string]string{"headgate.dev/agent-port": "9801"}

	node := func(n *corev1.Node) nodeselect.Delta {
		return nodeselect.Delta{Nodes: map[string]*corev1.Node{one.Name: n}}
	}
	svc := func(s *corev1.Service) nodeselect.Delta {
		return nodeselect.Delta{Services: map[string]*corev1.Service{key: s}}
	}
	for _, s := range []struct {
		name string
		nodeselect.Selector
	}{{"top", nodeselect.Selector{}}, {"spread", nodeselect.Selector{Spread: true}}, {"sticky", nodeselect.Selector{Sticky: true}}} {
		all := nodeselect.Delta{Nodes: map[string]*corev1.Node{}, Services: map[string]*corev1.Service{}, Refs: refs}
		for _, n := range objects.Nodes {
			all.Nodes[n.Name] = n
		}
		for _, s := range objects.Services {
			all.Services[s.Namespace+"/"+s.Name] = s
		}
		for _, bb := range []struct {
			name       string
			do, undo   nodeselect.Delta
			doNotTimed bool // measure undo
		}{
			{"node-leaves", node(nil), node(one), false},
			{"node-joins", node(nil), node(one), true},
			{"node-to-be-avoided", node(tainted), node(one), false},
			{"heartbeat", node(beat), node(one), false},
			{"time", nodeselect.Delta{}, nodeselect.Delta{}, false},
			{"service-weight", svc(weighted), svc(service), false},
			{"service-agent-port", svc(agent), svc(service), false},
			{"service-deleted", svc(nil), svc(service), false},
		} {
			b.Run(s.name+"/"+bb.name, func(b *testing.B) {
				t := nodeselect.NewTracker(s.Selector, nil)
				t.Update(all, at)
				b.ReportAllocs()
				for b.Loop() {
					if bb.doNotTimed {
						b.StopTimer()
					}
					t.Update(bb.do, at)
					if bb.doNotTimed {
						b.StartTimer()
					} else {
						b.StopTimer()
					}
					selection, _ := t.Update(bb.undo, at)
					if len(selection.Targets) != services {
						b.Fatal(len(selection.Targets))
					}
					if !bb.doNotTimed {
						b.StartTimer()
					}
				}
			})
		}
		b.Run(fmt.Sprintf("%s/from-scratch", s.name), func(b *testing.B) {
			current := s.Select(objects, refs, at, nil).Subsets()
			b.ReportAllocs()
			for b.Loop() {
				if len(s.Select(objects, refs, at, current).Targets) != services {
					b.Fatal("wrong selection")
				}
			}
		})
	}
}
