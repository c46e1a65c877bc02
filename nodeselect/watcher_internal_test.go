package nodeselect

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/internal/kubewatch"
)

func testNode(name string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0." + name[1:]}}
	return n
}

func testNodes(from, to int) []*corev1.Node {
	var nodes []*corev1.Node
	for i := from; i <= to; i++ {
		nodes = append(nodes, testNode(fmt.Sprint("n", i)))
	}
	return nodes
}

func testService(name string) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
	s.Spec.Type = corev1.ServiceTypeNodePort
	s.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80, NodePort: 30080}}
	return s
}

func testSlice(service, name string, nodes map[string]discoveryv1.EndpointConditions) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
		Namespace: "ns", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service},
	}}
	for node, conditions := range nodes {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{NodeName: &node, Conditions: conditions})
	}
	return s
}

var testRef = Ref{Namespace: "ns", Service: "s", Port: "http"}

// called is a Snapshot and when it came.
type called struct {
	Snapshot
	at time.Duration
}

// calls are the calls of changed so far.
type calls struct {
	made chan called
	list []called
}

func (c *calls) all() []called {
	for len(c.made) > 0 {
		c.list = append(c.list, <-c.made)
	}
	return c.list
}

// inBubble runs a Watcher without an API server in a bubble of its own time. Tests put
// into its inbox what sources would.
func inBubble(t *testing.T, w *Watcher, test func(t *testing.T, calls *calls)) {
	synctest.Test(t, func(t *testing.T) {
		w.init()
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		calls := &calls{made: make(chan called, 1000)}
		done := make(chan error, 1)
		go func() {
			done <- w.follow(ctx, func(s Snapshot) { calls.made <- called{s, time.Since(start)} })
		}()
		synctest.Wait()
		defer cancel()
		test(t, calls)
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	})
}

// pass lets time pass until everybody waits.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func listed(w *Watcher) {
	w.SetRefs([]Ref{testRef})
	w.inbox.nodes.Replace(testNodes(1, 9))
	w.inbox.services.Replace([]*corev1.Service{testService("s")})
	pass(watcherQuiet)
}

func TestNothingBeforeEverythingIsListed(t *testing.T) {
	w := &Watcher{LocalEndpoints: true}
	inBubble(t, w, func(t *testing.T, calls *calls) {
		w.SetRefs([]Ref{testRef})
		w.inbox.nodes.Replace(testNodes(1, 3))
		pass(time.Minute)
		require.Equal(t, 0, len(calls.all()))
		w.inbox.services.Replace([]*corev1.Service{testService("s")})
		pass(time.Minute)
		require.Equal(t, 0, len(calls.all()))
		w.inbox.slices.Replace(nil)
		pass(time.Minute)
		require.Equal(t, 1, len(calls.all()))
		s := calls.all()[0]
		require.True(t, s.Synced)
		require.NoError(t, s.Err)
		require.Len(t, s.Objects.Nodes, 3)
		require.NotNil(t, s.Objects.ReadyNodes)
		require.Len(t, s.Selection.Targets[0].Nodes, 3)
		require.Equal(t, Changed{Nodes: []string{"n1", "n2", "n3"}, Services: []string{"ns/s"}}, s.Changed)
	})
}

// A cluster whose endpoint slices cannot be read is followed without them.
func TestSlicesAreNotWaitedForInVain(t *testing.T) {
	w := &Watcher{LocalEndpoints: true}
	inBubble(t, w, func(t *testing.T, calls *calls) {
		local := testService("s")
		local.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		forbidden := apierrors.NewForbidden(discoveryv1.Resource("endpointslices"), "", errors.New("no such role"))
		w.inbox.health(kindSlices)(&kubewatch.Error{Resource: "endpointslices", Err: forbidden})
		w.SetRefs([]Ref{testRef})
		w.inbox.nodes.Replace(testNodes(1, 3))
		w.inbox.services.Replace([]*corev1.Service{local})
		pass(time.Second)
		require.Equal(t, 1, len(calls.all()))
		s := calls.all()[0]
		require.True(t, s.Synced)
		require.ErrorIs(t, s.Err, forbidden)
		require.Len(t, s.Selection.Targets[0].Nodes, 3)
		require.Equal(t, []Problem{podsUnknown(local)}, s.Selection.Problems)
	})
}

