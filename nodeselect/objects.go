package nodeselect

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Objects are the objects of one cluster. Parse, ReadDir and NewObjects sort
// them; the functions of this package rely on it and change none of them.
type Objects struct {
	Nodes    []*corev1.Node    // by name
	Services []*corev1.Service // by namespace, then name
	// ReadyNodes says for services whose externalTrafficPolicy is Local on which
	// nodes they have pods that are ready: names, sorted, by Ref.Key. Select gives
	// such a service those nodes alone. nil means that nothing is known of pods;
	// Parse and ReadDir leave it so.
	ReadyNodes map[string][]string
	// Ignored counts the objects of other kinds that were read and passed over.
	Ignored int
}

// NewObjects gives sorted Objects. It copies the slices, not the objects.
func NewObjects(nodes []*corev1.Node, services []*corev1.Service) Objects {
	o := Objects{Nodes: slices.Clone(nodes), Services: slices.Clone(services)}
	o.sort()
	return o
}

func (o *Objects) sort() {
	slices.SortStableFunc(o.Nodes, func(a, b *corev1.Node) int { return strings.Compare(a.Name, b.Name) })
	slices.SortStableFunc(o.Services, func(a, b *corev1.Service) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
}

// Node returns the node of that name, or nil.
func (o Objects) Node(name string) *corev1.Node {
	i, ok := slices.BinarySearchFunc(o.Nodes, name, func(n *corev1.Node, name string) int {
		return strings.Compare(n.Name, name)
	})
	if !ok {
		return nil
	}
	return o.Nodes[i]
}

// Service returns the service of that namespace and name, or nil.
func (o Objects) Service(namespace, name string) *corev1.Service {
	i, ok := slices.BinarySearchFunc(o.Services, name, func(s *corev1.Service, name string) int {
		return cmp.Or(strings.Compare(s.Namespace, namespace), strings.Compare(s.Name, name))
	})
	if !ok {
		return nil
	}
	return o.Services[i]
}

// TrimNode returns the parts of a node that this package reads. A cache of trimmed nodes is small,
// because most of a node is images and managed fields, and equal nodes are equal values: messages
// and heartbeat times of conditions are left out. The result shares memory with n.
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

// TrimService returns the parts of a service that this package reads, with the annotations that a
// names and no others. Of a service without node ports little more than name and type is left: just
// enough to say why it cannot be used.
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
	trimmed.Spec.Ports = make([]corev1.ServicePort, len(s.Spec.Ports))
	for i, p := range s.Spec.Ports {
		trimmed.Spec.Ports[i] = corev1.ServicePort{Name: p.Name, Protocol: p.Protocol, Port: p.Port, NodePort: p.NodePort}
	}
	return trimmed
}

func trimMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID,
		CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp,
	}
}
