package nodeselect

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Objects are the objects of one cluster, in slices that NewObjects sorts. The functions of this
// package change neither the slices nor the objects.
type Objects struct {
	Nodes    []*corev1.Node    // by name
	Services []*corev1.Service // by namespace, then name
	// ReadyNodes has, for each service with externalTrafficPolicy Local, the sorted names of the
	// nodes with a ready pod. Select picks only these nodes. A key is the Ref.Key of the service.
	// nil means unknown.
	//
	// For Selector.LocalWeights, a list must contain the name of a node once for each ready pod on
	// it. live.ReadyNodes computes the map for objects from manifests.
	ReadyNodes map[string][]string
	// Ignored is the number of objects of other kinds in the manifests.
	Ignored int
}

// NewObjects returns Objects with sorted copies of the slices. The objects are not copied.
func NewObjects(nodes []*corev1.Node, services []*corev1.Service) Objects {
	o := Objects{Nodes: slices.Clone(nodes), Services: slices.Clone(services)}
	slices.SortStableFunc(o.Nodes, func(a, b *corev1.Node) int { return strings.Compare(a.Name, b.Name) })
	slices.SortStableFunc(o.Services, func(a, b *corev1.Service) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return o
}

// Node returns the node with that name, or nil.
func (o Objects) Node(name string) *corev1.Node {
	i, ok := slices.BinarySearchFunc(o.Nodes, name, compareNode)
	if !ok {
		return nil
	}
	return o.Nodes[i]
}

// Service returns the service with that namespace and name, or nil.
func (o Objects) Service(namespace, name string) *corev1.Service {
	i, ok := slices.BinarySearchFunc(o.Services, name, func(s *corev1.Service, name string) int {
		return cmp.Or(strings.Compare(s.Namespace, namespace), strings.Compare(s.Name, name))
	})
	if !ok {
		return nil
	}
	return o.Services[i]
}

// serviceOf returns the service with this Ref.Key, or nil.
func (o Objects) serviceOf(key string) *corev1.Service {
	namespace, name, _ := strings.Cut(key, "/")
	return o.Service(namespace, name)
}

func nodeObject(n *corev1.Node) string { return "Node " + n.Name }

func serviceObject(s *corev1.Service) string { return "Service " + s.Namespace + "/" + s.Name }

func serviceKey(s *corev1.Service) string { return s.Namespace + "/" + s.Name }

// Problem is a mistake in an object, with its place in the manifests. Problems are errors, and can
// be compared with ==.
type Problem struct {
	// File is the path of the file, or the name that the caller has passed to manifest.Parse. It is
	// empty if the problem was found after parsing.
	File string
	// Line is the number of the line with the mistake, from 1. If the parser does not know that
	// line, Line is the first line of the object or document. 0 means unknown.
	Line int
	// Object names the object with the mistake, such as "Node a" or "Service media/tracks". It is
	// empty if the name of the object could not be read.
	Object string
	// Field is the path of the field with the mistake, such as "spec.ports.nodePort". It is empty
	// if unknown.
	Field string
	// Message describes the mistake in one line.
	Message string
	// Warning is true if the object is used in spite of the problem. The message of a warning
	// describes the consequence.
	Warning bool
}

// Error returns "file:line: object: field: message" with the parts that are known.
func (p Problem) Error() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			b.WriteByte(':')
			b.WriteString(strconv.Itoa(p.Line))
		}
		b.WriteString(": ")
	} else if p.Line > 0 {
		b.WriteString("line ")
		b.WriteString(strconv.Itoa(p.Line))
		b.WriteString(": ")
	}
	for _, part := range []string{p.Object, p.Field} {
		if part != "" {
			b.WriteString(part)
			b.WriteString(": ")
		}
	}
	b.WriteString(p.Message)
	return b.String()
}

// TrimNode returns a node with only the fields that this package reads, for a cache. It shares
// memory with n. TrimNode leaves out images and managed fields, because they are most of a node. It
// also leaves out the messages and heartbeat times of conditions, so that a heartbeat does not
// change the result.
func TrimNode(n *corev1.Node) *corev1.Node {
	trimmed := &corev1.Node{ObjectMeta: trimMeta(&n.ObjectMeta), Spec: n.Spec}
	trimmed.Labels = n.Labels
	trimmed.Annotations = n.Annotations
	if _, found := n.Annotations[corev1.LastAppliedConfigAnnotation]; found { // a copy of the whole node
		trimmed.Annotations = maps.Clone(n.Annotations)
		delete(trimmed.Annotations, corev1.LastAppliedConfigAnnotation)
	}
	trimmed.Status.Addresses = n.Status.Addresses
	trimmed.Status.Conditions = make([]corev1.NodeCondition, len(n.Status.Conditions))
	for i, c := range n.Status.Conditions {
		trimmed.Status.Conditions[i] = corev1.NodeCondition{
			Type: c.Type, Status: c.Status, Reason: c.Reason, LastTransitionTime: c.LastTransitionTime,
		}
	}
	return trimmed
}

// TrimService returns a service that has only the fields that this package reads, and only the
// annotations with the prefix of a. If the service has no node ports, the result has little more
// than its name and type. These are enough to explain why the service cannot be used.
func (a Annotations) TrimService(s *corev1.Service) *corev1.Service {
	trimmed := &corev1.Service{ObjectMeta: trimMeta(&s.ObjectMeta)}
	trimmed.Spec.Type = s.Spec.Type
	if !hasNodePorts(s) {
		return trimmed
	}
	prefix := a.name("")
	for name, value := range s.Annotations {
		if strings.HasPrefix(name, prefix) {
			if trimmed.Annotations == nil {
				trimmed.Annotations = map[string]string{}
			}
			trimmed.Annotations[name] = value
		}
	}
	trimmed.Spec.ExternalTrafficPolicy = s.Spec.ExternalTrafficPolicy
	trimmed.Spec.HealthCheckNodePort = s.Spec.HealthCheckNodePort
	trimmed.Spec.SessionAffinity = s.Spec.SessionAffinity
	trimmed.Spec.IPFamilies = s.Spec.IPFamilies
	trimmed.Spec.Ports = make([]corev1.ServicePort, len(s.Spec.Ports))
	for i, p := range s.Spec.Ports {
		trimmed.Spec.Ports[i] = corev1.ServicePort{Name: p.Name, Protocol: p.Protocol, Port: p.Port, NodePort: p.NodePort, AppProtocol: p.AppProtocol}
	}
	return trimmed
}

func trimMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID,
		CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp,
	}
}
