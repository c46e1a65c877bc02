package nodeselect_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/headgate/headgate/nodeselect"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// newNode returns a node with an address, after the changes.
func newNode(name, addr string, changes ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if addr != "" {
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: addr}}
	}
	for _, change := range changes {
		change(n)
	}
	return n
}

func label(key, value string) func(*corev1.Node) {
	return func(n *corev1.Node) { metav1.SetMetaDataLabel(&n.ObjectMeta, key, value) }
}

func zone(z string) func(*corev1.Node) { return label(corev1.LabelTopologyZone, z) }

func taint(key string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key}) }
}

func cordoned(n *corev1.Node) { n.Spec.Unschedulable = true }

func ready(status corev1.ConditionStatus, since time.Time) func(*corev1.Node) {
	return func(n *corev1.Node) {
		n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{
			Type: corev1.NodeReady, Status: status, LastTransitionTime: metav1.NewTime(since), Reason: "R",
		})
	}
}

func created(at time.Time) func(*corev1.Node) {
	return func(n *corev1.Node) { n.CreationTimestamp = metav1.NewTime(at) }
}

func network(unavailable corev1.ConditionStatus, since time.Time) func(*corev1.Node) {
	return func(n *corev1.Node) {
		n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{
			Type: corev1.NodeNetworkUnavailable, Status: unavailable, LastTransitionTime: metav1.NewTime(since),
		})
	}
}

func deleted(n *corev1.Node) { t := metav1.NewTime(now); n.DeletionTimestamp = &t }

func excluded(n *corev1.Node) { label(nodeselect.ExcludeLabel, "")(n) }

func avoided(n *corev1.Node) { taint(nodeselect.TaintClusterAutoscaler)(n) }

