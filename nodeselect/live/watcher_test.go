package live_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/internal/kubewatch/kubewatchtest"
	"github.com/headgate/headgate/internal/manifesttest"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/live"
)

// watched runs a Watcher until the test ends, and returns its Snapshots.
func watched(t testing.TB, w *live.Watcher) <-chan live.Snapshot {
	t.Helper()
	return running(t, w.Run)
}

// The function "running" calls the function "run" until the test ends, and returns the snapshots
// that run passes to its callback.
func running[S any](t testing.TB, run func(context.Context, func(S)) error) <-chan S {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	snapshots := make(chan S, 100)
	done := make(chan error, 1)
	go func() { done <- run(ctx, func(s S) { snapshots <- s }) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			require.ErrorIs(t, err, context.Canceled)
		case <-time.After(time.Minute):
			t.Error("Run does not return after its context has ended")
		}
	})
	return snapshots
}

// The function until returns the first Snapshot for which the function is returns true.
func until[S any](t testing.TB, snapshots <-chan S, what string, is func(S) bool) S {
	t.Helper()
	deadline := time.After(time.Minute)
	var last S
	for {
		select {
		case last = <-snapshots:
			if is(last) {
				return last
			}
		case <-deadline:
			t.Fatalf("no %s; last %+v", what, last)
		}
	}
}

// numbered returns n nodes in three zones.
func numbered(n int) []*corev1.Node {
	nodes := make([]*corev1.Node, n)
	for i := range nodes {
		nodes[i] = &corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name:   fmt.Sprintf("n%03d", i),
			Labels: map[string]string{corev1.LabelTopologyZone: string(rune('a' + i%3))},
		}}
		nodes[i].Status.Addresses = []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("10.0.%d.%d", i/250, i%250+1)},
		}
	}
	return nodes
}

// newService returns a service in the namespace media, with the port http.
func newService(name string, nodePort int32, changes ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "media", Name: name}}
	s.Spec.Type = corev1.ServiceTypeNodePort
	s.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80, NodePort: nodePort, Protocol: corev1.ProtocolTCP}}
	for _, change := range changes {
		change(s)
	}
	return s
}

func names(nodes []nodeselect.Node) []string {
	got := make([]string, len(nodes))
	for i := range nodes {
		got[i] = nodes[i].Name
	}
	return got
}

func synced(s live.Snapshot) bool { return s.Synced }

func TestWatcherFollows(t *testing.T) {
	server := kubewatchtest.New(t)
	nodes := numbered(5)
	for _, n := range nodes {
		server.Set(n)
	}
	tracks := newService("tracks", 30080, func(s *corev1.Service) {
		s.Annotations = map[string]string{"headgate.dev/weight": "50"}
	})
	server.Set(tracks, newService("inner", 0, func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }))
	w := &live.Watcher{Config: server.Config(), Selector: nodeselect.Selector{Size: 3}, Quiet: time.Millisecond}
	refs := []nodeselect.Ref{{Namespace: "media", Service: "tracks", Port: "http"}, {Namespace: "media", Service: "inner"}}
	w.SetRefs(refs)
	snapshots := watched(t, w)

	first := until(t, snapshots, "list", synced)
	require.Equal(t, refs, first.Refs)
	require.Len(t, first.Objects.Nodes, 5)
	require.Len(t, first.Objects.Services, 2)
	require.Nil(t, first.Objects.ReadyNodes)
	require.Len(t, first.Selection.Targets, 1)
	require.Equal(t, 50, first.Selection.Targets[0].WeightPercent)
	require.Equal(t, "Service media/inner: spec.type: ClusterIP has no node ports; want NodePort or LoadBalancer", first.Selection.Problems[0].Error())
	// Select returns the same targets for the same objects.
	want := w.Selector.Select(nodeselect.NewObjects(nodes, []*corev1.Service{tracks}), refs[:1], time.Now(), nil)
	require.Equal(t, want.Targets, first.Selection.Targets)

	gone := first.Selection.Targets[0].Nodes[1].Name
	server.Delete(first.Objects.Node(gone))
	next := until(t, snapshots, "Snapshot without the node", func(s live.Snapshot) bool { return len(s.Objects.Nodes) == 4 })
	require.Equal(t, nodeselect.Changed{Nodes: []string{gone}, Services: []string{"media/tracks"}}, next.Changed)
	changes := nodeselect.DiffSubsets(first.Selection.Subsets(), next.Selection.Subsets())
	require.Equal(t, 1, changes.Leave)
	require.Equal(t, 1, changes.Enter)
	require.Len(t, first.Objects.Nodes, 5, "a Snapshot does not change")

	tracks = tracks.DeepCopy()
	tracks.Annotations["headgate.dev/weight"] = "0"
	server.Set(tracks)
	next = until(t, snapshots, "Snapshot with the weight", func(s live.Snapshot) bool { return s.Selection.Targets[0].WeightPercent == 0 })
	require.Equal(t, nodeselect.Changed{Services: []string{"media/tracks"}}, next.Changed)

	w.SetRefs(refs[1:])
	next = until(t, snapshots, "Snapshot with other refs", func(s live.Snapshot) bool { return len(s.Refs) == 1 })
	require.Empty(t, next.Selection.Targets)
}

