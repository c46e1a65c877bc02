package live_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/internal/kubewatch/kubewatchtest"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/endpoints"
	"github.com/headgate/headgate/nodeselect/live"
)

// podSlice returns an EndpointSlice of media/service with a port http (8080), as the controller of
// Kubernetes writes it.
func podSlice(service, name string, pods ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "media", Name: name, GenerateName: service + "-",
			Labels: map[string]string{discoveryv1.LabelServiceName: service, discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io"},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "v1", Kind: "Service", Name: service, UID: "0b2c8ea1-6a1e-4d35-9f0a-6a3c1f1a9c11", Controller: new(true), BlockOwnerDeletion: new(true),
			}},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}},
	}
	for i, addr := range pods {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{addr},
			Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
			NodeName:   new(fmt.Sprintf("ip-10-0-%d-17.eu-west-1.compute.internal", i%100)),
			Zone:       new("eu-west-1" + string(rune('a'+i%3))),
			TargetRef: &corev1.ObjectReference{
				Kind: "Pod", Namespace: "media", Name: fmt.Sprintf("%s-7d9c6b5f4-%s", service, addr), UID: "5b0c2f9e-0f7b-4a8e-8a8e-0d6f8c5d1e2f",
			},
		})
	}
	return s
}

// podsOf returns the number of pods of media/service.
func podsOf(s live.EndpointsSnapshot, service string) int {
	pods, _ := s.Services.Pods(nodeselect.Ref{Namespace: "media", Service: service, Port: "http"})
	return len(pods)
}

func TestEndpointsWatcher(t *testing.T) {
	t.Parallel()
	server := kubewatchtest.New(t)
	server.Set(podSlice("tracks", "tracks-1", "10.0.0.1", "10.0.0.2"), podSlice("mail", "mail-1", "10.0.0.9"))
	w := live.EndpointsWatcher{Config: server.Config(), Quiet: time.Millisecond}
	snapshots := running(t, w.Run)
	first := until(t, snapshots, "list", func(s live.EndpointsSnapshot) bool { return s.Synced })
	require.NoError(t, first.Err)
	require.Equal(t, []string{"media/mail", "media/tracks"}, first.Changed)
	pods, problems := first.Services.Pods(nodeselect.Ref{Namespace: "media", Service: "tracks", Port: "http"})
	require.Empty(t, problems)
	require.Equal(t, endpoints.Pod{
		Addr: netip.MustParseAddrPort("10.0.0.1:8080"), Name: "tracks-7d9c6b5f4-10.0.0.1", Node: "ip-10-0-0-17.eu-west-1.compute.internal", Zone: "eu-west-1a",
		Ready: true, Serving: true,
	}, pods[0])

	server.Set(podSlice("tracks", "tracks-2", "10.0.0.3"))
	next := until(t, snapshots, "new slice", func(s live.EndpointsSnapshot) bool { return podsOf(s, "tracks") == 3 })
	require.Equal(t, []string{"media/tracks"}, next.Changed)
	server.Delete(podSlice("tracks", "tracks-1"), podSlice("tracks", "tracks-2"))
	next = until(t, snapshots, "deletion", func(s live.EndpointsSnapshot) bool { return podsOf(s, "tracks") == 0 })
	require.NoError(t, next.Err, "a watch reports deletions")
	require.NotContains(t, next.Services, "media/tracks")
	require.Equal(t, 2, podsOf(first, "tracks"), "a snapshot does not change")
}

// An EndpointsWatcher of one service asks the API server for the slices of this service only.
func TestEndpointsWatcherOfOneService(t *testing.T) {
	t.Parallel()
	server := kubewatchtest.New(t)
	server.Set(podSlice("tracks", "tracks-1", "10.0.0.1"), podSlice("mail", "mail-1", "10.0.0.9"))
	w := live.EndpointsWatcher{Config: server.Config(), Namespace: "media", Service: "tracks", Quiet: time.Millisecond}
	snapshots := running(t, w.Run)
	s := until(t, snapshots, "list", func(s live.EndpointsSnapshot) bool { return s.Synced })
	require.Len(t, s.Services, 1)
	require.Equal(t, 1, podsOf(s, "tracks"))
}

