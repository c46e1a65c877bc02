package nodeselect

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// stripNode keeps of a node what Parse gives, but for what changes with every
// heartbeat and says nothing. Most of a node is images and managed fields.
func stripNode(n *corev1.Node) (*corev1.Node, bool) {
	kept := &corev1.Node{ObjectMeta: stripMeta(&n.ObjectMeta), Spec: n.Spec}
	kept.Labels = n.Labels
	kept.Annotations = n.Annotations
	delete(kept.Annotations, corev1.LastAppliedConfigAnnotation)
	kept.Status.Addresses = n.Status.Addresses
	kept.Status.Conditions = make([]corev1.NodeCondition, len(n.Status.Conditions))
	for i, c := range n.Status.Conditions {
		kept.Status.Conditions[i] = corev1.NodeCondition{
			Type: c.Type, Status: c.Status, Reason: c.Reason, LastTransitionTime: c.LastTransitionTime,
		}
	}
	return kept, true
}

// stripService keeps of a service what this package reads. Those without node ports
// are kept too, as little more than their names and types: whoever declares one is to
// be told what is wrong with it, not that it is missing. An API server could select by
// spec.type, but services change too seldom for that to be worth a lesser message.
// prefix is that of the annotations.
func stripService(prefix string) func(*corev1.Service) (*corev1.Service, bool) {
	return func(s *corev1.Service) (*corev1.Service, bool) {
		kept := &corev1.Service{ObjectMeta: stripMeta(&s.ObjectMeta)}
		kept.Spec.Type = s.Spec.Type
		if !hasNodePorts(s) {
			return kept, true
		}
		for name, value := range s.Annotations {
			if strings.HasPrefix(name, prefix) {
				set(&kept.Annotations, name, value)
			}
		}
		kept.Spec.ExternalTrafficPolicy = s.Spec.ExternalTrafficPolicy
		kept.Spec.HealthCheckNodePort = s.Spec.HealthCheckNodePort
		kept.Spec.Ports = make([]corev1.ServicePort, len(s.Spec.Ports))
		for i, p := range s.Spec.Ports {
			kept.Spec.Ports[i] = corev1.ServicePort{Name: p.Name, Protocol: p.Protocol, Port: p.Port, NodePort: p.NodePort}
		}
		return kept, true
	}
}

func stripMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID,
		CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp,
	}
}
