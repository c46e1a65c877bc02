package nodeselect

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Ref names a port of a service of one cluster.
type Ref struct {
	Namespace, Service string
	// Port is the port's name, or its number in the service (not the node port).
	// It may be empty if the service has one port.
	Port string
}

// String gives "namespace/service:port".
func (r Ref) String() string { return r.Namespace + "/" + r.Service + ":" + r.Port }

// Key gives "namespace/service", the key by which nodes are chosen. All ports of
// a service share their nodes: health and drain of a node are then checked once
// for all of them, and fewer nodes are checked in all.
func (r Ref) Key() string { return r.Namespace + "/" + r.Service }

// Target is where the traffic for a Ref goes.
type Target struct {
	Ref
	NodePort  uint16 // never 0 in a target that could be resolved
	AgentPort uint16 // port of the service's agent check on every node; 0: none
	// WeightPercent is 0 to MaxWeightPercent, DefaultWeightPercent if the service states none.
	WeightPercent int
	Nodes         []Node // by name; set by Selector.Select
}

// Resolve finds the node port, agent port and weight of ref. Target.NodePort is 0
// exactly if ref cannot be resolved; the problems then say why. An agent port or
// weight that cannot be read is left out (no agent, DefaultWeightPercent) with a
// warning: a slip of the pen in an annotation must not take the service away.
func (a Annotations) Resolve(objects Objects, ref Ref) (Target, []Problem) {
	svc := objects.Service(ref.Namespace, ref.Service)
	target, problems := a.resolve(svc, ref)
	if target.NodePort != 0 && isLocal(svc) && objects.ReadyNodes == nil {
		problems = append([]Problem{podsUnknown(svc)}, problems...)
	}
	return target, problems
}

// resolve is Resolve of a service that has been looked up, nil if there is none,
// without regard to where its pods are.
func (a Annotations) resolve(svc *corev1.Service, ref Ref) (Target, []Problem) {
	target := Target{Ref: ref, WeightPercent: DefaultWeightPercent}
	if svc == nil {
		return target, []Problem{{Object: "Service " + ref.Key(), Message: "there is no such service"}}
	}
	nodePort, problem := nodePortOf(svc, ref.Port)
	if nodePort == 0 {
		return target, []Problem{problem}
	}
	target.NodePort = nodePort

	var problems []Problem
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

// pickFor picks the nodes of a service. ready is Objects.ReadyNodes.
func (p *Pool) pickFor(svc *corev1.Service, key string, current []Node, ready map[string][]string) subset {
	if !isLocal(svc) {
		return subset{nodes: p.Pick(key, current)}
	}
	if ready == nil {
		return subset{nodes: p.Pick(key, current), warning: podsUnknown(svc)}
	}
	if some := p.among(ready[key]); some != nil {
		return subset{nodes: some.Pick(key, current), restricted: true}
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

// asWarning makes an accessor's error a warning that says what is done instead.
func asWarning(err error, instead string) Problem {
	p := err.(Problem) // the accessors of Annotations give no other
	p.Message += instead
	p.Warning = true
	return p
}

// nodePortOf gives the node port of a service's TCP port by name or number, or 0
// and the problem.
func nodePortOf(svc *corev1.Service, port string) (uint16, Problem) {
	problem := func(field, format string, args ...any) (uint16, Problem) {
		return 0, Problem{Object: serviceObject(svc), Field: field, Message: fmt.Sprintf(format, args...)}
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
	return uint16(found.NodePort), Problem{}
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
