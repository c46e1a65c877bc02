package nodeselect

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// These are taints that autoscalers set on a node before they remove it.
const (
	TaintClusterAutoscaler = "ToBeDeletedByClusterAutoscaler"
	TaintKarpenter         = "karpenter.sh/disrupted"
)

// RemovalTaints returns the keys of the taints that announce the removal of a node. Autoscalers set
// some of them. Clouds set the others before they take a machine back.
func RemovalTaints() []string {
	return []string{
		TaintClusterAutoscaler,
		TaintKarpenter,
		"karpenter.sh/disruption", // Karpenter before 1.0
		"cloud.google.com/impending-node-termination",
		"aws-node-termination-handler/asg-lifecycle-termination",
		"aws-node-termination-handler/rebalance-recommendation",
		"aws-node-termination-handler/scheduled-maintenance",
		"aws-node-termination-handler/spot-itn",
	}
}

// unusableTaints are the keys of taints on nodes that cannot serve now, because a cloud has not
// initialised the node yet, or because the machine is off.
var unusableTaints = []string{
	"node.cloudprovider.kubernetes.io/uninitialized",
	"karpenter.sh/unregistered",
	"node.cloudprovider.kubernetes.io/shutdown",
	corev1.TaintNodeOutOfService, // an operator sets it after the machine is off
}

// DefaultPredicates returns NotExcluded, NotDeleted, OpensNodePorts, Ready(DefaultGrace),
// NetworkAvailable(DefaultGrace), and WithoutTaints with the taints in README.md: RemovalTaints,
// and the taints of nodes that are not initialised or off. NotCordoned is not a default; see its
// comment.
func DefaultPredicates() []Predicate {
	return []Predicate{
		NotExcluded,
		NotDeleted,
		OpensNodePorts,
		Ready(DefaultGrace),
		NetworkAvailable(DefaultGrace),
		WithoutTaints(append(RemovalTaints(), unusableTaints...)...),
	}
}

// OpensNodePorts excludes nodes that are known to run no kube-proxy, so that they open no node
// port: AWS Fargate nodes and virtual kubelets.
func OpensNodePorts(node *corev1.Node, _ time.Time) (Verdict, string) {
	for _, m := range withoutNodePorts {
		if value, ok := node.Labels[m.Key]; ok && value == m.Value {
			return Excluded, "opens no node ports: " + labelText(m.Key, value)
		}
	}
	for i := range node.Spec.Taints {
		if key := node.Spec.Taints[i].Key; key == "virtual-kubelet.io/provider" {
			return Excluded, "opens no node ports: taint " + key
		}
	}
	return Eligible, ""
}

var withoutNodePorts = []Match{
	{Key: "eks.amazonaws.com/compute-type", Value: "fargate"},
	{Key: "type", Value: "virtual-kubelet"},
}

func labelText(key, value string) string { return fmt.Sprintf("label %s=%q", key, value) }

// startup is the first minute after the creation of a node. A node that was ready only during this
// minute counts as never ready.
const startup = time.Minute

// Ready avoids nodes that have been not ready for longer than grace. It avoids two kinds of nodes
// at once: a node that has not been ready since the first minute after its creation, and a node
// whose condition Ready contains a time more than grace in the future.
//
// A node without the condition Ready is Eligible. Ready never excludes a node: without a control
// plane, all nodes become not ready, but still serve.
func Ready(grace time.Duration) Predicate {
	return condition(corev1.NodeReady, grace, "not ready", func(s corev1.ConditionStatus) bool { return s != corev1.ConditionTrue })
}

// NetworkAvailable avoids nodes whose condition NetworkUnavailable has been True for longer than
// grace, or since their creation. It accepts the status Unknown, which means that the kubelet does
// not answer, because Ready judges this case.
func NetworkAvailable(grace time.Duration) Predicate {
	return condition(corev1.NodeNetworkUnavailable, grace, "network unavailable", func(s corev1.ConditionStatus) bool { return s == corev1.ConditionTrue })
}

