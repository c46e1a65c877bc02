package nodeselect

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Verdict is what a predicate thinks of a node. A larger one is more
// restrictive.
type Verdict uint8

const (
	// Eligible nodes are picked.
	Eligible Verdict = iota
	// Avoid: not picked anew. A node that is in the current subset of a service
	// keeps its place there, and if there are fewer eligible nodes than a subset
	// has places, avoided nodes take the places that are left.
	Avoid
	// Excluded nodes are picked only if there is no node of the other verdicts
	// at all: a signal must never empty a subset.
	Excluded
	// Unusable nodes are never picked: there is no address to send to, or
	// another node has the same identity. No predicate should give it.
	Unusable
)

var verdictNames = [...]string{"eligible", "avoid", "excluded", "unusable"}

// String gives the name in lower case.
func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return "Verdict(" + strconv.Itoa(int(v)) + ")"
}

// MarshalText gives the name in lower case, for reports.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads what MarshalText gives.
func (v *Verdict) UnmarshalText(text []byte) error {
	for i, name := range verdictNames {
		if string(text) == name {
			*v = Verdict(i)
			return nil
		}
	}
	return fmt.Errorf("nodeselect: no verdict has the name %q", text)
}

// Predicate judges a node at a time, and says why in a few words unless the node
// is Eligible. It must be a pure function of its arguments, which it must not
// change.
type Predicate func(node *corev1.Node, now time.Time) (Verdict, string)

// DefaultGrace is for how long DefaultPredicates lets a node be not ready. It is
// the time after which Kubernetes evicts the pods of such a node. The balancer's
// own checks take a dead node out of use within seconds; leaving the subset is
// for those that do not come back.
const DefaultGrace = 5 * time.Minute

// ExcludeLabel is the label by which Kubernetes keeps nodes, kubeadm's control
// planes among them, from external load balancers.
const ExcludeLabel = corev1.LabelNodeExcludeBalancers

// Taints with which autoscalers announce that they are about to remove a node.
const (
	TaintClusterAutoscaler = "ToBeDeletedByClusterAutoscaler"
	TaintKarpenter         = "karpenter.sh/disrupted"
)

// DefaultPredicates returns NotExcluded, NotDeleted, Ready(DefaultGrace) and
// WithoutTaints(TaintClusterAutoscaler, TaintKarpenter).
//
// NotCordoned is left out on purpose: see there.
func DefaultPredicates() []Predicate {
	return []Predicate{
		NotExcluded,
		NotDeleted,
		Ready(DefaultGrace),
		WithoutTaints(TaintClusterAutoscaler, TaintKarpenter),
	}
}

// NotExcluded excludes nodes with the label ExcludeLabel, unless its value reads
// as false. A value that does not read as a bool, the usual empty one too,
// excludes.
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

// NotDeleted excludes nodes that are being deleted.
func NotDeleted(node *corev1.Node, _ time.Time) (Verdict, string) {
	if node.DeletionTimestamp == nil {
		return Eligible, ""
	}
	return Excluded, "being deleted since " + node.DeletionTimestamp.UTC().Format(time.RFC3339)
}

// Ready avoids nodes that have not been ready for longer than grace. A node
// without the condition Ready is eligible: nothing is said of it. Nothing is ever
// dropped at once, since a lost control plane makes every node not ready while
// all of them go on serving.
func Ready(grace time.Duration) Predicate {
	return func(node *corev1.Node, now time.Time) (Verdict, string) {
		for i := range node.Status.Conditions {
			c := &node.Status.Conditions[i]
			if c.Type != corev1.NodeReady || c.Status == corev1.ConditionTrue {
				continue
			}
			since := c.LastTransitionTime.Time
			if now.Sub(since) <= grace {
				return Eligible, ""
			}
			reason := "not ready"
			if !since.IsZero() {
				reason += " since " + since.UTC().Format(time.RFC3339)
			}
			if c.Reason != "" {
				reason += " (" + c.Reason + ")"
			}
			return Avoid, reason
		}
		return Eligible, ""
	}
}

// WithoutTaints avoids nodes that have a taint with one of the keys, whatever
// its value and effect.
func WithoutTaints(keys ...string) Predicate {
	return func(node *corev1.Node, _ time.Time) (Verdict, string) {
		for _, t := range node.Spec.Taints {
			for _, key := range keys {
				if t.Key == key {
					return Avoid, "taint " + key
				}
			}
		}
		return Eligible, ""
	}
}

// NotCordoned avoids nodes that are cordoned. It is not among DefaultPredicates:
// a cordon says that no new pods shall start there, not that the pods which run
// there are gone, and whoever cordons a whole cluster for an upgrade would move
// every subset at once (Kubernetes' own load balancers stopped doing so after
// that had caused outages, kubernetes#65013). A node agent drains a cordoned node
// within seconds, and gives it back as fast.
func NotCordoned(node *corev1.Node, _ time.Time) (Verdict, string) {
	if node.Spec.Unschedulable {
		return Avoid, "cordoned"
	}
	return Eligible, ""
}

// judge gives the most restrictive verdict, and the reasons of all that are not
// Eligible, in the order of the predicates.
func judge(predicates []Predicate, node *corev1.Node, now time.Time) (Verdict, string) {
	worst, reasons := Eligible, ""
	for _, p := range predicates {
		v, reason := p(node, now)
		if v == Eligible {
			continue
		}
		worst = max(worst, v)
		if reasons != "" {
			reasons += ", "
		}
		reasons += reason
	}
	return worst, reasons
}
