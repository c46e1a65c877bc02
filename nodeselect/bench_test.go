package nodeselect_test

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/internal/manifesttest"
	"github.com/headgate/headgate/nodeselect"
)

// BenchmarkSelect picks 20 of 1,000 nodes for each service. The time includes the judgement of
// nodes.
func BenchmarkSelect(b *testing.B) {
	nodes := manifesttest.Nodes(1000)
	for _, n := range []int{500, 1000, 2000, 4000} {
		objects := nodeselect.NewObjects(nodes, manifesttest.Services(n))
		refs := make([]nodeselect.Ref, n)
		for i, s := range objects.Services {
			refs[i] = nodeselect.Ref{Namespace: s.Namespace, Service: s.Name, Port: "http"}
		}
		for _, s := range []struct {
			name string
			nodeselect.Selector
		}{{"top", nodeselect.Selector{}}, {"spread", nodeselect.Selector{Spread: true}}, {"sticky", nodeselect.Selector{Sticky: true}}} {
			b.Run(fmt.Sprintf("services=%d/%s", n, s.name), func(b *testing.B) {
				now := manifesttest.Epoch.AddDate(0, 2, 0)
				current := s.Select(objects, refs, now, nil).Subsets()
				b.ReportAllocs()
				for b.Loop() {
					got := s.Select(objects, refs, now, current)
					if len(got.Targets) != n || len(got.Targets[0].Nodes) != 20 {
						b.Fatal("wrong selection")
					}
				}
			})
		}
	}
}

func BenchmarkPick(b *testing.B) {
	for _, bb := range []struct {
		name  string
		ready corev1.ConditionStatus
	}{{"ready", corev1.ConditionTrue}, {"not-ready", corev1.ConditionFalse}} {
		for _, spread := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/spread=%t", bb.name, spread), func(b *testing.B) {
				nodes := manifesttest.Nodes(1000)
				for _, n := range nodes {
					for i := range n.Status.Conditions {
						if c := &n.Status.Conditions[i]; c.Type == corev1.NodeReady {
							c.Status = bb.ready
						}
					}
				}
				pool := nodeselect.Selector{Spread: spread}.Pool(nodes, manifesttest.Epoch.AddDate(0, 2, 0))
				b.ReportAllocs()
				for b.Loop() {
					if len(pool.Pick("media/tracks", nil)) != 20 {
						b.Fatal("wrong size")
					}
				}
			})
		}
	}
}

func BenchmarkDiffSubsets(b *testing.B) {
	nodes := manifesttest.Nodes(1000)
	objects := nodeselect.NewObjects(nodes, manifesttest.Services(2000))
	var refs []nodeselect.Ref
	for _, s := range objects.Services {
		refs = append(refs, nodeselect.Ref{Namespace: s.Namespace, Service: s.Name, Port: "http"})
	}
	old := nodeselect.Selector{}.Select(objects, refs, manifesttest.Epoch, nil).Subsets()
	objects.Nodes = slices.Clone(objects.Nodes)[10:]
	next := nodeselect.Selector{}.Select(objects, refs, manifesttest.Epoch, nil).Subsets()
	b.ReportAllocs()
	for b.Loop() {
		if nodeselect.DiffSubsets(old, next).Leave == 0 {
			b.Fatal("nothing leaves")
		}
	}
}
