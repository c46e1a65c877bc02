package nodeselect

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Verdict is the result of a Predicate for a node. A greater Verdict is more restrictive.
type Verdict uint8

const (
	// Eligible means that a node may enter all subsets.
	Eligible Verdict = iota
	// Avoid means that a node stays in the subsets that contain it. It enters another subset only
	// if there are fewer Eligible nodes than the subset needs. The documentation calls such nodes
	// avoided.
	Avoid
	// Excluded means that a node is picked only if the cluster has no Eligible node and no avoided
	// node. So even a Predicate that excludes all nodes leaves no subset empty.
	Excluded
	// Unusable means that a node is never picked, because it has no usable address, or because
	// another node has the same identity. A Predicate should not return Unusable.
	Unusable
)

var verdictNames = [...]string{"eligible", "avoid", "excluded", "unusable"}

// String returns the name in lower case.
func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return "Verdict(" + strconv.Itoa(int(v)) + ")"
}

// MarshalText returns the name in lower case.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads the output of MarshalText.
func (v *Verdict) UnmarshalText(text []byte) error {
	for i, name := range verdictNames {
		if string(text) == name {
			*v = Verdict(i)
			return nil
		}
	}
	return fmt.Errorf("nodeselect: no verdict has the name %q", text)
}

// Predicate returns the verdict of a node at the time now. If the verdict is not Eligible, it also
// returns the reason in a few words. It must depend only on its arguments, and must not change the
// node.
type Predicate func(node *corev1.Node, now time.Time) (Verdict, string)

// DefaultGrace is how long a node may be not ready before DefaultPredicates return [Avoid] for it;
// Kubernetes evicts the pods of the node after the same time. Such a node stays in its subsets
// until somebody deletes the Node object, and enters no other subset while there are enough
// Eligible nodes. Health checks stop the traffic to a dead node within seconds.
const DefaultGrace = 5 * time.Minute

// ExcludeLabel is the Kubernetes label on nodes that external load balancers must not use. kubeadm
// sets it on control plane nodes.
const ExcludeLabel = corev1.LabelNodeExcludeBalancers

// NotExcluded excludes nodes that have the label ExcludeLabel with any value, even with the usual
// value "". There is one exception: a value that strconv.ParseBool reads as false does not exclude
// the node.
func NotExcluded(node *corev1.Node, _ time.Time) (Verdict, string) {
	value, ok := node.Labels[ExcludeLabel]
	if !ok {
		return Eligible, ""
	}
	if exclude, err := strconv.ParseBool(value); err == nil && !exclude {
		return Eligible, ""
	}
	return Excluded, fmt.Sprintf("label %s=%q", ExcludeLabel, value)
}

// NotDeleted excludes nodes with a deletion timestamp.
func NotDeleted(node *corev1.Node, _ time.Time) (Verdict, string) {
	if node.DeletionTimestamp == nil {
		return Eligible, ""
	}
	return Excluded, "being deleted since " + node.DeletionTimestamp.UTC().Format(time.RFC3339)
}

// NotCordoned avoids cordoned nodes. It is not one of DefaultPredicates, because the running pods
// of a cordoned node still serve, and the cordon of a whole cluster for an upgrade would change all
// subsets at once. Kubernetes once had this rule for load balancers, and removed it after outages
// (kubernetes#65013). A node agent, which drains a cordoned node within seconds, is a better way.
func NotCordoned(node *corev1.Node, _ time.Time) (Verdict, string) {
	if node.Spec.Unschedulable {
		return Avoid, "cordoned"
	}
	return Eligible, ""
}

// judge calls all predicates for a node. It returns the most restrictive verdict, and the reasons
// of all predicates whose verdict is not Eligible, joined by commas.
func judge(predicates []Predicate, node *corev1.Node, now time.Time) (Verdict, string) {
	verdict, reasons := Eligible, ""
	for _, p := range predicates {
		v, reason := p(node, now)
		if v == Eligible {
			continue
		}
		verdict = max(verdict, v)
		if reasons != "" {
			reasons += ", "
		}
		reasons += reason
	}
	return verdict, reasons
}
