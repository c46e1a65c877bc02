package endpoints_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/endpoints"
)

// slice returns an EndpointSlice of the service ns/s with the port http (8080).
func slice(name, version string, list ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	family := discoveryv1.AddressTypeIPv4
	if len(list) > 0 && netip.MustParseAddr(list[0].Addresses[0]).Is6() {
		family = discoveryv1.AddressTypeIPv6
	}
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: name, ResourceVersion: version, Labels: map[string]string{discoveryv1.LabelServiceName: "s"},
		},
		AddressType: family,
		Endpoints:   list,
		Ports:       []discoveryv1.EndpointPort{port("http", 8080)},
	}
}

func port(name string, number int32) discoveryv1.EndpointPort {
	return discoveryv1.EndpointPort{Name: &name, Port: &number}
}

// pod returns an endpoint of a ready pod. Its zone is a, and its node n.
func pod(name, addr string, edits ...func(*discoveryv1.Endpoint)) discoveryv1.Endpoint {
	node, zone := "n", "a"
	e := discoveryv1.Endpoint{
		Addresses: []string{addr}, NodeName: &node, Zone: &zone,
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "ns", Name: name},
	}
	for _, edit := range edits {
		edit(&e)
	}
	return e
}

func conditions(ready, serving, terminating *bool) func(*discoveryv1.Endpoint) {
	return func(e *discoveryv1.Endpoint) {
		e.Conditions = discoveryv1.EndpointConditions{Ready: ready, Serving: serving, Terminating: terminating}
	}
}

var notReady = conditions(new(false), nil, nil)

