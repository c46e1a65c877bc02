package nodeagent

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/nodeselect"
)

// DrainRequest is a request to drain a node.
type DrainRequest struct {
	// Reason is a short text for the operator, such as "cordoned".
	Reason string
	// Since is the time of the request. Zero means that the time is unknown.
	Since time.Time
	// Uncounted means that the node has no share of the cluster's load, such as a control plane.
	// The node does not count towards Rules.MaxDrain, and its drain never waits.
	Uncounted bool
}

// Signal finds drain requests in Node objects.
type Signal struct {
	// Request returns the request that a node carries, and false if the node carries none. It must
	// be a pure function and must not change the node. A [Watcher] passes nodes whose lists of
	// images and volumes are empty.
	Request func(node *corev1.Node) (DrainRequest, bool)
	// Fields and Labels are a field selector and a label selector. A [Watcher] sees another node
	// only if one of its signals selects the node; then it applies all signals to the node. If both
	// are "", the signal selects no other nodes.
	Fields, Labels string
}

// DefaultSignals returns Cordoned, Deleted, Annotated(a), Excluded, and Tainted with the taints of
// autoscalers that are about to remove a node.
func DefaultSignals(a nodeselect.Annotations) []Signal {
	return []Signal{
		Cordoned(),
		Deleted(),
		Annotated(a),
		Excluded(),
		Tainted(nodeselect.TaintClusterAutoscaler, nodeselect.TaintKarpenter),
	}
}

// Cordoned drains a node after kubectl cordon or kubectl drain.
func Cordoned() Signal {
	return Signal{
		Fields: "spec.unschedulable=true",
		Request: func(node *corev1.Node) (DrainRequest, bool) {
			if !node.Spec.Unschedulable {
				return DrainRequest{}, false
			}
			since := managedSince(node, "f:spec", "f:unschedulable")
			// The node controller adds this taint about a second after the cordon. The time of the
			// taint stays the same if the manager of the cordon later writes other fields.
			for _, t := range node.Spec.Taints {
				if t.Key == corev1.TaintNodeUnschedulable && t.TimeAdded != nil {
					since = earliest(since, t.TimeAdded.Time)
				}
			}
			return DrainRequest{Reason: "cordoned", Since: since}, true
		},
	}
}

// Deleted drains a node that has a deletion timestamp.
func Deleted() Signal {
	return Signal{Request: func(node *corev1.Node) (DrainRequest, bool) {
		if node.DeletionTimestamp == nil {
			return DrainRequest{}, false
		}
		return DrainRequest{Reason: "being deleted", Since: node.DeletionTimestamp.Time}, true
	}}
}

// Annotated drains a node with the annotation headgate.dev/drain: "true", or with the prefix of a
// instead of headgate.dev. Any other value drains nothing. If the value is not a boolean,
// State.Problems names it.
func Annotated(a nodeselect.Annotations) Signal {
	return Signal{Request: func(node *corev1.Node) (DrainRequest, bool) {
		if drain, _ := a.Drain(node); !drain {
			return DrainRequest{}, false
		}
		name := cmp.Or(a.Prefix, nodeselect.DefaultPrefix) + "/drain"
		return DrainRequest{Reason: "annotated", Since: managedSince(node, "f:metadata", "f:annotations", "f:"+name)}, true
	}}
}

// Labelled drains a node with the label, unless strconv.ParseBool reads the label's value as false.
func Labelled(key string) Signal {
	return Signal{Labels: key, Request: func(node *corev1.Node) (DrainRequest, bool) {
		value, ok := node.Labels[key]
		if !ok {
			return DrainRequest{}, false
		}
		if set, err := strconv.ParseBool(value); err == nil && !set {
			return DrainRequest{}, false
		}
		return DrainRequest{
			Reason: fmt.Sprintf("label %s=%q", key, value),
			Since:  managedSince(node, "f:metadata", "f:labels", "f:"+key),
		}, true
	}}
}

// Excluded drains a node with the label nodeselect.ExcludeLabel, as Labelled does. Its requests are
// Uncounted, because kubeadm puts this label on control planes.
func Excluded() Signal {
	s := Labelled(nodeselect.ExcludeLabel)
	labelled := s.Request
	s.Request = func(node *corev1.Node) (DrainRequest, bool) {
		request, ok := labelled(node)
		request.Uncounted = ok
		return request, ok
	}
	return s
}

// Tainted drains a node that has a taint with one of the keys. The taint's value and effect do not
// matter.
func Tainted(keys ...string) Signal {
	return Signal{Request: func(node *corev1.Node) (DrainRequest, bool) {
		for _, t := range node.Spec.Taints {
			if !slices.Contains(keys, t.Key) {
				continue
			}
			request := DrainRequest{Reason: "taint " + t.Key}
			if t.TimeAdded != nil {
				request.Since = t.TimeAdded.Time
			} else {
				request.Since = managedSince(node, "f:spec", "f:taints")
			}
			return request, true
		}
		return DrainRequest{}, false
	}}
}

// requestsOf returns the requests that the signals find in a node.
func requestsOf(node *corev1.Node, signals []Signal) []DrainRequest {
	var requests []DrainRequest
	for _, s := range signals {
		if request, ok := s.Request(node); ok {
			requests = append(requests, request)
		}
	}
	return requests
}

// merge combines the requests for one node into one. It returns false if there are no requests.
func merge(requests []DrainRequest) (DrainRequest, bool) {
	var all DrainRequest
	reasons := make([]string, 0, len(requests))
	for _, r := range requests {
		reasons = append(reasons, r.Reason)
		all.Since = earliest(all.Since, r.Since)
		all.Uncounted = all.Uncounted || r.Uncounted
	}
	all.Reason = strings.Join(reasons, ", ")
	return all, len(requests) > 0
}

// managedSince returns the time of the earliest write by a manager of a field, from
// metadata.managedFields. The path uses the names of fieldsV1, such as "f:spec",
// "f:unschedulable". The result is zero if the field has no manager, as in objects that kubectl
// printed without managed fields.
//
// Kubernetes keeps one time for all fields of a manager. If the manager has written another field
// later, the result is later than the write of this field.
func managedSince(node *corev1.Node, path ...string) time.Time {
	var since time.Time
	last := []byte(path[len(path)-1])
	for i := range node.ManagedFields {
		m := &node.ManagedFields[i]
		if m.Time == nil || m.FieldsV1 == nil {
			continue
		}
		fields := m.FieldsV1.GetRawBytes()
		if bytes.Contains(fields, last) && containsField(fields, path) {
			since = earliest(since, m.Time.Time)
		}
	}
	return since
}

// containsField reports whether a fieldsV1 document has the field at the path.
func containsField(fields []byte, path []string) bool {
	var set map[string]json.RawMessage
	for _, key := range path {
		set = nil
		if json.Unmarshal(fields, &set) != nil {
			return false
		}
		var ok bool
		if fields, ok = set[key]; !ok {
			return false
		}
	}
	return true
}

// earliest returns the earlier of two times. Zero means unknown: the other time is then returned.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
