package nodeagent

import (
	"cmp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/headgate/headgate/nodeselect"
)

// services are the Services of a cluster, in as little memory as will do: thousands
// of them have node ports, with which an agent port can clash, and few are annotated.
type services struct {
	annotated map[types.NamespacedName]*corev1.Service
	others    map[types.NamespacedName]nodePorts
}

type nodePorts struct {
	ports  []uint16
	health uint16 // health check node port
}

// stripService returns what State reads of a Service.
func stripService(a nodeselect.Annotations) func(*corev1.Service) (*corev1.Service, bool) {
	prefix := cmp.Or(a.Prefix, nodeselect.DefaultPrefix) + "/"
	return func(svc *corev1.Service) (*corev1.Service, bool) {
		kept := &corev1.Service{ObjectMeta: metav1.ObjectMeta{
			Namespace: svc.Namespace, Name: svc.Name, CreationTimestamp: svc.CreationTimestamp,
		}}
		for name, value := range svc.Annotations {
			if strings.HasPrefix(name, prefix) {
				if kept.Annotations == nil {
					kept.Annotations = map[string]string{}
				}
				kept.Annotations[name] = value
			}
		}
		kept.Spec.Type, kept.Spec.HealthCheckNodePort = svc.Spec.Type, svc.Spec.HealthCheckNodePort
		for i := range svc.Spec.Ports {
			if p := svc.Spec.Ports[i].NodePort; p != 0 {
				kept.Spec.Ports = append(kept.Spec.Ports, corev1.ServicePort{NodePort: p})
			}
		}
		return kept, true
	}
}

func (s *services) replace(list []*corev1.Service) {
	s.annotated = make(map[types.NamespacedName]*corev1.Service)
	s.others = make(map[types.NamespacedName]nodePorts, len(list))
	for _, svc := range list {
		s.set(svc)
	}
}

// set takes a Service that stripService has made.
func (s *services) set(svc *corev1.Service) {
	key := types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}
	s.delete(key)
	if len(svc.Annotations) > 0 {
		s.annotated[key] = svc
		return
	}
	n := nodePorts{health: uint16(svc.Spec.HealthCheckNodePort)}
	for _, p := range svc.Spec.Ports {
		n.ports = append(n.ports, uint16(p.NodePort))
	}
	if len(n.ports) > 0 || n.health != 0 {
		n.ports = slices.Clip(n.ports)
		s.others[key] = n
	}
}

func (s *services) delete(key types.NamespacedName) {
	delete(s.annotated, key)
	delete(s.others, key)
}

// objects returns the annotated Services, and of the others those of which a node port
// is an agent port too.
func (s *services) objects(a nodeselect.Annotations) nodeselect.Objects {
	list := make([]*corev1.Service, 0, len(s.annotated))
	wanted := map[uint16]bool{}
	for _, svc := range s.annotated {
		list = append(list, svc)
		if port, _ := a.AgentPort(svc); port != 0 {
			wanted[port] = true
		}
	}
	for key, n := range s.others {
		if !wanted[n.health] && !slices.ContainsFunc(n.ports, func(p uint16) bool { return wanted[p] }) {
			continue
		}
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
		svc.Spec.Type, svc.Spec.HealthCheckNodePort = corev1.ServiceTypeNodePort, int32(n.health)
		for _, p := range n.ports {
			svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{NodePort: int32(p)})
		}
		list = append(list, svc)
	}
	return nodeselect.NewObjects(nil, list)
}