func TestPredicates(t *testing.T) {
	tests := []struct {
		name    string
		change  func(*corev1.Node)
		verdict nodeselect.Verdict
		reason  string
	}{
		{"plain", func(*corev1.Node) {}, nodeselect.Eligible, ""},
		{"label without value", label(nodeselect.ExcludeLabel, ""), nodeselect.Excluded, `label node.kubernetes.io/exclude-from-external-load-balancers=""`},
		{"label true", label(nodeselect.ExcludeLabel, "true"), nodeselect.Excluded, `label node.kubernetes.io/exclude-from-external-load-balancers="true"`},
		{"label false", label(nodeselect.ExcludeLabel, "false"), nodeselect.Eligible, ""},
		{"label unclear", label(nodeselect.ExcludeLabel, "no"), nodeselect.Excluded, `label node.kubernetes.io/exclude-from-external-load-balancers="no"`},
		{"deleted", deleted, nodeselect.Excluded, "being deleted since 2026-05-01T12:00:00Z"},
		{"ready", ready(corev1.ConditionTrue, now.Add(-time.Hour)), nodeselect.Eligible, ""},
		{"not ready for a short time", ready(corev1.ConditionFalse, now.Add(-5*time.Minute)), nodeselect.Eligible, ""},
		{"not ready for long", ready(corev1.ConditionFalse, now.Add(-5*time.Minute-time.Second)), nodeselect.Avoid, "not ready since 2026-05-01T11:54:59Z (R)"},
		{"unknown for long", ready(corev1.ConditionUnknown, now.Add(-time.Hour)), nodeselect.Avoid, "not ready since 2026-05-01T11:00:00Z (R)"},
		{"not ready at no time", ready(corev1.ConditionFalse, time.Time{}), nodeselect.Avoid, "not ready (R)"},
		{"not ready, clock a little ahead", ready(corev1.ConditionFalse, now.Add(5*time.Minute)), nodeselect.Eligible, ""},
		{"not ready, clock far ahead", ready(corev1.ConditionFalse, now.Add(time.Hour)), nodeselect.Avoid, "not ready since 2026-05-01T13:00:00Z (R)"},
		{"never ready", func(n *corev1.Node) {
			created(now.Add(-65 * time.Second))(n)
			ready(corev1.ConditionFalse, now.Add(-60*time.Second))(n)
		}, nodeselect.Avoid, "never ready (R)"},
		{"never ready, clock behind", func(n *corev1.Node) {
			created(now.Add(-time.Minute))(n)
			ready(corev1.ConditionUnknown, now.Add(-2*time.Minute))(n)
		}, nodeselect.Avoid, "never ready (R)"},
		{"ready for a minute", func(n *corev1.Node) {
			created(now.Add(-2 * time.Minute))(n)
			ready(corev1.ConditionFalse, now.Add(-time.Minute))(n)
		}, nodeselect.Eligible, ""},
		{"new and ready", func(n *corev1.Node) {
			created(now.Add(-time.Minute))(n)
			ready(corev1.ConditionTrue, now.Add(-time.Minute))(n)
		}, nodeselect.Eligible, ""},
		{"no network for a short time", network(corev1.ConditionTrue, now.Add(-time.Minute)), nodeselect.Eligible, ""},
		{"no network for long", network(corev1.ConditionTrue, now.Add(-time.Hour)), nodeselect.Avoid, "network unavailable since 2026-05-01T11:00:00Z"},
		{"network available", network(corev1.ConditionFalse, now.Add(-time.Hour)), nodeselect.Eligible, ""},
		{"network unknown", network(corev1.ConditionUnknown, now.Add(-time.Hour)), nodeselect.Eligible, ""},
		{"never a network", func(n *corev1.Node) {
			created(now.Add(-time.Minute))(n)
			network(corev1.ConditionTrue, now.Add(-time.Minute))(n)
		}, nodeselect.Avoid, "network unavailable since the node was created"},
		{"memory pressure", func(n *corev1.Node) {
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionTrue}}
		}, nodeselect.Eligible, ""},
		{"not initialised", taint("node.cloudprovider.kubernetes.io/uninitialized"), nodeselect.Avoid, "taint node.cloudprovider.kubernetes.io/uninitialized"},
		{"not registered", taint("karpenter.sh/unregistered"), nodeselect.Avoid, "taint karpenter.sh/unregistered"},
		{"out of service", taint("node.kubernetes.io/out-of-service"), nodeselect.Avoid, "taint node.kubernetes.io/out-of-service"},
		{"shut down", taint("node.cloudprovider.kubernetes.io/shutdown"), nodeselect.Avoid, "taint node.cloudprovider.kubernetes.io/shutdown"},
		{"Fargate", label("eks.amazonaws.com/compute-type", "fargate"), nodeselect.Excluded, `opens no node ports: label eks.amazonaws.com/compute-type="fargate"`},
		{"other compute type", label("eks.amazonaws.com/compute-type", "auto"), nodeselect.Eligible, ""},
		{"virtual kubelet", label("type", "virtual-kubelet"), nodeselect.Excluded, `opens no node ports: label type="virtual-kubelet"`},
		{"other type", label("type", "gpu"), nodeselect.Eligible, ""},
		{"provider of a virtual kubelet", taint("virtual-kubelet.io/provider"), nodeselect.Excluded, "opens no node ports: taint virtual-kubelet.io/provider"},
		{"cluster autoscaler", taint("ToBeDeletedByClusterAutoscaler"), nodeselect.Avoid, "taint ToBeDeletedByClusterAutoscaler"},
		{"karpenter", taint("karpenter.sh/disrupted"), nodeselect.Avoid, "taint karpenter.sh/disrupted"},
		{"karpenter before 1.0", taint("karpenter.sh/disruption"), nodeselect.Avoid, "taint karpenter.sh/disruption"},
		{"spot instance", taint("aws-node-termination-handler/spot-itn"), nodeselect.Avoid, "taint aws-node-termination-handler/spot-itn"},
		{"preemption", taint("cloud.google.com/impending-node-termination"), nodeselect.Avoid, "taint cloud.google.com/impending-node-termination"},
		{"another taint", taint("x"), nodeselect.Eligible, ""},
		{"cordoned", cordoned, nodeselect.Eligible, ""},
		{"several", func(n *corev1.Node) { avoided(n); deleted(n) }, nodeselect.Excluded, "being deleted since 2026-05-01T12:00:00Z, taint ToBeDeletedByClusterAutoscaler"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			findings := nodeselect.Selector{}.Pool([]*corev1.Node{newNode("a", "10.0.0.1", tt.change)}, now).Findings()
			if tt.verdict == nodeselect.Eligible {
				require.Empty(t, findings)
				return
			}
			require.Equal(t, []nodeselect.Finding{{Node: "a", Verdict: tt.verdict, Reason: tt.reason}}, findings)
		})
	}
}

