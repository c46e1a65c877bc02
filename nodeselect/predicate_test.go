package nodeselect_test

import (
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
		{"not ready in the future", ready(corev1.ConditionFalse, now.Add(time.Hour)), nodeselect.Eligible, ""},
		{"cluster autoscaler", taint("ToBeDeletedByClusterAutoscaler"), nodeselect.Avoid, "taint ToBeDeletedByClusterAutoscaler"},
		{"karpenter", taint("karpenter.sh/disrupted"), nodeselect.Avoid, "taint karpenter.sh/disrupted"},
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
