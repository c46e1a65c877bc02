package live

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/headgate/headgate/nodeselect"
)

func localService(families ...corev1.IPFamily) *corev1.Service {
	s := &corev1.Service{}
	s.Namespace, s.Name = "ns", "s"
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	s.Spec.IPFamilies = families
	return s
}

func typedSlice(name string, of discoveryv1.AddressType, node string) *discoveryv1.EndpointSlice {
	s := testSlice("s", name, map[string]discoveryv1.EndpointConditions{node: {}})
	s.AddressType = of
	return s
}

func TestReadyNodes(t *testing.T) {
	list := []*discoveryv1.EndpointSlice{
		typedSlice("four", discoveryv1.AddressTypeIPv4, "a"),
		typedSlice("six", discoveryv1.AddressTypeIPv6, "b"),
		typedSlice("name", discoveryv1.AddressTypeFQDN, "c"),
		typedSlice("headless", discoveryv1.AddressTypeIPv4, "d"),
	}
	list[3].Labels[corev1.IsHeadlessService] = ""
	for _, tt := range []struct {
		families []corev1.IPFamily
		want     []string
	}{
		{nil, []string{"a", "b"}},
		{[]corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}, []string{"a", "b"}},
		{[]corev1.IPFamily{corev1.IPv4Protocol}, []string{"a"}},
		{[]corev1.IPFamily{corev1.IPv6Protocol}, []string{"b"}},
	} {
		service := localService(tt.families...)
		require.Equal(t, map[string][]string{"ns/s": tt.want}, ReadyNodes([]*corev1.Service{service}, list))
		service.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster
		require.Empty(t, ReadyNodes([]*corev1.Service{service}, list))
	}
	require.Empty(t, ReadyNodes(nil, list))
}

func TestReadyPods(t *testing.T) {
	list := []*discoveryv1.EndpointSlice{
		typedSlice("one", discoveryv1.AddressTypeIPv4, "b"), typedSlice("two", discoveryv1.AddressTypeIPv4, "a"), typedSlice("three", discoveryv1.AddressTypeIPv4, "b"),
	}
	services := []*corev1.Service{localService()}
	require.Equal(t, map[string][]string{"ns/s": {"a", "b", "b"}}, ReadyPods(services, list))
	require.Equal(t, map[string][]string{"ns/s": {"a", "b"}}, ReadyNodes(services, list))
}

// With LocalWeights, the Watcher keeps each pod, and follows the number of pods on a node.
func TestWatcherCountsPods(t *testing.T) {
	w := &Watcher{LocalEndpoints: true, Selector: nodeselect.Selector{LocalWeights: true}}
	inBubble(t, w, func(t *testing.T, calls *calls) {
		w.SetRefs([]nodeselect.Ref{testRef})
		w.queue.nodes.Replace(testNodes(1, 2))
		service := testService("s")
		service.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		w.queue.services.Replace([]*corev1.Service{service})
		slice := typedSlice("a", discoveryv1.AddressTypeIPv4, "n1")
		slice.Endpoints = append(slice.Endpoints, slice.Endpoints[0], discoveryv1.Endpoint{NodeName: new("n2")})
		for pods := 2; pods > 0; pods-- {
			kept, wanted := trimCountedSlice(slice)
			require.True(t, wanted)
			w.queue.slices.Replace([]*discoveryv1.EndpointSlice{kept})
			pass(time.Second)
			all := calls.all()
			nodes := all[len(all)-1].Selection.Targets[0].Nodes
			require.Equal(t, []int{pods, 1}, []int{nodes[0].Weight, nodes[1].Weight})
			slice = slice.DeepCopy()
			slice.Endpoints = slice.Endpoints[1:]
		}
	})
}

// If the IP families of a service change, the service gets the nodes of the new families.
func TestPodsFollowTheFamiliesOfAService(t *testing.T) {
	var reported []string
	p := pods{changed: func(_ string, nodes []string) { reported = nodes }}
	for _, s := range []*discoveryv1.EndpointSlice{
		typedSlice("four", discoveryv1.AddressTypeIPv4, "a"), typedSlice("six", discoveryv1.AddressTypeIPv6, "b"),
	} {
		kept, _ := trimSlice(s)
		p.setSlice("ns/"+kept.Name, kept)
	}
	p.setListed()
	for _, tt := range []struct {
		service *corev1.Service
		want    []string
	}{
		{localService(corev1.IPv6Protocol), []string{"b"}},
		{localService(corev1.IPv4Protocol), []string{"a"}},
		{localService(), []string{"a", "b"}},
		{nil, nil},
	} {
		p.setService("ns/s", tt.service)
		require.Equal(t, tt.want, reported)
	}
	require.Empty(t, p.family)
}