func TestUnreachableAtTheStart(t *testing.T) {
	w := &Watcher{}
	inBubble(t, w, func(t *testing.T, calls *calls) {
		w.inbox.health(kindNodes)(errors.New("nodes: refused"))
		w.inbox.health(kindServices)(errors.New("services: refused"))
		pass(time.Second)
		require.Equal(t, 1, len(calls.all()))
		require.EqualError(t, calls.all()[0].Err, "nodeselect: nodes: refused; services: refused")
		require.Equal(t, Snapshot{Err: calls.all()[0].Err}, calls.all()[0].Snapshot)
		w.SetRefs([]Ref{testRef})
		pass(time.Minute)
		require.Equal(t, 1, len(calls.all()), "nothing new")
		w.inbox.nodes.Replace(testNodes(1, 3))
		w.inbox.health(kindNodes)(nil)
		w.inbox.services.Replace([]*corev1.Service{testService("s")})
		w.inbox.health(kindServices)(nil)
		pass(time.Second)
		require.Equal(t, 2, len(calls.all()))
		require.True(t, calls.all()[1].Synced)
		require.NoError(t, calls.all()[1].Err)
		require.Equal(t, []Ref{testRef}, calls.all()[1].Refs)
	})
}

func TestABurstIsOneChange(t *testing.T) {
	w := &Watcher{}
	inBubble(t, w, func(t *testing.T, calls *calls) {
		listed(w)
		pass(time.Minute)
		calls.all()
		calls.list = nil
		for i := 10; i < 20; i++ {
			w.inbox.nodes.Set(testNode(fmt.Sprint("n", i)))
			pass(watcherQuiet / 2)
		}
		require.Equal(t, 0, len(calls.all()))
		pass(watcherQuiet)
		require.Equal(t, 1, len(calls.all()))
		require.Len(t, calls.all()[0].Changed.Nodes, 10)
		require.Len(t, calls.all()[0].Objects.Nodes, 19)
	})
}

func TestChangesThatNeverCease(t *testing.T) {
	w := &Watcher{Quiet: 200 * time.Millisecond, MaxWait: 500 * time.Millisecond}
	inBubble(t, w, func(t *testing.T, calls *calls) {
		listed(w)
		pass(time.Second)
		calls.all()
		calls.list = nil
		for i := range 100 {
			n := testNode("n1")
			n.Spec.Unschedulable = i%2 == 0
			n.Status.Addresses[0].Address = fmt.Sprint("10.0.1.", i)
			w.inbox.nodes.Set(n)
			pass(50 * time.Millisecond)
		}
		require.InDelta(t, 10, len(calls.all()), 1.5, "5 s of changes, 500 ms from the first to the look at them")
		for i := 1; i < len(calls.all()); i++ {
			require.LessOrEqual(t, calls.all()[i].at-calls.all()[i-1].at, 550*time.Millisecond)
		}
	})
}

// A status that changes nothing that is read wakes nobody, nor does a list of what is
// known.
func TestHeartbeatsAreNothing(t *testing.T) {
	w := &Watcher{}
	inBubble(t, w, func(t *testing.T, calls *calls) {
		beat := func(at int) *corev1.Node {
			n := testNode("n1")
			n.ResourceVersion = fmt.Sprint(at)
			n.Status.Conditions = []corev1.NodeCondition{{
				Type: corev1.NodeReady, Status: corev1.ConditionTrue, Message: fmt.Sprint(at),
				LastHeartbeatTime: metav1.NewTime(time.Unix(int64(at), 0)),
			}}
			n.Status.Images = []corev1.ContainerImage{{Names: []string{fmt.Sprint(at)}}}
			n, _ = stripNode(n)
			return n
		}
		listed(w)
		w.inbox.nodes.Set(beat(1))
		pass(time.Second)
		require.Equal(t, 1, len(calls.all()), "a condition has come, which says nothing")
		for i := range 100 {
			w.inbox.nodes.Set(beat(i))
		}
		list := testNodes(1, 9)
		list[0] = beat(1000)
		w.inbox.nodes.Replace(list)
		w.inbox.mu.Lock()
		require.Equal(t, Delta{}, w.inbox.delta)
		w.inbox.mu.Unlock()
		require.Empty(t, w.inbox.arrived)
		pass(time.Minute)
		require.Equal(t, 1, len(calls.all()))
	})
}

// Time alone makes Ready avoid a node.
func TestNodesAreJudgedAgain(t *testing.T) {
	w := &Watcher{}
	inBubble(t, w, func(t *testing.T, calls *calls) {
		listed(w)
		lost := testNode("n1")
		lost.Status.Conditions = []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionUnknown, LastTransitionTime: metav1.NewTime(time.Now()),
		}}
		w.inbox.nodes.Set(lost)
		pass(DefaultGrace)
		require.Equal(t, 1, len(calls.all()))
		pass(watcherRecheck + time.Second)
		require.Equal(t, 2, len(calls.all()))
		require.Equal(t, Changed{Nodes: []string{"n1"}}, calls.all()[1].Changed)
		require.Equal(t, Avoid, calls.all()[1].Selection.Findings[0].Verdict)
	})
}

