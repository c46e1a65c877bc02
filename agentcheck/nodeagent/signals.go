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
	// Since is the time of the request. The zero time means unknown.
	Since time.Time
	// Uncounted is true for a node that gets no traffic from load balancers, such as a node of the
	// control plane. The node does not count for Rules.MaxDrain, and its drain never waits for
	// other nodes.
	Uncounted bool
}

// Signal finds drain requests in Node objects.
type Signal struct {
	// Request returns the drain request that a node contains, or false. It must be a pure function
	// and must not change the node. A [Watcher] passes nodes whose lists of images and volumes are
	// empty.
	Request func(node *corev1.Node) (DrainRequest, bool)
	// Fields is a field selector, and Labels is a label selector. A [Watcher] watches its own node
	// and the nodes that both selectors select. A selector that is "" selects every node, but if
	// both are "", the Watcher watches no other node for this Signal.
	//
	// The Watcher passes each watched node to Request, even if it watches the node only because of
	// another Signal.
	Fields, Labels string
}

// DefaultSignals returns Cordoned, Deleted, Annotated(a), Excluded and Tainted. The keys for
// Tainted are nodeselect.RemovalTaints.
func DefaultSignals(a nodeselect.Annotations) []Signal {
	return []Signal{
		Cordoned(),
		Deleted(),
		Annotated(a),
		Excluded(),
		Tainted(nodeselect.RemovalTaints()...),
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
			// About a second after a cordon, the node controller adds the taint
			// node.kubernetes.io/unschedulable, which contains the time when it was added. The
			// managed fields also contain a time, but this time advances whenever the manager that
			// wrote the cordon writes another field. So use the earlier one of the two times.
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

// Annotated drains a node with the annotation headgate.dev/drain: "true"; the argument "a" can set
// another prefix. A node with any other value does not drain. If the value is not a boolean,
// State.Problems reports it.
func Annotated(a nodeselect.Annotations) Signal {
	return Signal{Request: func(node *corev1.Node) (DrainRequest, bool) {
		if drain, _ := a.Drain(node); !drain {
			return DrainRequest{}, false
		}
		name := cmp.Or(a.Prefix, nodeselect.DefaultPrefix) + "/drain"
		return DrainRequest{Reason: "annotated", Since: managedSince(node, "f:metadata", "f:annotations", "f:"+name)}, true
	}}
}

// Labelled drains a node that has a label with this key. There is one exception: the node does not
// drain if strconv.ParseBool reads the value of the label as false, such as "false" or "0".
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

// Excluded drains a node with the label nodeselect.ExcludeLabel, which kubeadm puts on control
// planes. A value such as "false" drains nothing. Load balancers send no traffic to these nodes, so
// each DrainRequest of this Signal is Uncounted.
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

// The function "merge" combines several requests for one node into one request, with all reasons
// and the earliest time. If one of the requests is Uncounted, the result is Uncounted. ok is false
// if there are no requests.
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

// managedSince returns the earliest time in metadata.managedFields at which a field of the node was
// written, or zero if metadata.managedFields does not contain the field. The path uses the names of
// fieldsV1, such as "f:spec", "f:unschedulable".
//
// The result can be too late: Kubernetes keeps only one time for all fields of a manager, and
// advances it when the manager writes another field.
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

// containsField reports whether a fieldsV1 document contains the field at this path.
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

// earliest returns the earlier of two times. A zero time means unknown. If one time is zero, the
// result is the other time.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
