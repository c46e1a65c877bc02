package nodeselect

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Ref names a port of a service in a cluster.
type Ref struct {
	Namespace, Service string
	// Port is the name or the number of a port of the service. The number is not the node port.
	// Port may be empty if the service has only one port.
	Port string
}

// String returns "namespace/service:port".
func (r Ref) String() string { return r.Namespace + "/" + r.Service + ":" + r.Port }

// Key returns "namespace/service", the key for Pool.Pick. The key does not contain the port, so all
// ports of a service share one subset, and the balancer needs to check a node only once for all of
// them.
func (r Ref) Key() string { return r.Namespace + "/" + r.Service }

// Target says where the traffic for a Ref goes: to one port of several nodes.
type Target struct {
	Ref
	NodePort  uint16 // 0 if the ref could not be resolved
	AgentPort uint16 // port of the service's agent check on every node; 0 means no agent check
	// AppProtocol is the field appProtocol of the service port, or empty if the port has no
	// appProtocol.
	AppProtocol string
	// WeightPercent is the weight of the service in percent, from the annotation of the Service;
	// see Annotations.WeightPercent.
	WeightPercent int
	Nodes         []Node // sorted by name; Annotations.Resolve leaves them empty
}

// Resolve returns the node port, agent port and weight for ref. If ref cannot be resolved,
// Target.NodePort is 0, and the problems state the reason. An invalid agent port only causes a
// warning and becomes 0; an invalid weight becomes DefaultWeightPercent.
func (a Annotations) Resolve(objects Objects, ref Ref) (Target, []Problem) {
	svc := objects.Service(ref.Namespace, ref.Service)
	target, problems := a.resolve(svc, ref)
	if target.NodePort != 0 && isLocal(svc) && objects.ReadyNodes == nil {
		problems = append([]Problem{podsUnknown(svc)}, problems...)
	}
	return target, problems
}

// resolve returns the node port, agent port and weight for ref, as Resolve does, but does not warn
// about externalTrafficPolicy Local. svc is nil if the service does not exist.
func (a Annotations) resolve(svc *corev1.Service, ref Ref) (Target, []Problem) {
	target := Target{Ref: ref, WeightPercent: DefaultWeightPercent}
	if svc == nil {
		return target, []Problem{{Object: "Service " + ref.Key(), Message: "there is no such service"}}
	}
	port, problem := portOf(svc, ref.Port)
	if port == nil {
		return target, []Problem{problem}
	}
	target.NodePort = uint16(port.NodePort)
	if port.AppProtocol != nil {
		target.AppProtocol = *port.AppProtocol
	}

	var problems []Problem
	if svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		problems = append(problems, Problem{
			Object: serviceObject(svc), Field: "spec.sessionAffinity", Warning: true,
			Message: "ClientIP: kube-proxy sees the balancer as the client, so each node sends all requests of a balancer to one pod, and most pods may get none",
		})
	}
	var err error
	if target.AgentPort, err = a.AgentPort(svc); err != nil {
		problems = append(problems, asWarning(err, "; no agent is asked"))
	}
	if target.WeightPercent, err = a.WeightPercent(svc); err != nil {
		problems = append(problems, asWarning(err, "; "+strconv.Itoa(DefaultWeightPercent)+" is used"))
	}
	return target, problems
}