func TestSelectorPredicates(t *testing.T) {
	nodes := []*corev1.Node{newNode("a", "10.0.0.1", cordoned, excluded), newNode("b", "10.0.0.2")}
	s := nodeselect.Selector{Predicates: []nodeselect.Predicate{nodeselect.NotCordoned}}
	require.Equal(t, []nodeselect.Finding{{Node: "a", Verdict: nodeselect.Avoid, Reason: "cordoned"}}, s.Pool(nodes, now).Findings())
	s.Predicates = []nodeselect.Predicate{}
	require.Empty(t, s.Pool(nodes, now).Findings())
}

func TestVerdictText(t *testing.T) {
	for v, name := range map[nodeselect.Verdict]string{nodeselect.Eligible: "eligible", nodeselect.Avoid: "avoid", nodeselect.Excluded: "excluded", nodeselect.Unusable: "unusable"} {
		text, err := v.MarshalText()
		require.NoError(t, err)
		require.Equal(t, name, string(text))
		var back nodeselect.Verdict
		require.NoError(t, back.UnmarshalText(text))
		require.Equal(t, v, back)
	}
	require.Error(t, new(nodeselect.Verdict).UnmarshalText([]byte("x")))
	require.Equal(t, "Verdict(9)", nodeselect.Verdict(9).String())
}

