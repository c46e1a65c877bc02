package live

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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/nodeselect"
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

var testRef = nodeselect.Ref{Namespace: "ns", Service: "s", Port: "http"}

// called is a Snapshot with its time since the start.
type called struct {
	Snapshot
	at time.Duration
}

// calls records the calls of the function "changed".
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

// inBubble runs a Watcher in a synctest bubble, without an API server. The test writes to the
// queue, as a source does.
func inBubble(t *testing.T, w *Watcher, test func(t *testing.T, calls *calls)) {
	synctest.Test(t, func(t *testing.T) {
		require.NoError(t, w.start())
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

// pass waits for d, and then until all goroutines are blocked.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// list passes a first list of nine nodes and one service to w.
func list(w *Watcher) {
	w.SetRefs([]nodeselect.Ref{testRef})
	w.queue.nodes.Replace(testNodes(1, 9))
	w.queue.services.Replace([]*corev1.Service{testService("s")})
	pass(watcherQuiet)
}

func TestFirstSnapshotWaitsForAllLists(t *testing.T) {
	w := &Watcher{LocalEndpoints: true}
	inBubble(t, w, func(t *testing.T, calls *calls) {
		w.SetRefs([]nodeselect.Ref{testRef})
		w.queue.nodes.Replace(testNodes(1, 3))
		pass(time.Minute)
		require.Equal(t, 0, len(calls.all()))
		w.queue.services.Replace([]*corev1.Service{testService("s")})
		pass(time.Minute)
		require.Equal(t, 0, len(calls.all()))
		w.queue.slices.Replace(nil)
		pass(time.Minute)
		require.Equal(t, 1, len(calls.all()))
		s := calls.all()[0]
		require.True(t, s.Synced)
		require.NoError(t, s.Err)
		require.Len(t, s.Objects.Nodes, 3)
		require.NotNil(t, s.Objects.ReadyNodes)
		require.Len(t, s.Selection.Targets[0].Nodes, 3)
		require.Equal(t, nodeselect.Changed{Nodes: []string{"n1", "n2", "n3"}, Services: []string{"ns/s"}}, s.Changed)
	})
}

func TestUnreachableAtTheStart(t *testing.T) {
	w := &Watcher{}
	inBubble(t, w, func(t *testing.T, calls *calls) {
		w.queue.health(kindNodes)(errors.New("nodes: refused"))
		w.queue.health(kindServices)(errors.New("services: refused"))
		pass(time.Second)
		require.Equal(t, 1, len(calls.all()))
		require.EqualError(t, calls.all()[0].Err, "nodeselect/live: nodes: refused; services: refused")
		require.Equal(t, Snapshot{Err: calls.all()[0].Err}, calls.all()[0].Snapshot)
		w.SetRefs([]nodeselect.Ref{testRef})
		pass(time.Minute)
		require.Equal(t, 1, len(calls.all()), "no Snapshot for SetRefs before the lists")
		w.queue.nodes.Replace(testNodes(1, 3))
		w.queue.health(kindNodes)(nil)
		w.queue.services.Replace([]*corev1.Service{testService("s")})
		w.queue.health(kindServices)(nil)
		pass(time.Second)
		require.Equal(t, 2, len(calls.all()))
		require.True(t, calls.all()[1].Synced)
		require.NoError(t, calls.all()[1].Err)
		require.Equal(t, []nodeselect.Ref{testRef}, calls.all()[1].Refs)
	})
}

func TestABurstIsOneSnapshot(t *testing.T) {
	w := &Watcher{}
	inBubble(t, w, func(t *testing.T, calls *calls) {
		list(w)
		pass(time.Minute)
		calls.all()
		calls.list = nil
		for i := 10; i < 20; i++ {
			w.queue.nodes.Set(testNode(fmt.Sprint("n", i)))
			pass(watcherQuiet / 2)
		}
		require.Equal(t, 0, len(calls.all()))
		pass(watcherQuiet)
		require.Equal(t, 1, len(calls.all()))
		require.Len(t, calls.all()[0].Changed.Nodes, 10)
		require.Len(t, calls.all()[0].Objects.Nodes, 19)
	})
}

func TestMaxWait(t *testing.T) {
	w := &Watcher{Quiet: 200 * time.Millisecond, MaxWait: 500 * time.Millisecond}
	inBubble(t, w, func(t *testing.T, calls *calls) {
		list(w)
		pass(time.Second)
		calls.all()
		calls.list = nil
		for i := range 100 {
			n := testNode("n1")
			n.Spec.Unschedulable = i%2 == 0
			n.Status.Addresses[0].Address = fmt.Sprint("10.0.1.", i)
			w.queue.nodes.Set(n)
			pass(50 * time.Millisecond)
		}
		require.InDelta(t, 10, len(calls.all()), 1.5, "5 s of changes, one Snapshot each 500 ms")
		for i := 1; i < len(calls.all()); i++ {
			require.LessOrEqual(t, calls.all()[i].at-calls.all()[i-1].at, 550*time.Millisecond)
		}
	})
}

// Neither a heartbeat without a relevant change nor a list of known objects causes a Snapshot.
func TestHeartbeatsAreNoChange(t *testing.T) {
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
			n, _ = trimNode(n)
			return n
		}
		list(w)
		w.queue.nodes.Set(beat(1))
		pass(time.Second)
		require.Equal(t, 1, len(calls.all()), "a new condition that does not change the verdict")
		for i := range 100 {
			w.queue.nodes.Set(beat(i))
		}
		nodes := testNodes(1, 9)
		nodes[0] = beat(1000)
		w.queue.nodes.Replace(nodes)
		w.queue.mu.Lock()
		require.Equal(t, nodeselect.Delta{}, w.queue.delta)
		w.queue.mu.Unlock()
		require.Empty(t, w.queue.arrived)
		pass(time.Minute)
		require.Equal(t, 1, len(calls.all()))
	})
}