func TestOnlyHealthChanges(t *testing.T) {
	w := &Watcher{}
	inBubble(t, w, func(t *testing.T, calls *calls) {
		listed(w)
		good := calls.all()[0].Snapshot
		health := w.inbox.health(kindNodes)
		health(errors.New("nodes: refused"))
		pass(time.Second)
		require.Equal(t, 2, len(calls.all()))
		got := calls.all()[1].Snapshot
		require.EqualError(t, got.Err, "nodeselect: nodes: refused")
		got.Err, got.Changed, good.Changed = nil, Changed{}, Changed{}
		require.Equal(t, good, got, "the last good state")
		health(errors.New("nodes: refused"))
		pass(time.Second)
		require.Equal(t, 2, len(calls.all()))
		health(nil)
		pass(time.Second)
		require.Equal(t, 3, len(calls.all()))
		require.NoError(t, calls.all()[2].Err)
	})
}

func TestRefsAreAnswered(t *testing.T) {
	w := &Watcher{}
	inBubble(t, w, func(t *testing.T, calls *calls) {
		listed(w)
		w.SetRefs([]Ref{testRef})
		pass(time.Second)
		require.Equal(t, 2, len(calls.all()), "an answer, though nothing is different")
		require.True(t, calls.all()[1].Changed.IsZero())
		w.SetRefs(nil)
		pass(time.Second)
		require.Equal(t, 3, len(calls.all()))
		require.Empty(t, calls.all()[2].Selection.Targets)
		require.Equal(t, []Ref{}, calls.all()[2].Refs)
		require.Equal(t, Changed{Services: []string{"ns/s"}}, calls.all()[2].Changed)
	})
}

// What arrives while the caller is busy is looked at when he is done.
func TestBusyCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &Watcher{}
		ctx, cancel := context.WithCancel(t.Context())
		w.init()
		var sizes []int
		done := make(chan error, 1)
		go func() {
			done <- w.follow(ctx, func(s Snapshot) {
				sizes = append(sizes, len(s.Objects.Nodes))
				<-time.After(10 * time.Second)
			})
		}()
		listed(w)
		for i := 10; i < 20; i++ {
			w.inbox.nodes.Set(testNode(fmt.Sprint("n", i)))
			pass(time.Second)
		}
		pass(time.Minute)
		require.Equal(t, []int{9, 19}, sizes)
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	})
}