func TestWatcherOfAServerThatComesAndGoes(t *testing.T) {
	server := kubewatchtest.New(t)
	for _, n := range numbered(3) {
		server.Set(n)
	}
	server.Set(newService("tracks", 30080))
	server.Down()
	w := &live.Watcher{Config: server.Config(), Quiet: time.Millisecond}
	w.SetRefs([]nodeselect.Ref{{Namespace: "media", Service: "tracks"}})
	snapshots := watched(t, w)

	s := until(t, snapshots, "error", func(s live.Snapshot) bool { return s.Err != nil })
	require.False(t, s.Synced)
	require.ErrorContains(t, s.Err, "connection refused (since ")
	server.Up()
	s = until(t, snapshots, "list", func(s live.Snapshot) bool { return s.Synced && s.Err == nil })
	require.Len(t, s.Selection.Targets[0].Nodes, 3)

	server.Down()
	s = until(t, snapshots, "second error", func(s live.Snapshot) bool { return s.Err != nil })
	require.True(t, s.Synced)
	require.Len(t, s.Selection.Targets[0].Nodes, 3, "the last good state")
	server.Set(numbered(4)[3])
	server.Up()
	s = until(t, snapshots, "change during the outage", func(s live.Snapshot) bool { return s.Err == nil && len(s.Objects.Nodes) == 4 })
	require.Len(t, s.Selection.Targets[0].Nodes, 4)

	server.Forget("nodes")
	s = until(t, snapshots, "error for the doubtful list", func(s live.Snapshot) bool { return s.Err != nil })
	require.ErrorContains(t, s.Err, "nodes: a list lacks 4 of 4; they are kept")
	require.Len(t, s.Selection.Targets[0].Nodes, 4)
}

func slice(name, service string, nodes ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
		Namespace: "media", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service},
	}}
	for _, node := range nodes {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{NodeName: &node})
	}
	return s
}

func TestWatcherHeedsPods(t *testing.T) {
	server := kubewatchtest.New(t)
	for _, n := range numbered(9) {
		server.Set(n)
	}
	local := func(s *corev1.Service) {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	server.Set(newService("tracks", 30080, local))
	headless := slice("headless", "tracks", "n008")
	headless.Labels[corev1.IsHeadlessService] = ""
	server.Set(slice("one", "tracks", "n001", "n002", "n002"), slice("two", "tracks", "n003"), headless)
	w := &live.Watcher{Config: server.Config(), Quiet: time.Millisecond}
	w.SetRefs([]nodeselect.Ref{{Namespace: "media", Service: "tracks"}})
	w.LocalEndpoints = true // SetRefs may come before the fields are set
	snapshots := watched(t, w)
	on := func(want ...string) func(live.Snapshot) bool {
		return func(s live.Snapshot) bool {
			return s.Synced && fmt.Sprint(names(s.Selection.Targets[0].Nodes)) == fmt.Sprint(want)
		}
	}
	s := until(t, snapshots, "the nodes with pods", on("n001", "n002", "n003"))
	require.Empty(t, s.Selection.Problems)
	server.Set(slice("two", "tracks", "n004"))
	until(t, snapshots, "a pod that moved", on("n001", "n002", "n004"))
	server.Delete(slice("one", "tracks"), slice("two", "tracks"))
	s = until(t, snapshots, "Snapshot with all nodes", func(s live.Snapshot) bool { return len(s.Selection.Targets[0].Nodes) == 9 })
	require.Len(t, s.Selection.Problems, 1)
	require.True(t, s.Selection.Problems[0].Warning)
	server.Set(slice("one", "tracks", "n005"))
	until(t, snapshots, "a pod again", on("n005"))
	server.Set(newService("tracks", 30080))
	s = until(t, snapshots, "Snapshot after the policy has changed", func(s live.Snapshot) bool { return len(s.Selection.Targets[0].Nodes) == 9 })
	require.Empty(t, s.Selection.Problems)
}

func TestWatcherWithoutAConfiguration(t *testing.T) {
	w := &live.Watcher{Config: &rest.Config{Host: "http://[::1"}}
	require.ErrorContains(t, w.Run(t.Context(), func(live.Snapshot) {}), "nodeselect/live: Config cannot be used: ")
}

// A second Run would get a cluster without objects, because the queue holds only changes.
func TestWatcherRunsOnce(t *testing.T) {
	w := &live.Watcher{Config: kubewatchtest.New(t).Config()}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	never := func(live.Snapshot) { t.Error("called") }
	require.ErrorIs(t, w.Run(ctx, never), context.Canceled)
	require.EqualError(t, w.Run(ctx, never), "nodeselect/live: Run was called twice")
}

// The memory of a Watcher is a small part of the size of the cluster's objects.
func TestWatcherKeepsLittle(t *testing.T) {
	kept := keptBy(t, 200, 400)
	t.Logf("%d kB are kept", kept>>10)
	require.Less(t, kept, int64(4<<20))
}

func BenchmarkWatcherKeeps(b *testing.B) {
	for b.Loop() {
		b.ReportMetric(float64(keptBy(b, 1000, 2000)), "B-kept")
	}
}

// keptBy returns the heap size of a Watcher and its first Snapshot.
func keptBy(t testing.TB, nodes, services int) int64 {
	server := kubewatchtest.New(t)
	var refs []nodeselect.Ref
	var objects []kubewatchtest.Object
	for _, n := range manifesttest.Nodes(nodes) {
		objects = append(objects, n)
	}
	for _, s := range manifesttest.Services(services) {
		objects = append(objects, s)
		refs = append(refs, nodeselect.Ref{Namespace: s.Namespace, Service: s.Name, Port: "http"})
	}
	server.Set(objects...)
	before := heap()
	w := &live.Watcher{Config: server.Config()}
	w.SetRefs(refs)
	s := until(t, watched(t, w), "list", synced)
	require.Len(t, s.Selection.Targets, services)
	kept := heap() - before
	runtime.KeepAlive(s)
	runtime.KeepAlive(objects)
	return kept
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