// condition returns a Predicate that avoids a node whose condition has had a bad status for longer
// than grace. kind is the type of the condition, and the function "bad" reports whether a status is
// bad. words describe this status in the report, such as "not ready".
func condition(kind corev1.NodeConditionType, grace time.Duration, words string, bad func(corev1.ConditionStatus) bool) Predicate {
	return func(node *corev1.Node, now time.Time) (Verdict, string) {
		for i := range node.Status.Conditions {
			c := &node.Status.Conditions[i]
			if c.Type != kind || !bad(c.Status) {
				continue
			}
			since, reason := c.LastTransitionTime.Time, words
			switch {
			case since.IsZero():
			case isNever(node, since):
				reason = words + " since the node was created"
				if kind == corev1.NodeReady {
					reason = "never ready"
				}
			case now.Sub(since) > grace || since.Sub(now) > grace:
				reason += " since " + since.UTC().Format(time.RFC3339)
			default:
				return Eligible, ""
			}
			if c.Reason != "" {
				reason += " (" + c.Reason + ")"
			}
			return Avoid, reason
		}
		return Eligible, ""
	}
}

// isNever reports whether a condition has had its present status since the creation of the node.
// The argument "since" is the time of the last change of the status. A time less than a minute (the
// constant "startup") after the creation counts as the creation.
//
// The minute allows for the difference of two clocks: the API server sets the time of the creation,
// and the node or the node controller sets "since".
func isNever(node *corev1.Node, since time.Time) bool {
	created := node.CreationTimestamp.Time
	return !created.IsZero() && since.Sub(created) < startup
}

// WithoutTaints avoids nodes that have a taint with one of the keys. The value and the effect of
// the taint do not matter.
func WithoutTaints(keys ...string) Predicate {
	return func(node *corev1.Node, _ time.Time) (Verdict, string) {
		for i := range node.Spec.Taints {
			if key := node.Spec.Taints[i].Key; slices.Contains(keys, key) {
				return Avoid, "taint " + key
			}
		}
		return Eligible, ""
	}
}

// Match matches labels or taints with the key Key, and with the value Value if Value is not empty.
type Match struct {
	Key   string
	Value string // "" matches every value
}

// ParseMatch parses "KEY" or "KEY=VALUE". KEY and VALUE must be a valid key and a valid value of a
// Kubernetes label.
func ParseMatch(s string) (Match, error) {
	key, value, _ := strings.Cut(s, "=")
	if faults := validation.IsQualifiedName(key); faults != nil {
		return Match{}, fmt.Errorf("nodeselect: %.100q: key: %s", s, faults[0])
	}
	if faults := validation.IsValidLabelValue(value); faults != nil {
		return Match{}, fmt.Errorf("nodeselect: %.100q: value: %s", s, faults[0])
	}
	return Match{key, value}, nil
}

// ParseMatches parses several texts like ParseMatch.
func ParseMatches(texts []string) ([]Match, error) {
	var list []Match
	for _, text := range texts {
		m, err := ParseMatch(text)
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

// ExcludeLabels excludes nodes that have a label to which one of the given Matches applies. A Match
// without a value matches every value of the label, except values such as "false" or "0" that
// strconv.ParseBool reads as false.
func ExcludeLabels(list ...Match) Predicate {
	return func(node *corev1.Node, _ time.Time) (Verdict, string) {
		for _, m := range list {
			value, ok := node.Labels[m.Key]
			if !ok || m.Value != "" && m.Value != value {
				continue
			}
			if set, err := strconv.ParseBool(value); m.Value == "" && err == nil && !set {
				continue
			}
			return Excluded, labelText(m.Key, value)
		}
		return Eligible, ""
	}
}

// ExcludeTaints excludes nodes that have a taint to which one of the given Matches applies. The
// effect of the taint does not matter.
func ExcludeTaints(list ...Match) Predicate {
	return func(node *corev1.Node, _ time.Time) (Verdict, string) {
		for i := range node.Spec.Taints {
			t := &node.Spec.Taints[i]
			if slices.ContainsFunc(list, func(m Match) bool { return m.Key == t.Key && (m.Value == "" || m.Value == t.Value) }) {
				return Excluded, "taint " + t.Key
			}
		}
		return Eligible, ""
	}
}