func want(name, addr string) endpoints.Pod {
	return endpoints.Pod{Addr: netip.MustParseAddrPort(addr), Name: name, Node: "n", Zone: "a", Ready: true, Serving: true}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	unready := func(p endpoints.Pod) endpoints.Pod {
		p.Ready, p.Serving = false, false
		return p
	}
	type objects = []*discoveryv1.EndpointSlice
	tests := []struct {
		name     string
		slices   objects
		port     string // "" means http
		policy   nodeselect.AddressPolicy
		want     []endpoints.Pod
		problems []string
	}{
		{name: "no slice"},
		{
			name:   "several slices",
			slices: objects{slice("y", "", pod("b", "10.0.0.2")), slice("x", "", pod("c", "10.0.0.3"), pod("a", "10.0.0.1"))},
			want:   []endpoints.Pod{want("a", "10.0.0.1:8080"), want("b", "10.0.0.2:8080"), want("c", "10.0.0.3:8080")},
		},
		{
			name:   "the newer slice counts for the same pod",
			slices: objects{slice("x", "1000", pod("a", "10.0.0.1", notReady)), slice("y", "999", pod("a", "10.0.0.1"))},
			want:   []endpoints.Pod{unready(want("a", "10.0.0.1:8080"))},
		},
		{
			name:   "without versions, the better condition counts",
			slices: objects{slice("x", "", pod("a", "10.0.0.1", notReady)), slice("y", "", pod("a", "10.0.0.1"))},
			want:   []endpoints.Pod{want("a", "10.0.0.1:8080")},
		},
		{
			name:   "a version that is not a number counts as the oldest",
			slices: objects{slice("x", "0x9", pod("a", "10.0.0.1")), slice("y", "5", pod("a", "10.0.0.1", notReady))},
			want:   []endpoints.Pod{unready(want("a", "10.0.0.1:8080"))},
		},
		{
			name:   "a new pod has the address of a pod that has stopped",
			slices: objects{slice("x", "9", pod("old", "10.0.0.1", notReady)), slice("y", "5", pod("new", "10.0.0.1"))},
			want:   []endpoints.Pod{want("new", "10.0.0.1:8080")},
		},
		{
			name: "twice in one slice",
			slices: objects{slice(
				"x", "5", pod("a", "10.0.0.1", conditions(new(false), new(true), new(true))), pod("b", "10.0.0.1", conditions(new(false), new(false), new(false))),
			)},
			want: []endpoints.Pod{{Addr: netip.MustParseAddrPort("10.0.0.1:8080"), Name: "a", Node: "n", Zone: "a", Serving: true, Terminating: true}},
		},
		{
			name:   "a pod with both families has its IPv4 address",
			slices: objects{slice("x", "", pod("a", "fd00::1"), pod("six", "fd00::6")), slice("y", "", pod("a", "10.0.0.1"), pod("four", "10.0.0.4"))},
			want:   []endpoints.Pod{want("a", "10.0.0.1:8080"), want("four", "10.0.0.4:8080"), want("six", "[fd00::6]:8080")},
		},
		{
			name:   "a pod with both families has its IPv6 address if that is preferred",
			slices: objects{slice("x", "", pod("a", "fd00::1"), pod("six", "fd00::6")), slice("y", "", pod("a", "10.0.0.1"), pod("four", "10.0.0.4"))},
			policy: nodeselect.AddressPolicy{Family: nodeselect.PreferIPv6},
			want:   []endpoints.Pod{want("four", "10.0.0.4:8080"), want("a", "[fd00::1]:8080"), want("six", "[fd00::6]:8080")},
		},
		{
			name: "endpoints that are not pods have both addresses",
			slices: objects{
				slice("x", "", pod("a", "10.0.0.1", func(e *discoveryv1.Endpoint) { e.TargetRef = nil })),
				slice("y", "", pod("a", "fd00::1", func(e *discoveryv1.Endpoint) { e.TargetRef.Kind = "VirtualMachine" })),
				slice("z", "", pod("a", "fd00::2", func(e *discoveryv1.Endpoint) { e.TargetRef.Namespace = "other" })),
			},
			want: []endpoints.Pod{want("", "10.0.0.1:8080"), want("", "[fd00::1]:8080"), want("", "[fd00::2]:8080")},
		},
		{
			name: "only the first address of an endpoint counts",
			slices: objects{slice("x", "", pod("a", "10.0.0.1", func(e *discoveryv1.Endpoint) {
				e.Addresses = append(e.Addresses, "10.0.0.2", "rubbish")
			}))},
			want: []endpoints.Pod{want("a", "10.0.0.1:8080")},
		},
		{
			name: "missing conditions, node and zone",
			slices: objects{slice("x", "",
				pod("a", "10.0.0.1", func(e *discoveryv1.Endpoint) { e.NodeName, e.Zone = nil, nil }),
				pod("b", "10.0.0.2", conditions(new(false), nil, nil)),
				pod("c", "10.0.0.3", conditions(nil, new(false), nil)),
				pod("d", "10.0.0.4", conditions(new(true), nil, new(true))),
			)},
			want: []endpoints.Pod{
				{Addr: netip.MustParseAddrPort("10.0.0.1:8080"), Name: "a", Ready: true, Serving: true},
				{Addr: netip.MustParseAddrPort("10.0.0.2:8080"), Name: "b", Node: "n", Zone: "a"},
				{Addr: netip.MustParseAddrPort("10.0.0.3:8080"), Name: "c", Node: "n", Zone: "a", Ready: true},
				{Addr: netip.MustParseAddrPort("10.0.0.4:8080"), Name: "d", Node: "n", Zone: "a", Ready: true, Serving: true, Terminating: true},
			},
		},
		{
			name: "FQDN",
			slices: objects{func() *discoveryv1.EndpointSlice {
				s := slice("x", "", pod("a", "10.0.0.1"))
				s.AddressType, s.Endpoints[0].Addresses[0] = discoveryv1.AddressTypeFQDN, "a.example.com"
				return s
			}(), slice("y", "", pod("b", "10.0.0.2"))},
			want:     []endpoints.Pod{want("b", "10.0.0.2:8080")},
			problems: []string{`EndpointSlice ns/x: addressType: "FQDN": only IPv4 and IPv6 are used, so 1 endpoint is ignored`},
		},
		{
			name: "addresses that no pod has",
			slices: objects{
				slice("x", "", pod("a", "10.0.0.1"), pod("b", "169.254.169.254"), pod("c", "::ffff:10.0.0.2"), pod("d", "10.0.0.3", func(e *discoveryv1.Endpoint) { e.Addresses = nil })),
				slice("y", "", pod("a", "fd00::1"), pod("b", "fe80::1%eth0"), pod("c", "10.0.0.4")),
			},
			policy: nodeselect.AddressPolicy{Family: nodeselect.PreferIPv6},
			want:   []endpoints.Pod{want("c", "10.0.0.2:8080"), want("a", "[fd00::1]:8080")},
			problems: []string{
				"EndpointSlice ns/x: endpoints.addresses: endpoint 1: 169.254.169.254 is a cloud metadata address (most clouds); 2 endpoints are ignored",
				`EndpointSlice ns/y: endpoints.addresses: endpoint 1: "fe80::1%eth0" is not an IP address without a zone; 2 endpoints are ignored`,
			},
		},
		{
			name:     "loopback addresses",
			slices:   objects{slice("x", "", pod("a", "127.0.0.1"))},
			want:     []endpoints.Pod{want("a", "127.0.0.1:8080")},
			problems: []string{"EndpointSlice ns/x: endpoints.addresses: 127.0.0.1 is loopback (RFC 1122 section 3.2.1.3): each balancer connects to itself; 1 endpoint is affected"},
		},
		{
			name: "one name with two numbers",
			slices: objects{slice("x", "", pod("a", "10.0.0.1")), func() *discoveryv1.EndpointSlice {
				s := slice("y", "", pod("b", "10.0.0.2"))
				s.Ports = []discoveryv1.EndpointPort{port("admin", 9000), port("http", 8081)}
				return s
			}()},
			want: []endpoints.Pod{want("a", "10.0.0.1:8080"), want("b", "10.0.0.2:8081")},
		},
		{
			name: "two pods of a node's network",
			slices: objects{slice("x", "", pod("a", "10.0.0.1")), func() *discoveryv1.EndpointSlice {
				s := slice("y", "", pod("b", "10.0.0.1"))
				s.Ports = []discoveryv1.EndpointPort{port("http", 8081)}
				return s
			}()},
			want: []endpoints.Pod{want("a", "10.0.0.1:8080"), want("b", "10.0.0.1:8081")},
		},
		{
			name: "a slice without the port",
			slices: objects{slice("x", "", pod("a", "10.0.0.1")), func() *discoveryv1.EndpointSlice {
				s := slice("y", "", pod("b", "10.0.0.2"), pod("c", "10.0.0.3"))
				s.Ports = []discoveryv1.EndpointPort{port("admin", 9000)}
				return s
			}()},
			want:     []endpoints.Pod{want("a", "10.0.0.1:8080")},
			problems: []string{`Service ns/s: ports: no TCP port "http": 2 endpoints are ignored; the EndpointSlices have admin (9000), http (8080)`},
		},
		{
			name:     "no slice has the port",
			slices:   objects{slice("x", "", pod("a", "10.0.0.1")), slice("empty", "")},
			port:     "grpc",
			problems: []string{`Service ns/s: ports: no TCP port "grpc": 1 endpoint is ignored; the EndpointSlices have http (8080)`},
		},
		{
			name:   "the number of the port",
			slices: objects{slice("x", "", pod("a", "10.0.0.1"))},
			port:   "8080",
			want:   []endpoints.Pod{want("a", "10.0.0.1:8080")},
		},
		{
			name: "a name that looks like a number",
			slices: objects{func() *discoveryv1.EndpointSlice {
				s := slice("x", "", pod("a", "10.0.0.1"))
				s.Ports = []discoveryv1.EndpointPort{port("admin", 80), port("80", 8080)}
				return s
			}()},
			port: "80",
			want: []endpoints.Pod{want("a", "10.0.0.1:8080")},
		},
		{
			name: "ports that cannot be used",
			slices: objects{func() *discoveryv1.EndpointSlice {
				s := slice("x", "", pod("a", "10.0.0.1"))
				udp := port("http", 53)
				udp.Protocol = new(corev1.ProtocolUDP)
				s.Ports = []discoveryv1.EndpointPort{udp, port("http", 70000), {Name: new("http")}, {Port: new(int32(8080))}}
				return s
			}()},
			port: "8080",
			want: []endpoints.Pod{want("a", "10.0.0.1:8080")},
			problems: []string{
				`EndpointSlice ns/x: ports.port: port "http": 70000 is not a port number`,
				`EndpointSlice ns/x: ports.port: port "http" has no number`,
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.port == "" {
				test.port = "http"
			}
			pods, problems := endpoints.Merge(test.slices, test.port, test.policy)
			if len(test.want) == 0 {
				require.Empty(t, pods)
			} else {
				require.Equal(t, test.want, pods)
			}
			var texts []string
			for _, p := range problems {
				texts = append(texts, p.Error())
			}
			require.Equal(t, test.problems, texts)
		})
	}
}

