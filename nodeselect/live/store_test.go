package live

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/internal/kubewatch"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/internal/doubt"
)

// If the API server forbids EndpointSlices, the first Snapshot does not wait for them.
func TestForbiddenSlices(t *testing.T) {
	w := &Watcher{LocalEndpoints: true}
	inBubble(t, w, func(t *testing.T, calls *calls) {
		local := testService("s")
		local.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		forbidden := apierrors.NewForbidden(discoveryv1.Resource("endpointslices"), "", errors.New("no such role"))
		w.queue.health(kindSlices)(&kubewatch.Error{Resource: "endpointslices", Err: forbidden})
		w.SetRefs([]nodeselect.Ref{testRef})
		w.queue.nodes.Replace(testNodes(1, 3))
		w.queue.services.Replace([]*corev1.Service{local})
		pass(time.Second)
		require.Equal(t, 1, len(calls.all()))
		s := calls.all()[0]
		require.True(t, s.Synced)
		require.ErrorIs(t, s.Err, forbidden)
		require.Len(t, s.Selection.Targets[0].Nodes, 3)
		_, unknown := nodeselect.Annotations{}.Resolve(nodeselect.NewObjects(nil, []*corev1.Service{local}), testRef)
		require.Len(t, unknown, 1)
		require.Contains(t, unknown[0].Message, "a node without a ready pod of the service drops its traffic")
		require.Equal(t, unknown, s.Selection.Problems)
	})
}

// If a list lacks more than half of the objects, the store does not remove them at once.
func TestDoubtfulLists(t *testing.T) {
	last := func(calls *calls) Snapshot { return calls.all()[len(calls.all())-1].Snapshot }
	tests := []struct {
		name  string
		after func(t *testing.T, w *Watcher, calls *calls)
	}{
		{"an empty list removes nothing", func(t *testing.T, w *Watcher, calls *calls) {
			w.queue.nodes.Replace(nil)
			pass(time.Hour)
			require.Len(t, last(calls).Objects.Nodes, 9)
			require.ErrorContains(t, last(calls).Err, "nodes: a list lacks 9 of 9; they are kept")
			w.queue.nodes.Replace(testNodes(1, 9))
			pass(time.Second)
			require.NoError(t, last(calls).Err)
		}},
		{"an object after an empty list starts the five minutes", func(t *testing.T, w *Watcher, calls *calls) {
			w.queue.nodes.Replace(nil)
			pass(time.Hour)
			w.queue.nodes.Set(testNode("n1"))
			w.queue.nodes.Set(testNode("n20"))
			pass(doubt.ConfirmAfter - time.Second)
			require.Len(t, last(calls).Objects.Nodes, 10)
			require.Error(t, last(calls).Err)
			pass(RecheckInterval + time.Second)
			require.Len(t, last(calls).Objects.Nodes, 2)
			require.NoError(t, last(calls).Err)
		}},
		{"a list with objects after an empty one starts the five minutes", func(t *testing.T, w *Watcher, calls *calls) {
			w.queue.nodes.Replace(nil)
			pass(time.Hour)
			w.queue.nodes.Replace(testNodes(1, 2)) // an API server whose store is being restored
			pass(doubt.ConfirmAfter - time.Second)
			require.Len(t, last(calls).Objects.Nodes, 9)
			require.ErrorContains(t, last(calls).Err, "a list lacks 7 of 9; they are kept until ")
			pass(RecheckInterval + time.Second)
			require.Len(t, last(calls).Objects.Nodes, 2)
			require.NoError(t, last(calls).Err)
		}},
		{"while the API server is away nothing is removed", func(t *testing.T, w *Watcher, calls *calls) {
			w.queue.nodes.Replace(testNodes(1, 4))
			w.queue.health(kindNodes)(errors.New("refused"))
			pass(time.Hour)
			require.Len(t, last(calls).Objects.Nodes, 9)
			w.queue.health(kindNodes)(nil)
			pass(doubt.ConfirmAfter - time.Second)
			require.Len(t, last(calls).Objects.Nodes, 9)
			require.ErrorContains(t, last(calls).Err, "kept until 2000-01-01T01:05:00Z")
			pass(RecheckInterval + time.Second)
			require.Len(t, last(calls).Objects.Nodes, 4)
			require.NoError(t, last(calls).Err)
		}},
		{"the API server's own service does not count", func(t *testing.T, w *Watcher, calls *calls) {
			own := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes"}}
			w.queue.services.Set(own)
			w.queue.services.Replace([]*corev1.Service{own})
			pass(time.Hour)
			require.Len(t, last(calls).Selection.Targets, 1)
			require.ErrorContains(t, last(calls).Err, "services: a list lacks 1 of 2; they are kept while the API server has no objects")
			w.queue.services.Replace(nil)
			w.queue.services.Set(own)
			pass(time.Hour)
			require.Len(t, last(calls).Selection.Targets, 1)
			require.Error(t, last(calls).Err)
			w.queue.services.Replace([]*corev1.Service{own, testService("s")})
			pass(time.Second)
			require.NoError(t, last(calls).Err)
		}},
		{"all objects appear again", func(t *testing.T, w *Watcher, calls *calls) {
			w.queue.nodes.Replace(nil)
			for _, n := range testNodes(1, 9) {
				w.queue.nodes.Set(n)
			}
			pass(time.Second)
			require.NoError(t, last(calls).Err)
			pass(time.Hour)
			require.Equal(t, 1, len(calls.all()))
		}},
		{"a short list takes effect after five minutes", func(t *testing.T, w *Watcher, calls *calls) {
			w.queue.nodes.Replace(testNodes(1, 4))
			pass(doubt.ConfirmAfter / 2)
			require.Len(t, last(calls).Objects.Nodes, 9)
			require.ErrorContains(t, last(calls).Err, "a list lacks 5 of 9")
			w.queue.nodes.Replace(testNodes(1, 3)) // this does not start the five minutes again
			pass(doubt.ConfirmAfter/2 + RecheckInterval)
			require.Len(t, last(calls).Objects.Nodes, 3)
			require.NoError(t, last(calls).Err)
		}},
		{"a list that lacks half takes effect at once", func(t *testing.T, w *Watcher, calls *calls) {
			w.queue.nodes.Replace(testNodes(1, 5))
			pass(time.Second)
			require.Len(t, last(calls).Objects.Nodes, 5)
			require.NoError(t, last(calls).Err)
		}},
		{"deletions take effect at once", func(t *testing.T, w *Watcher, calls *calls) {
			for i := 1; i <= 9; i++ {
				w.queue.nodes.Delete("", fmt.Sprint("n", i))
			}
			pass(time.Second)
			require.Empty(t, last(calls).Objects.Nodes)
			require.NoError(t, last(calls).Err)
		}},
		{"services", func(t *testing.T, w *Watcher, calls *calls) {
			w.queue.services.Replace(nil)
			pass(time.Hour)
			require.Len(t, last(calls).Selection.Targets, 1)
			require.ErrorContains(t, last(calls).Err, "services: a list lacks 1 of 1")
			w.queue.services.Delete("ns", "s")
			pass(time.Second)
			require.Empty(t, last(calls).Selection.Targets)
			require.NoError(t, last(calls).Err)
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := &Watcher{}
			inBubble(t, w, func(t *testing.T, calls *calls) {
				list(w)
				require.Equal(t, 1, len(calls.all()))
				test.after(t, w, calls)
			})
		})
	}
}