// A list that lacks most of what was there is not believed for a while.
func TestDoubtfulLists(t *testing.T) {
	last := func(calls *calls) Snapshot { return calls.all()[len(calls.all())-1].Snapshot }
	tests := []struct {
		name  string
		after func(t *testing.T, w *Watcher, calls *calls)
	}{
		{"an empty one is never believed", func(t *testing.T, w *Watcher, calls *calls) {
			w.inbox.nodes.Replace(nil)
			pass(time.Hour)
			require.Len(t, last(calls).Objects.Nodes, 9)
			require.ErrorContains(t, last(calls).Err, "nodes: a list lacks 9 of 9 that were there")
			w.inbox.nodes.Replace(testNodes(1, 9))
			pass(time.Second)
			require.NoError(t, last(calls).Err)
		}},
		{"what comes back after an empty one gives the rest five minutes", func(t *testing.T, w *Watcher, calls *calls) {
			w.inbox.nodes.Replace(nil)
			pass(time.Hour)
			w.inbox.nodes.Set(testNode("n1"))
			w.inbox.nodes.Set(testNode("n20"))
			pass(believeAfter - time.Second)
			require.Len(t, last(calls).Objects.Nodes, 10)
			require.Error(t, last(calls).Err)
			pass(watcherRecheck + time.Second)
			require.Len(t, last(calls).Objects.Nodes, 2)
			require.NoError(t, last(calls).Err)
		}},
		{"so does a list that has something again", func(t *testing.T, w *Watcher, calls *calls) {
			w.inbox.nodes.Replace(nil)
			pass(time.Hour)
			w.inbox.nodes.Replace(testNodes(1, 2)) // a store that is being restored
			pass(believeAfter - time.Second)
			require.Len(t, last(calls).Objects.Nodes, 9)
			require.ErrorContains(t, last(calls).Err, "a list lacks 7 of 9 that were there, which are kept until ")
			pass(watcherRecheck + time.Second)
			require.Len(t, last(calls).Objects.Nodes, 2)
			require.NoError(t, last(calls).Err)
		}},
		{"while the API server is away nothing is believed", func(t *testing.T, w *Watcher, calls *calls) {
			w.inbox.nodes.Replace(testNodes(1, 4))
			w.inbox.health(kindNodes)(errors.New("refused"))
			pass(time.Hour)
			require.Len(t, last(calls).Objects.Nodes, 9)
			w.inbox.health(kindNodes)(nil)
			pass(believeAfter - time.Second)
			require.Len(t, last(calls).Objects.Nodes, 9)
			require.ErrorContains(t, last(calls).Err, "kept until 2000-01-01T01:05:00Z")
			pass(watcherRecheck + time.Second)
			require.Len(t, last(calls).Objects.Nodes, 4)
			require.NoError(t, last(calls).Err)
		}},
		{"what an API server makes of itself is nothing", func(t *testing.T, w *Watcher, calls *calls) {
			own := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes"}}
			w.inbox.services.Set(own)
			w.inbox.services.Replace([]*corev1.Service{own})
			pass(time.Hour)
			require.Len(t, last(calls).Selection.Targets, 1)
			require.ErrorContains(t, last(calls).Err, "services: a list lacks 1 of 2 that were there, which are kept while there is nothing else")
			w.inbox.services.Replace(nil)
			w.inbox.services.Set(own)
			pass(time.Hour)
			require.Len(t, last(calls).Selection.Targets, 1)
			require.Error(t, last(calls).Err)
			w.inbox.services.Replace([]*corev1.Service{own, testService("s")})
			pass(time.Second)
			require.NoError(t, last(calls).Err)
		}},
		{"everything comes back", func(t *testing.T, w *Watcher, calls *calls) {
			w.inbox.nodes.Replace(nil)
			for _, n := range testNodes(1, 9) {
				w.inbox.nodes.Set(n)
			}
			pass(time.Second)
			require.NoError(t, last(calls).Err)
			pass(time.Hour)
			require.Equal(t, 1, len(calls.all()))
		}},
		{"a short one is believed after five minutes", func(t *testing.T, w *Watcher, calls *calls) {
			w.inbox.nodes.Replace(testNodes(1, 4))
			pass(believeAfter / 2)
			require.Len(t, last(calls).Objects.Nodes, 9)
			require.ErrorContains(t, last(calls).Err, "a list lacks 5 of 9")
			w.inbox.nodes.Replace(testNodes(1, 3)) // does not start anew
			pass(believeAfter/2 + watcherRecheck)
			require.Len(t, last(calls).Objects.Nodes, 3)
			require.NoError(t, last(calls).Err)
		}},
		{"one that lacks half is believed", func(t *testing.T, w *Watcher, calls *calls) {
			w.inbox.nodes.Replace(testNodes(1, 5))
			pass(time.Second)
			require.Len(t, last(calls).Objects.Nodes, 5)
			require.NoError(t, last(calls).Err)
		}},
		{"nodes that are deleted are gone", func(t *testing.T, w *Watcher, calls *calls) {
			for i := 1; i <= 9; i++ {
				w.inbox.nodes.Delete("", fmt.Sprint("n", i))
			}
			pass(time.Second)
			require.Empty(t, last(calls).Objects.Nodes)
			require.NoError(t, last(calls).Err)
		}},
		{"services too", func(t *testing.T, w *Watcher, calls *calls) {
			w.inbox.services.Replace(nil)
			pass(time.Hour)
			require.Len(t, last(calls).Selection.Targets, 1)
			require.ErrorContains(t, last(calls).Err, "services: a list lacks 1 of 1")
			w.inbox.services.Delete("ns", "s")
			pass(time.Second)
			require.Empty(t, last(calls).Selection.Targets)
			require.NoError(t, last(calls).Err)
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := &Watcher{}
			inBubble(t, w, func(t *testing.T, calls *calls) {
				listed(w)
				require.Equal(t, 1, len(calls.all()))
				test.after(t, w, calls)
			})
		})
	}
}