// The predicate Ready avoids a node after its grace, even if no event arrives.
func TestRecheckJudgesNodes(t *testing.T) {
	w := &Watcher{}
	inBubble(t, w, func(t *testing.T, calls *calls) {
		list(w)
		lost := testNode("n1")
		lost.Status.Conditions = []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionUnknown, LastTransitionTime: metav1.NewTime(time.Now()),
		}}
		w.queue.nodes.Set(lost)
		pass(nodeselect.DefaultGrace)
		require.Equal(t, 1, len(calls.all()))
		pass(RecheckInterval + time.Second)
		require.Equal(t, 2, len(calls.all()))
		require.Equal(t, nodeselect.Changed{Nodes: []string{"n1"}}, calls.all()[1].Changed)
		require.Equal(t, nodeselect.Avoid, calls.all()[1].Selection.Findings[0].Verdict)
	})
}

func TestOnlyHealthChanges(t *testing.T) {
	w := &Watcher{}
	inBubble(t, w, func(t *testing.T, calls *calls) {
		list(w)
		good := calls.all()[0].Snapshot
		health := w.queue.health(kindNodes)
		health(errors.New("nodes: refused"))
		pass(time.Second)
		require.Equal(t, 2, len(calls.all()))
		got := calls.all()[1].Snapshot
		require.EqualError(t, got.Err, "nodeselect/live: nodes: refused")
		got.Err, got.Changed, good.Changed = nil, nodeselect.Changed{}, nodeselect.Changed{}
		require.Equal(t, good, got, "the last good state stays")
		health(errors.New("nodes: refused"))
		pass(time.Second)
		require.Equal(t, 2, len(calls.all()))
		health(nil)
		pass(time.Second)
		require.Equal(t, 3, len(calls.all()))
		require.NoError(t, calls.all()[2].Err)
	})
}

func TestSnapshotFollowsSetRefs(t *testing.T) {
	w := &Watcher{}
	inBubble(t, w, func(t *testing.T, calls *calls) {
		list(w)
		w.SetRefs([]nodeselect.Ref{testRef})
		pass(time.Second)
		require.Equal(t, 2, len(calls.all()), "a Snapshot although nothing has changed")
		require.True(t, calls.all()[1].Changed.IsZero())
		w.SetRefs(nil)
		pass(time.Second)
		require.Equal(t, 3, len(calls.all()))
		require.Empty(t, calls.all()[2].Selection.Targets)
		require.Equal(t, []nodeselect.Ref{}, calls.all()[2].Refs)
		require.Equal(t, nodeselect.Changed{Services: []string{"ns/s"}}, calls.all()[2].Changed)
	})
}

// Changes that arrive while the callback runs are in the next Snapshot.
func TestSlowCallback(t *testing.T) {
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
		list(w)
		for i := 10; i < 20; i++ {
			w.queue.nodes.Set(testNode(fmt.Sprint("n", i)))
			pass(time.Second)
		}
		pass(time.Minute)
		require.Equal(t, []int{9, 19}, sizes)
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	})
}

// Heartbeats never cease. They must not prolong the quiet time after a change.
func TestHeartbeatsDelayNothing(t *testing.T) {
	w := &Watcher{}
	inBubble(t, w, func(t *testing.T, calls *calls) {
		list(w)
		heartbeats := func(n int) {
			for range n {
				w.queue.nodes.Set(testNode("n2"))
				pass(10 * time.Millisecond)
			}
		}
		heartbeats(200)
		require.Equal(t, 1, len(calls.all()), "heartbeats are no change")
		first := calls.all()[0]
		heartbeats(1)
		w.queue.nodes.Delete("", "n1")
		heartbeats(200)
		require.Equal(t, 2, len(calls.all()))
		require.Equal(t, first.at+2010*time.Millisecond+watcherQuiet, calls.all()[1].at)
	})
}

// Pods of services without externalTrafficPolicy Local must not prolong the quiet time either.
func TestPodsOfOtherServicesDelayNothing(t *testing.T) {
	w := &Watcher{LocalEndpoints: true}
	inBubble(t, w, func(t *testing.T, calls *calls) {
		w.queue.slices.Replace(nil)
		list(w)
		require.Equal(t, 1, len(calls.all()))
		first := calls.all()[0]
		w.queue.nodes.Delete("", "n1")
		for i := range 200 {
			conditions := discoveryv1.EndpointConditions{Ready: new(i%2 == 0)}
			w.queue.slices.Set(testSlice("s", "x", map[string]discoveryv1.EndpointConditions{"n3": conditions}))
			pass(10 * time.Millisecond)
		}
		require.Equal(t, first.at+watcherQuiet, calls.all()[1].at)
		require.Equal(t, 2, len(calls.all()))
	})
}