func TestAddressPolicy(t *testing.T) {
	in, ex, host := corev1.NodeInternalIP, corev1.NodeExternalIP, corev1.NodeHostName
	list := func(pairs ...any) (l []corev1.NodeAddress) {
		for i := 0; i < len(pairs); i += 2 {
			l = append(l, corev1.NodeAddress{Type: pairs[i].(corev1.NodeAddressType), Address: pairs[i+1].(string)})
		}
		return l
	}
	dual := list(host, "h", ex, "192.0.2.1", in, "10.0.0.1", in, "2001:db8::1")
	special := func(given, reason string) string {
		return fmt.Sprintf(`no usable address of type InternalIP (the node has ["InternalIP %s"]): %s`, given, reason)
	}
	networks := func(texts ...string) (ps []netip.Prefix) {
		for _, text := range texts {
			ps = append(ps, netip.MustParsePrefix(text))
		}
		return ps
	}
	tests := []struct {
		name   string
		policy nodeselect.AddressPolicy
		has    []corev1.NodeAddress
		want   string // the address, or the error
	}{
		{"internal", nodeselect.AddressPolicy{}, dual, "10.0.0.1"},
		{"first listed", nodeselect.AddressPolicy{}, list(in, "2001:db8::1", in, "10.0.0.1"), "2001:db8::1"},
		{"IPv6", nodeselect.AddressPolicy{Family: nodeselect.PreferIPv6}, dual, "2001:db8::1"},
		{"IPv4", nodeselect.AddressPolicy{Family: nodeselect.PreferIPv4}, list(in, "2001:db8::1", in, "10.0.0.1"), "10.0.0.1"},
		{"IPv6 is not there", nodeselect.AddressPolicy{Family: nodeselect.PreferIPv6}, list(in, "10.0.0.1"), "10.0.0.1"},
		{"external", nodeselect.AddressPolicy{Types: []corev1.NodeAddressType{ex}}, dual, "192.0.2.1"},
		{"type before family", nodeselect.AddressPolicy{Types: []corev1.NodeAddressType{ex, in}, Family: nodeselect.PreferIPv6}, dual, "192.0.2.1"},
		{"external, then internal", nodeselect.AddressPolicy{Types: []corev1.NodeAddressType{ex, in}}, list(in, "10.0.0.1"), "10.0.0.1"},
		{"mapped", nodeselect.AddressPolicy{}, list(in, "::ffff:10.0.0.1"), "10.0.0.1"},
		{"unusable ones first", nodeselect.AddressPolicy{}, list(in, "fe80::1", in, "0.0.0.0", in, "fd00::1%eth0", in, "224.0.0.1", in, "x", in, "10.0.0.9"), "10.0.0.9"},
		{"loopback", nodeselect.AddressPolicy{}, list(in, "127.0.0.1"), "127.0.0.1"},
		{"private and shared", nodeselect.AddressPolicy{}, list(in, "100.64.0.1"), "100.64.0.1"},
		{"unique local", nodeselect.AddressPolicy{}, list(in, "fd00::1"), "fd00::1"},
		{"documentation", nodeselect.AddressPolicy{}, list(in, "198.51.100.1"), "198.51.100.1"},
		{"public behind NAT64", nodeselect.AddressPolicy{}, list(in, "64:ff9b::808:808"), "64:ff9b::808:808"},
		{"special ones first", nodeselect.AddressPolicy{}, list(in, "169.254.169.254", in, "240.0.0.1", in, "10.0.0.9"), "10.0.0.9"},
		{"link-local", nodeselect.AddressPolicy{}, list(in, "169.254.1.1"), special("169.254.1.1", "169.254.1.1 is link-local (RFC 3927)")},
		{"link-local IPv6", nodeselect.AddressPolicy{}, list(in, "fe80::1"), special("fe80::1", "fe80::1 is link-local (RFC 4291 section 2.5.6)")},
		{"metadata", nodeselect.AddressPolicy{}, list(in, "169.254.169.254"), special("169.254.169.254", "169.254.169.254 is a cloud metadata address (most clouds)")},
		{"metadata in private range", nodeselect.AddressPolicy{}, list(in, "fd00:ec2::254"), special("fd00:ec2::254", "fd00:ec2::254 is a cloud metadata address (Amazon EC2)")},
		{"metadata in shared range", nodeselect.AddressPolicy{}, list(in, "100.100.100.200"), special("100.100.100.200", "100.100.100.200 is a cloud metadata address (Alibaba Cloud)")},
		{"reserved", nodeselect.AddressPolicy{}, list(in, "240.0.0.1"), special("240.0.0.1", "240.0.0.1 is reserved (RFC 1112 section 4)")},
		{"broadcast", nodeselect.AddressPolicy{}, list(in, "255.255.255.255"), special("255.255.255.255", "255.255.255.255 is broadcast (RFC 919 section 7)")},
		{"unspecified range", nodeselect.AddressPolicy{}, list(in, "0.0.0.1"), special("0.0.0.1", "0.0.0.1 is unspecified (RFC 791 section 3.2)")},
		{"multicast", nodeselect.AddressPolicy{}, list(in, "ff02::1"), special("ff02::1", "ff02::1 is multicast (RFC 4291 section 2.7)")},
		{"mapped metadata", nodeselect.AddressPolicy{}, list(in, "::ffff:169.254.169.254"), special("::ffff:169.254.169.254", "::ffff:169.254.169.254 leads to 169.254.169.254, which is a cloud metadata address (most clouds)")},
		{"loopback behind NAT64", nodeselect.AddressPolicy{}, list(in, "64:ff9b::7f00:1"), special("64:ff9b::7f00:1", "64:ff9b::7f00:1 leads to 127.0.0.1, which is loopback (RFC 1122 section 3.2.1.3)")},
		{"metadata behind 6to4", nodeselect.AddressPolicy{}, list(in, "2002:a9fe:a9fe::1"), special("2002:a9fe:a9fe::1", "2002:a9fe:a9fe::1 leads to 169.254.169.254, which is a cloud metadata address (most clouds)")},
		{"observing", nodeselect.AddressPolicy{Observe: true}, list(in, "64:ff9b::7f00:1"), "64:ff9b::7f00:1"},
		{"observing what nobody has", nodeselect.AddressPolicy{Observe: true}, list(in, "0.0.0.1"), special("0.0.0.1", "0.0.0.1 is unspecified (RFC 791 section 3.2)")},
		{"allowed", nodeselect.AddressPolicy{Allow: networks("240.0.0.0/4")}, list(in, "240.0.0.1"), "240.0.0.1"},
		{"allowed link-local", nodeselect.AddressPolicy{Allow: networks("10.0.0.0/8", "169.254.8.0/24")}, list(in, "169.254.8.1"), "169.254.8.1"},
		{"a wide range allows nothing special", nodeselect.AddressPolicy{Allow: networks("0.0.0.0/0", "::/0")}, list(in, "240.0.0.1"), special("240.0.0.1", "240.0.0.1 is reserved (RFC 1112 section 4)")},
		{"link-local does not allow metadata", nodeselect.AddressPolicy{Allow: networks("169.254.0.0/16")}, list(in, "169.254.169.254"), special("169.254.169.254", "169.254.169.254 is a cloud metadata address (most clouds)")},
		{"never allowed", nodeselect.AddressPolicy{Allow: networks("255.255.255.255/32", "0.0.0.0/8")}, list(in, "255.255.255.255"), special("255.255.255.255", "255.255.255.255 is broadcast (RFC 919 section 7)")},
		{"none", nodeselect.AddressPolicy{}, nil, `no usable address of type InternalIP (the node has [])`},
		{"names alone", nodeselect.AddressPolicy{Types: []corev1.NodeAddressType{in, ex}}, list(host, "h"), `no usable address of type InternalIP or ExternalIP (the node has ["Hostname"])`},
		{"broken", nodeselect.AddressPolicy{}, list(in, "10.0.0.256"), `no usable address of type InternalIP (the node has ["InternalIP 10.0.0.256"])`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			node := newNode("a", "")
			node.Status.Addresses = tt.has
			addr, err := tt.policy.Choose(node)
			if err != nil {
				require.EqualError(t, err, tt.want)
				return
			}
			require.Equal(t, tt.want, addr.String())
		})
	}
}