// A store without pods says as little as one without nodes: a service whose traffic is
// dropped where it has no pod must not be sent to nodes without.
func TestDoubtfulListsOfPods(t *testing.T) {
	for name, list := range map[string][]*discoveryv1.EndpointSlice{
		"empty": nil,
		"of an API server that begins anew": {func() *discoveryv1.EndpointSlice {
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
				w.SetRefs([]Ref{testRef})
				w.inbox.nodes.Replace(testNodes(1, 9))
				w.inbox.services.Replace([]*corev1.Service{local})
				w.inbox.slices.Replace(slices)
				pass(time.Second)
				require.Equal(t, "n3", calls.all()[0].Selection.Targets[0].Nodes[0].Name)
				w.inbox.slices.Replace(list)
				pass(time.Hour)
				last := calls.all()[len(calls.all())-1]
				require.Len(t, last.Selection.Targets[0].Nodes, 1)
				require.ErrorContains(t, last.Err, "endpointslices: a list lacks 1 of 1 that were there")
				w.inbox.slices.Replace(slices)
				pass(time.Second)
				last = calls.all()[len(calls.all())-1]
				require.NoError(t, last.Err)
				require.Len(t, last.Selection.Targets[0].Nodes, 1)
			})
		})
	}
}

// An API server that is not there yet is waited for: services that need to know where
// their pods are must not get any nodes for the moment that it takes.
func TestSlicesThatComeLate(t *testing.T) {
	w := &Watcher{LocalEndpoints: true}
	inBubble(t, w, func(t *testing.T, calls *calls) {
		local := testService("s")
		local.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		for kind := range kinds {
			w.inbox.health(kind)(errors.New("refused"))
		}
		w.SetRefs([]Ref{testRef})
		w.inbox.nodes.Replace(testNodes(1, 9))
		w.inbox.health(kindNodes)(nil)
		w.inbox.services.Replace([]*corev1.Service{local})
		w.inbox.health(kindServices)(nil)
		pass(5 * time.Second)
		for _, c := range calls.all() {
			require.False(t, c.Synced)
		}
		w.inbox.slices.Replace([]*discoveryv1.EndpointSlice{testSlice("s", "s-1", map[string]discoveryv1.EndpointConditions{"n3": {}})})
		w.inbox.health(kindSlices)(nil)
		pass(time.Second)
		last := calls.all()[len(calls.all())-1]
		require.True(t, last.Synced)
		require.NoError(t, last.Err)
		require.Len(t, last.Selection.Targets[0].Nodes, 1)
	})
}

// But not for ever, and what has been seen whole stays so.
func TestSlicesThatNeverCome(t *testing.T) {
	w := &Watcher{LocalEndpoints: true}
	inBubble(t, w, func(t *testing.T, calls *calls) {
		w.inbox.health(kindSlices)(errors.New("internal error"))
		listed(w)
		pass(slicesWait + watcherRecheck)
		last := calls.all()[len(calls.all())-1]
		require.True(t, last.Synced)
		require.EqualError(t, last.Err, "nodeselect: internal error")
		w.inbox.health(kindSlices)(nil)
		pass(time.Second)
		last = calls.all()[len(calls.all())-1]
		require.True(t, last.Synced)
		require.NoError(t, last.Err)
	})
}

// Nodes tell that they are there all the time. That must not keep a change waiting for
// longer than if nobody said anything.
func TestHeartbeatsDelayNothing(t *testing.T) {
	w := &Watcher{}
	inBubble(t, w, func(t *testing.T, calls *calls) {
		listed(w)
		heartbeats := func(n int) {
			for range n {
				w.inbox.nodes.Set(testNode("n2"))
				pass(10 * time.Millisecond)
			}
		}
		heartbeats(200)
		require.Equal(t, 1, len(calls.all()), "they are no change")
		first := calls.all()[0]
		heartbeats(1)
		w.inbox.nodes.Delete("", "n1")
		heartbeats(200)
		require.Equal(t, 2, len(calls.all()))
		require.Equal(t, first.at+2010*time.Millisecond+watcherQuiet, calls.all()[1].at)
	})
}

// So do pods come and go, most of them of services that nobody declared to be local.
func TestPodsOfOtherServicesDelayNothing(t *testing.T) {
	w := &Watcher{LocalEndpoints: true}
	inBubble(t, w, func(t *testing.T, calls *calls) {
		w.inbox.slices.Replace(nil)
		listed(w)
		require.Equal(t, 1, len(calls.all()))
		first := calls.all()[0]
		w.inbox.nodes.Delete("", "n1")
		for i := range 200 {
			conditions := discoveryv1.EndpointConditions{Ready: new(i%2 == 0)}
			w.inbox.slices.Set(testSlice("s", "x", map[string]discoveryv1.EndpointConditions{"n3": conditions}))
			pass(10 * time.Millisecond)
		}
		require.Equal(t, first.at+watcherQuiet, calls.all()[1].at)
		require.Equal(t, 2, len(calls.all()))
	})
}
