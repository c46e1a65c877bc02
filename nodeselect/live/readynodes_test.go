package live

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
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