// TestSpecialAddresses has a node with a metadata address and a node with a loopback address.
// Select does not use the first node. The problems name the node, the address and the range.
func TestSpecialAddresses(t *testing.T) {
	at := time.Now()
	var nodes []*corev1.Node
	for name, addr := range map[string]string{"good": "10.0.0.1", "metadata": "169.254.169.254", "self": "127.0.0.1"} {
		n := newNode(name, "")
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: addr}}
		nodes = append(nodes, n)
	}
	choose := func(s nodeselect.Selector) (names, problems []string) {
		selection := s.Select(nodeselect.NewObjects(nodes, nil), nil, at, nil)
		for _, n := range s.Pool(nodes, at).Pick("ns/s", nil) {
			names = append(names, n.Name)
		}
		for _, p := range selection.Problems {
			problems = append(problems, fmt.Sprint(p.Warning, " ", p))
		}
		return names, problems
	}
	names, problems := choose(nodeselect.Selector{})
	require.Equal(t, []string{"good", "self"}, names)
	require.Equal(t, []string{
		"false Node metadata: status.addresses: 169.254.169.254 is a cloud metadata address (most clouds); the node is not used",
		"true Node self: status.addresses: 127.0.0.1 is loopback (RFC 1122 section 3.2.1.3): each balancer connects to itself",
	}, problems)
	names, problems = choose(nodeselect.Selector{Address: nodeselect.AddressPolicy{Observe: true}})
	require.Equal(t, []string{"good", "metadata", "self"}, names)
	require.Equal(t, []string{
		"true Node metadata: status.addresses: 169.254.169.254 is a cloud metadata address (most clouds); without observing, it would not be used",
		"true Node self: status.addresses: 127.0.0.1 is loopback (RFC 1122 section 3.2.1.3): each balancer connects to itself",
	}, problems)
	allow := []netip.Prefix{netip.MustParsePrefix("169.254.169.254/32"), netip.MustParsePrefix("127.0.0.0/8")}
	names, problems = choose(nodeselect.Selector{Address: nodeselect.AddressPolicy{Allow: allow}})
	require.Equal(t, []string{"good", "metadata", "self"}, names)
	require.Empty(t, problems)
}

func TestAddressPolicyParse(t *testing.T) {
	policy := nodeselect.AddressPolicy{Types: []corev1.NodeAddressType{corev1.NodeExternalIP}, Family: nodeselect.PreferIPv6}
	addr, warning, err := policy.Parse("::ffff:10.0.0.1")
	require.NoError(t, err)
	require.Empty(t, warning)
	require.Equal(t, netip.MustParseAddr("10.0.0.1"), addr)
	_, warning, err = policy.Parse("127.0.0.1")
	require.NoError(t, err)
	require.Contains(t, warning, "127.0.0.1 is loopback")
	_, _, err = policy.Parse("fe80::1%eth0")
	require.EqualError(t, err, `"fe80::1%eth0" is not an IP address without a zone`)
	_, _, err = policy.Parse("169.254.169.254")
	require.EqualError(t, err, "169.254.169.254 is a cloud metadata address (most clouds)")
}