func isLocal(svc *corev1.Service) bool {
	return svc != nil && svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// pickFor picks the nodes of a service. If the service has one IP family, the nodes have addresses
// of this family. The argument "ready" is Objects.ReadyNodes.
func (p *Pool) pickFor(svc *corev1.Service, key string, current []Node, ready map[string][]string) subset {
	family := familyOf(svc)
	pool := p.withFamily(family)
	if len(pool.members) == 0 && len(p.members) > 0 {
		return subset{otherFamily: true, warning: Problem{
			Object: serviceObject(svc), Field: "spec.ipFamilies",
			Message: fmt.Sprintf("no node that can be used has an %v address, and the service has no other family", family),
		}}
	}
	s := pool.pickByPods(svc, key, current, ready)
	s.otherFamily = pool != p
	return s
}

// pickByPods picks the nodes of a service, whatever its IP families are. With externalTrafficPolicy
// Local, it picks only the nodes with a ready pod in "ready"; if none of them is in p, it picks
// from all nodes of p, with a warning.
func (p *Pool) pickByPods(svc *corev1.Service, key string, current []Node, ready map[string][]string) subset {
	if !isLocal(svc) {
		return subset{nodes: p.Pick(key, current)}
	}
	if ready == nil {
		return subset{nodes: p.Pick(key, current), warning: podsUnknown(svc)}
	}
	if some := p.among(ready[key]); some != nil {
		s := subset{restricted: true}
		if n := len(some.members); p.allLocal {
			some.size = max(some.size, n)
		} else if n > some.size {
			s.warning = localProblem(svc, fmt.Sprintf("Local: %d nodes have a ready pod, and %d of them get traffic: the pods on the others get none", n, some.size))
		}
		s.nodes = some.Pick(key, current)
		if p.weights {
			s.nodes = weighByPods(s.nodes, current, ready[key])
		}
		return s
	}
	return subset{nodes: p.Pick(key, current), warning: noPods(svc)}
}

func podsUnknown(svc *corev1.Service) Problem {
	return localProblem(svc, "Local: a node without a ready pod of the service drops its traffic, and nodes are chosen without regard to pods; use Cluster, or health checks on the node port itself")
}

func noPods(svc *corev1.Service) Problem {
	return localProblem(svc, "Local: no node that can be used has a ready pod of the service, so nodes are chosen without regard to pods")
}

func localProblem(svc *corev1.Service, message string) Problem {
	return Problem{Object: serviceObject(svc), Field: "spec.externalTrafficPolicy", Message: message, Warning: true}
}

// asWarning converts an error from a method of Annotations to a warning. It appends a description
// of the consequence to the message.
func asWarning(err error, consequence string) Problem {
	p := err.(Problem)
	p.Message += consequence
	p.Warning = true
	return p
}

// portOf returns the TCP port of a service with a given name or number. The result has a valid node
// port. If the service has no such port, portOf returns nil and a problem.
func portOf(svc *corev1.Service, port string) (*corev1.ServicePort, Problem) {
	problem := func(field, format string, args ...any) (*corev1.ServicePort, Problem) {
		return nil, Problem{Object: serviceObject(svc), Field: field, Message: fmt.Sprintf(format, args...)}
	}
	if !hasNodePorts(svc) {
		return problem("spec.type", "%s has no node ports; want NodePort or LoadBalancer", cmp.Or(svc.Spec.Type, corev1.ServiceTypeClusterIP))
	}
	number, err := strconv.ParseUint(port, 10, 16)
	isNumber := err == nil
	var found, otherProtocol *corev1.ServicePort
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		switch {
		case port == "" && len(svc.Spec.Ports) != 1:
			continue
		case port == "", p.Name == port, isNumber && int32(number) == p.Port:
		default:
			continue
		}
		if p.Protocol != "" && p.Protocol != corev1.ProtocolTCP {
			otherProtocol = p
			continue
		}
		if found == nil {
			found = p
		}
	}
	switch {
	case found == nil && otherProtocol != nil:
		return problem("spec.ports", "port %s is %s; only TCP is routed", portName(otherProtocol), otherProtocol.Protocol)
	case found == nil && port == "":
		return problem("spec.ports", "no port is named, and the service does not have exactly one; it has %s", portNames(svc))
	case found == nil:
		return problem("spec.ports", "no port %q; the service has %s", port, portNames(svc))
	case found.NodePort == 0:
		return problem("spec.ports.nodePort", "port %s has no node port", portName(found))
	case found.NodePort < 0 || found.NodePort > 65535:
		return problem("spec.ports.nodePort", "port %s: %d is no port", portName(found), found.NodePort)
	}
	return found, Problem{}
}

func hasNodePorts(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeNodePort || svc.Spec.Type == corev1.ServiceTypeLoadBalancer
}

func portName(p *corev1.ServicePort) string {
	number := strconv.Itoa(int(p.Port))
	if p.Name == "" {
		return number
	}
	return p.Name + " (" + number + ")"
}

func portNames(svc *corev1.Service) string {
	if len(svc.Spec.Ports) == 0 {
		return "none"
	}
	names := make([]string, len(svc.Spec.Ports))
	for i := range svc.Spec.Ports {
		names[i] = portName(&svc.Spec.Ports[i])
	}
	return strings.Join(names, ", ")
}