// An empty list of EndpointSlices removes nothing either. Otherwise a service with
// externalTrafficPolicy Local would get nodes without pods, and these nodes drop its traffic.
func TestDoubtfulListsOfSlices(t *testing.T) {
	for name, list := range map[string][]*discoveryv1.EndpointSlice{
		"empty": nil,
		"only the API server's own": {func() *discoveryv1.EndpointSlice {
			s := testSlice("kubernetes", "kubernetes", nil)
			s.Namespace = "default"
			return s
		}()},
	} {
		t.Run(name, func(t *testing.T) {
			w := &Watcher{LocalEndpoints: true}
			inBubble(t, w, func(t *testing.T, calls *calls) {
				local := testService("s")
				local.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
				slices := []*discoveryv1.EndpointSlice{testSlice("s", "s-1", map[string]discoveryv1.EndpointConditions{"n3": {}})}
				w.SetRefs([]nodeselect.Ref{testRef})
				w.queue.nodes.Replace(testNodes(1, 9))
				w.queue.services.Replace([]*corev1.Service{local})
				w.queue.slices.Replace(slices)
				pass(time.Second)
				require.Equal(t, "n3", calls.all()[0].Selection.Targets[0].Nodes[0].Name)
				w.queue.slices.Replace(list)
				pass(time.Hour)
				last := calls.all()[len(calls.all())-1]
				require.Len(t, last.Selection.Targets[0].Nodes, 1)
				require.ErrorContains(t, last.Err, "endpointslices: a list lacks 1 of 1; they are kept")
				w.queue.slices.Replace(slices)
				pass(time.Second)
				last = calls.all()[len(calls.all())-1]
				require.NoError(t, last.Err)
				require.Len(t, last.Selection.Targets[0].Nodes, 1)
			})
		})
	}
}

// At first, requests for EndpointSlices fail. The first Snapshot waits until they succeed.
// Otherwise services with externalTrafficPolicy Local would get nodes without pods for a moment.
func TestLateSlices(t *testing.T) {
	w := &Watcher{LocalEndpoints: true}
	inBubble(t, w, func(t *testing.T, calls *calls) {
		local := testService("s")
		local.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		for kind := range kinds {
			w.queue.health(kind)(errors.New("refused"))
		}
		w.SetRefs([]nodeselect.Ref{testRef})
		w.queue.nodes.Replace(testNodes(1, 9))
		w.queue.health(kindNodes)(nil)
		w.queue.services.Replace([]*corev1.Service{local})
		w.queue.health(kindServices)(nil)
		pass(5 * time.Second)
		for _, c := range calls.all() {
			require.False(t, c.Synced)
		}
		w.queue.slices.Replace([]*discoveryv1.EndpointSlice{testSlice("s", "s-1", map[string]discoveryv1.EndpointConditions{"n3": {}})})
		w.queue.health(kindSlices)(nil)
		pass(time.Second)
		last := calls.all()[len(calls.all())-1]
		require.True(t, last.Synced)
		require.NoError(t, last.Err)
		require.Len(t, last.Selection.Targets[0].Nodes, 1)
	})
}

// The first Snapshot waits at most slicesWait. In later Snapshots, Synced stays true.
func TestSlicesThatNeverCome(t *testing.T) {
	w := &Watcher{LocalEndpoints: true}
	inBubble(t, w, func(t *testing.T, calls *calls) {
		w.queue.health(kindSlices)(errors.New("internal error"))
		list(w)
		pass(slicesWait + RecheckInterval)
		last := calls.all()[len(calls.all())-1]
		require.True(t, last.Synced)
		require.EqualError(t, last.Err, "nodeselect/live: internal error")
		w.queue.health(kindSlices)(nil)
		pass(time.Second)
		last = calls.all()[len(calls.all())-1]
		require.True(t, last.Synced)
		require.NoError(t, last.Err)
	})
}
