package nodeagent

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/nodeselect"
)

// Ask says that a node is to be drained.
type Ask struct {
	// Reason says why, in a few words.
	Reason string
	// Since is when it began, as exactly as the object tells. Zero is unknown.
	Since time.Time
	// Outside says that the node has no share of the load at all: it does not count
	// among the nodes of the cluster, and its drain is never put off.
	Outside bool
}

// Signal says whether something about a node asks for it to be drained, and how an
// API server finds the nodes of which that may be true.
type Signal struct {
	// Ask must be a pure function of the node, which it must not change. Under a
	// [Watcher] the lists of images and volumes in the node's status are empty.
	Ask func(node *corev1.Node) (Ask, bool)
	// Fields and Labels are a field selector and a label selector. A [Watcher] sees
	// of other nodes those that are selected by one of its signals, and there it heeds
	// all signals. With neither, the signal selects none.
	Fields, Labels string
}

// DefaultSignals returns Cordoned, Deleted, Annotated(a), Excluded, and Tainted with
// the taints by which autoscalers announce that they remove a node.
func DefaultSignals(a nodeselect.Annotations) []Signal {
	return []Signal{
		Cordoned(),
		Deleted(),
		Annotated(a),
		Excluded(),
		Tainted(nodeselect.TaintClusterAutoscaler, nodeselect.TaintKarpenter),
	}
}

// Cordoned drains a node that kubectl cordon or drain has marked.
func Cordoned() Signal {
	return Signal{
		Fields: "spec.unschedulable=true",
		Ask: func(node *corev1.Node) (Ask, bool) {
			if !node.Spec.Unschedulable {
				return Ask{}, false
			}
			since := owned(node, "f:spec", "f:unschedulable")
			// The node controller adds this taint within a second or so, and it stays
			// as it is, whatever else the one who cordoned changes later.
			for _, t := range node.Spec.Taints {
				if t.Key == corev1.TaintNodeUnschedulable && t.TimeAdded != nil {
					since = earliest(since, t.TimeAdded.Time)
				}
			}
			return Ask{Reason: "cordoned", Since: since}, true
		},
	}
}

// Deleted drains a node that is being deleted.
func Deleted() Signal {
	return Signal{Ask: func(node *corev1.Node) (Ask, bool) {
		if node.DeletionTimestamp == nil {
			return Ask{}, false
		}
		return Ask{Reason: "being deleted", Since: node.DeletionTimestamp.Time}, true
	}}
}

// Annotated drains a node whose drain annotation is true. A value that reads as
// neither true nor false drains nothing; Rules.State reports it.
func Annotated(a nodeselect.Annotations) Signal {
	return Signal{Ask: func(node *corev1.Node) (Ask, bool) {
		if drain, err := a.Drain(node); !drain || err != nil {
			return Ask{}, false
		}
		name := cmp.Or(a.Prefix, nodeselect.DefaultPrefix) + "/drain"
		return Ask{Reason: "annotated", Since: owned(node, "f:metadata", "f:annotations", "f:"+name)}, true
	}}
}

// Labelled drains a node that has the label, unless its value reads as false.
func Labelled(key string) Signal {
	return Signal{Labels: key, Ask: func(node *corev1.Node) (Ask, bool) {
		value, ok := node.Labels[key]
		if !ok {
			return Ask{}, false
		}
		if set, err := strconv.ParseBool(value); err == nil && !set {
			return Ask{}, false
		}
		return Ask{
			Reason: fmt.Sprintf("label %s=%q", key, value),
			Since:  owned(node, "f:metadata", "f:labels", "f:"+key),
		}, true
	}}
}

// Excluded is Labelled with nodeselect.ExcludeLabel, for nodes that are Outside: the
// control planes of kubeadm have that label.
func Excluded() Signal {
	s := Labelled(nodeselect.ExcludeLabel)
	labelled := s.Ask
	s.Ask = func(node *corev1.Node) (Ask, bool) {
		ask, ok := labelled(node)
		ask.Outside = ok
		return ask, ok
	}
	return s
}

// Tainted drains a node that has a taint with one of the keys, whatever its value
// and effect.
func Tainted(keys ...string) Signal {
	return Signal{Ask: func(node *corev1.Node) (Ask, bool) {
		for _, t := range node.Spec.Taints {
			if !slices.Contains(keys, t.Key) {
				continue
			}
			ask := Ask{Reason: "taint " + t.Key}
			if t.TimeAdded != nil {
				ask.Since = t.TimeAdded.Time
			} else {
				ask.Since = owned(node, "f:spec", "f:taints")
			}
			return ask, true
		}
		return Ask{}, false
	}}
}

// combine returns one Ask for all that ask for the same node.
func combine(asks []Ask) (Ask, bool) {
	var all Ask
	reasons := make([]string, 0, len(asks))
	for _, a := range asks {
		reasons = append(reasons, a.Reason)
		all.Since = earliest(all.Since, a.Since)
		all.Outside = all.Outside || a.Outside
	}
	all.Reason = strings.Join(reasons, ", ")
	return all, len(asks) > 0
}

// askOf returns what all signals say of a node.
func askOf(node *corev1.Node, signals []Signal) []Ask {
	var asks []Ask
	for _, s := range signals {
		if ask, ok := s.Ask(node); ok {
			asks = append(asks, ask)
		}
	}
	return asks
}