// The port "" means the only TCP port of each slice.
func TestMergeOnlyPort(t *testing.T) {
	t.Parallel()
	unnamed, two := slice("x", "", pod("a", "10.0.0.1")), slice("y", "", pod("b", "10.0.0.2"))
	udp := port("dns", 53)
	udp.Protocol = new(corev1.ProtocolUDP)
	unnamed.Ports = []discoveryv1.EndpointPort{port("", 80), udp}
	two.Ports = append(two.Ports, port("admin", 9000))
	pods, problems := endpoints.Merge([]*discoveryv1.EndpointSlice{unnamed, two}, "", nodeselect.AddressPolicy{})
	require.Equal(t, []endpoints.Pod{want("a", "10.0.0.1:80")}, pods)
	require.Len(t, problems, 1)
	require.EqualError(t, problems[0], "Service ns/s: ports: no port is named, and there is not exactly one TCP port: 1 endpoint is ignored; the EndpointSlices have 80, admin (9000), http (8080)")
}

func TestGroup(t *testing.T) {
	t.Parallel()
	other, none := slice("x", "", pod("o", "10.0.0.9")), slice("none", "", pod("none", "10.0.0.8"))
	other.Namespace = "other"
	none.Labels = nil
	services := endpoints.Group([]*discoveryv1.EndpointSlice{
		slice("x", "", pod("a", "10.0.0.1")), slice("y", "", pod("b", "10.0.0.2")), slice("x", "", pod("c", "10.0.0.3")), other, none,
	}, nodeselect.AddressPolicy{})
	require.Len(t, services, 2)
	pods, problems := services.Pods(nodeselect.Ref{Namespace: "ns", Service: "s", Port: "http"})
	require.Empty(t, problems)
	require.Equal(t, []endpoints.Pod{want("b", "10.0.0.2:8080"), want("c", "10.0.0.3:8080")}, pods)
	require.Equal(t, []endpoints.Port{{Name: "http", Number: 8080}}, services["other/s"].Ports())

	pods, problems = services.Pods(nodeselect.Ref{Namespace: "ns", Service: "missing"})
	require.Empty(t, pods)
	require.Len(t, problems, 1)
	require.EqualError(t, problems[0], "Service ns/missing: there is no EndpointSlice of this service")
}