func TestEndpointsWatcherOfAServerThatComesAndGoes(t *testing.T) {
	t.Parallel()
	server := kubewatchtest.New(t)
	server.Set(podSlice("tracks", "tracks-1", "10.0.0.1", "10.0.0.2"))
	server.Down()
	w := live.EndpointsWatcher{Config: server.Config(), Quiet: time.Millisecond}
	snapshots := running(t, w.Run)
	s := until(t, snapshots, "failure", func(s live.EndpointsSnapshot) bool { return s.Err != nil })
	require.False(t, s.Synced)
	require.Nil(t, s.Services)
	require.ErrorContains(t, s.Err, "nodeselect/live: endpointslices: ")
	require.Equal(t, time.Second, s.Age(s.Since.Add(time.Second)))
	server.Up()
	s = until(t, snapshots, "list", func(s live.EndpointsSnapshot) bool { return s.Synced && s.Err == nil })
	require.Equal(t, 2, podsOf(s, "tracks"))
	require.Zero(t, s.Age(time.Now()))

	server.Down()
	s = until(t, snapshots, "failure", func(s live.EndpointsSnapshot) bool { return s.Err != nil })
	require.Equal(t, 2, podsOf(s, "tracks"), "the pods stay")
	server.Forget("endpointslices") // the API server has lost its store
	server.Up()
	s = until(t, snapshots, "doubt", func(s live.EndpointsSnapshot) bool {
		return s.Err != nil && !s.Since.IsZero() && podsOf(s, "tracks") == 2 && len(s.Changed) == 1
	})
	require.ErrorContains(t, s.Err, "endpoints of media/tracks: a list lacks 2 of 2; they are kept")
	server.Set(podSlice("tracks", "tracks-3", "10.0.0.1", "10.0.0.2"))
	s = until(t, snapshots, "end of the doubt", func(s live.EndpointsSnapshot) bool { return s.Err == nil })
	require.Equal(t, 2, podsOf(s, "tracks"))
}

func TestEndpointsWatcherFields(t *testing.T) {
	t.Parallel()
	none := func(live.EndpointsSnapshot) { t.Error("called") }
	config := kubewatchtest.New(t).Config()
	require.ErrorContains(t, live.EndpointsWatcher{}.Run(t.Context(), none), "nodeselect/live: Config cannot be used: ")
	require.EqualError(t, live.EndpointsWatcher{Config: config, Service: "s"}.Run(t.Context(), none), "nodeselect/live: Service is set and Namespace is not")
	require.ErrorContains(t, live.EndpointsWatcher{Config: config, Namespace: "n", Service: "a,b"}.Run(t.Context(), none), "nodeselect/live: Service cannot be used: ")
}

// 15,000 pods in 200 services must take less than 10 MB, so one pod must take less than 699 bytes.
// The test follows only a fifth of the pods, because the API server of the test needs most of the
// time. BenchmarkEndpointsWatcherKeeps follows all pods.
func TestEndpointsWatcherKeepsLittle(t *testing.T) {
	kept := endpointsKept(t, 40, 75)
	t.Logf("%d bytes a pod", kept/(40*75))
	require.Less(t, kept, int64(40*75*(10<<20)/15000))
}

func BenchmarkEndpointsWatcherKeeps(b *testing.B) {
	for b.Loop() {
		kept := endpointsKept(b, 200, 75)
		b.ReportMetric(float64(kept), "bytes")
		b.ReportMetric(float64(kept)/15000, "bytes/pod")
	}
}

// endpointsKept returns how many bytes of heap an EndpointsWatcher keeps, with the pods of every
// service from its last snapshot.
func endpointsKept(t testing.TB, services, pods int) int64 {
	server := kubewatchtest.New(t)
	for i := range services {
		addrs := make([]string, pods)
		for j := range addrs {
			addrs[j] = fmt.Sprintf("10.%d.%d.%d", i/100, i%100, j+1)
		}
		server.Set(podSlice(fmt.Sprintf("service-%03d", i), fmt.Sprintf("service-%03d-x7k2p", i), addrs...))
	}
	before := heap()
	w := live.EndpointsWatcher{Config: server.Config(), Quiet: time.Millisecond}
	s := until(t, running(t, w.Run), "list", func(s live.EndpointsSnapshot) bool { return s.Synced })
	all := map[string][]endpoints.Pod{}
	for key, svc := range s.Services {
		all[key], _ = svc.Pods("http")
		require.Len(t, all[key], pods)
	}
	kept := heap() - before
	require.Len(t, all, services)
	return kept
}
