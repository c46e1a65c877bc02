package kube

import (
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/nodeselect"
)

// Signal says whether something about a node asks for it to be drained, and why
// in a few words. It must be a pure function of the node, which it must not change.
type Signal func(node *corev1.Node) (reason string, drain bool)

// DefaultSignals returns Cordoned, Deleted, Annotated(a), Labelled with
// nodeselect.ExcludeLabel, and Tainted with the taints by which autoscalers
// announce that they remove a node.
func DefaultSignals(a nodeselect.Annotations) []Signal {
	return []Signal{
		Cordoned,
		Deleted,
		Annotated(a),
		Labelled(nodeselect.ExcludeLabel),
		Tainted(nodeselect.TaintClusterAutoscaler, nodeselect.TaintKarpenter),
	}
}

// Cordoned drains a node that kubectl cordon or drain has marked.
func Cordoned(node *corev1.Node) (string, bool) {
	return "cordoned", node.Spec.Unschedulable
}

// Deleted drains a node that is being deleted.
func Deleted(node *corev1.Node) (string, bool) {
	return "being deleted", node.DeletionTimestamp != nil
}

// Annotated drains a node whose drain annotation is true. A value that reads as
// neither true nor false drains nothing; Rules.State reports it.
func Annotated(a nodeselect.Annotations) Signal {
	return func(node *corev1.Node) (string, bool) {
		drain, err := a.Drain(node)
		return "annotated", drain && err == nil
	}
}

// Labelled drains a node that has the label, unless its value reads as false.
func Labelled(key string) Signal {
	return func(node *corev1.Node) (string, bool) {
		value, ok := node.Labels[key]
		if !ok {
			return "", false
		}
		set, err := strconv.ParseBool(value)
		return fmt.Sprintf("label %s=%q", key, value), set || err != nil
	}
}

// Tainted drains a node that has a taint with one of the keys, whatever its value
// and effect.
func Tainted(keys ...string) Signal {
	return func(node *corev1.Node) (string, bool) {
		for _, t := range node.Spec.Taints {
			if slices.Contains(keys, t.Key) {
				return "taint " + t.Key, true
			}
		}
		return "", false
	}
}