func TestByZone(t *testing.T) {
	t.Parallel()
	a, b, c := want("a", "10.0.0.1:80"), want("b", "10.0.0.2:80"), want("c", "10.0.0.3:80")
	b.Zone = ""
	require.Equal(t, map[string][]endpoints.Pod{"a": {a, c}, "": {b}}, endpoints.ByZone([]endpoints.Pod{a, b, c}))
	require.True(t, a.AcceptsRequests())
	a.Terminating = true
	require.False(t, a.AcceptsRequests())
}

func TestInService(t *testing.T) {
	ready := endpoints.Pod{Name: "ready", Ready: true, Serving: true}
	unready := endpoints.Pod{Name: "unready"}
	serves := endpoints.Pod{Name: "serves", Serving: true, Terminating: true}
	published := endpoints.Pod{Name: "published", Ready: true, Serving: true, Terminating: true} // publishNotReadyAddresses
	stopped := endpoints.Pod{Name: "stopped", Terminating: true}

	require.Equal(t, []endpoints.Pod{ready}, endpoints.InService([]endpoints.Pod{serves, unready, published, ready, stopped}))
	require.Equal(t, []endpoints.Pod{serves, published}, endpoints.InService([]endpoints.Pod{serves, unready, published, stopped}))
	require.Empty(t, endpoints.InService([]endpoints.Pod{unready, stopped}))
	require.Empty(t, endpoints.InService(nil))
}
