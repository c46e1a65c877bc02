package nodeselect

import (
	"cmp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
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
