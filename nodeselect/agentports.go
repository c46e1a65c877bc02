package nodeselect

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// AgentPort is a port on which each node answers the agent checks of one Service.
type AgentPort struct {
	Port    uint16
	Service *corev1.Service
}

// AgentPorts returns the agent ports of the Services whose annotation requests one, sorted by
// number. It also returns a Problem for each Service that does not get the port that it requests;
// the Problem of the oldest Service is the first.
//
// If several Services request the same port, the oldest of them gets it. If they are equally old,
// the first by namespace and name gets it. So all node agents and the balancer agree without
// communication. A reserved port, or a node port of any Service, is never an agent port. AgentPorts
// ignores a Service without node ports.
func (a Annotations) AgentPorts(objects Objects, reserved ...uint16) ([]AgentPort, []Problem) {
	p := newAgentPorts(a, reserved)
	p.addAll(objects.Services)
	var ports []AgentPort
	for port, services := range p.claims {
		if owner := services[0]; p.problems[serviceKey(owner)] == (Problem{}) {
			ports = append(ports, AgentPort{Port: port, Service: owner})
		}
	}
	slices.SortFunc(ports, func(x, y AgentPort) int { return cmp.Compare(x.Port, y.Port) })

	var without []*corev1.Service
	for _, svc := range objects.Services {
		if _, found := p.problems[serviceKey(svc)]; found {
			without = append(without, svc)
		}
	}
	slices.SortFunc(without, compareAge)
	var problems []Problem
	for _, svc := range without {
		problems = append(problems, p.problems[serviceKey(svc)])
	}
	return ports, problems
}

// agentPorts assigns agent ports to services by the rules of Annotations.AgentPorts. When a service
// changes, agentPorts assigns again only the ports that this service names.
type agentPorts struct {
	annotations Annotations
	reserved    []uint16
	nodePorts   map[uint16][]*corev1.Service // services with this node port, oldest first
	claims      map[uint16][]*corev1.Service // services that request this agent port, oldest first
	problems    map[string]Problem           // why a service does not get the port that it requests, by Ref.Key
}

func newAgentPorts(annotations Annotations, reserved []uint16) *agentPorts {
	return &agentPorts{
		annotations: annotations, reserved: reserved,
		nodePorts: map[uint16][]*corev1.Service{}, claims: map[uint16][]*corev1.Service{},
		problems: map[string]Problem{},
	}
}

// addAll adds all services of a cluster to p, which must be empty.
func (p *agentPorts) addAll(services []*corev1.Service) {
	var ports []uint16
	for _, svc := range services {
		ports = p.edit(ports[:0], svc, insert)
	}
	for port := range p.claims {
		p.assign(port, func(string) {})
	}
}

// replace applies the change of one service. old is nil if the service is new, and svc is nil if it
// is deleted.
//
// replace calls the function "changed" with the Ref.Key of each service that gets or loses its
// agent port, or that has no agent port for another reason than before. These services may include
// services other than old and svc, because several services can request the same port.
func (p *agentPorts) replace(old, svc *corev1.Service, changed func(key string)) {
	var ports []uint16
	if old != nil {
		ports = p.edit(ports, old, remove)
		if _, found := p.problems[serviceKey(old)]; found {
			delete(p.problems, serviceKey(old))
			changed(serviceKey(old))
		}
	}
	if svc != nil {
		ports = p.edit(ports, svc, insert)
	}
	for _, port := range ports {
		p.assign(port, changed)
	}
}

// The method edit inserts a Service into lists, or removes it from them. There is a list of
// Services for each node port and for each requested agent port. The argument "edit" is the function
// "insert" or "remove"; the method calls it for the list of each port that svc names. It appends
// these ports to "ports", and the caller must then call "assign" for each port.
func (p *agentPorts) edit(ports []uint16, svc *corev1.Service, edit func([]*corev1.Service, *corev1.Service) []*corev1.Service) []uint16 {
	if !hasNodePorts(svc) {
		return ports
	}
	apply := func(lists map[uint16][]*corev1.Service, port uint16) {
		ports = append(ports, port)
		if list := edit(lists[port], svc); len(list) > 0 {
			lists[port] = list
		} else {
			delete(lists, port)
		}
	}
	nodePort := func(port int32) {
		if port > 0 && port <= 65535 {
			apply(p.nodePorts, uint16(port))
		}
	}
	for i := range svc.Spec.Ports {
		nodePort(svc.Spec.Ports[i].NodePort)
	}
	nodePort(svc.Spec.HealthCheckNodePort)
	port, err := p.annotations.AgentPort(svc)
	if err != nil {
		p.problems[serviceKey(svc)] = err.(Problem)
	} else if port != 0 {
		apply(p.claims, port)
	}
	return ports
}

// insert adds a service to the list of the services that name one port, sorted by age. A service
// that names the port twice is in the list once.
func insert(list []*corev1.Service, svc *corev1.Service) []*corev1.Service {
	i, found := slices.BinarySearchFunc(list, svc, compareAge)
	if found {
		return list
	}
	return slices.Insert(list, i, svc)
}

// remove removes a service from a list that is sorted by age.
func remove(list []*corev1.Service, svc *corev1.Service) []*corev1.Service {
	if i, found := slices.BinarySearchFunc(list, svc, compareAge); found {
		return slices.Delete(list, i, i+1)
	}
	return list
}

// compareAge orders services by age, oldest first.
func compareAge(a, b *corev1.Service) int {
	return cmp.Or(
		a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
		strings.Compare(a.Namespace, b.Namespace),
		strings.Compare(a.Name, b.Name),
	)
}

// assign decides which of the services that request an agent port gets this port. If the port is
// reserved or is a node port, no service gets it. assign records a problem for each service that
// requests the port and does not get it. assign calls "changed" for each service whose result
// changes.
func (p *agentPorts) assign(port uint16, changed func(key string)) {
	taken := ""
	if users := p.nodePorts[port]; len(users) > 0 {
		svc := users[len(users)-1]
		taken = "it is a node port of " + serviceObject(svc)
		if svc.Spec.HealthCheckNodePort == int32(port) {
			taken = "it is the health check node port of " + serviceObject(svc)
		}
	} else if slices.Contains(p.reserved, port) {
		taken = "it is reserved"
	}
	for _, svc := range p.claims[port] {
		key := serviceKey(svc)
		before, refused := p.problems[key]
		if taken == "" {
			taken = "it is the agent port of " + serviceObject(svc)
			if refused {
				delete(p.problems, key)
				changed(key)
			}
			continue
		}
		problem := annotationProblem(serviceObject(svc), p.annotations.name("agent-port"), fmt.Sprint(port), "the service has no agent, because "+taken)
		if problem != before {
			p.problems[key] = problem
			changed(key)
		}
	}
}

// nodePortProblems returns a warning for each node port that collides with a port of the agents or
// of Kubernetes. The warnings are sorted by service.
func (p *agentPorts) nodePortProblems() (problems []Problem) {
	for _, ports := range [...][]uint16{p.reserved, portsOfKubernetes} {
		for _, port := range ports {
			for _, svc := range p.nodePorts[port] {
				problems = append(problems, p.conflicts(svc)...)
			}
		}
	}
	slices.SortFunc(problems, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.Object, b.Object), strings.Compare(a.Field, b.Field), strings.Compare(a.Message, b.Message))
	})
	return slices.Compact(problems)
}

// conflicts returns a warning for each TCP node port of a service that is also a port of the agents
// or of Kubernetes. kube-proxy redirects connections to such a port before they reach the agent.
func (p *agentPorts) conflicts(svc *corev1.Service) (problems []Problem) {
	if svc == nil || !hasNodePorts(svc) {
		return nil
	}
	check := func(field string, port int32) {
		owner := ""
		switch {
		case port <= 0 || port > 65535:
			return
		case slices.Contains(p.reserved, uint16(port)):
			owner = "the agents: HAProxy's checks of every service reach this service instead"
		case slices.Contains(portsOfKubernetes, uint16(port)):
			owner = "Kubernetes itself: its connections reach this service instead"
		default:
			return
		}
		problems = append(problems, Problem{
			Object: serviceObject(svc), Field: field, Warning: true,
			Message: fmt.Sprintf("%d is on every node the port of %s", port, owner),
		})
	}
	for i := range svc.Spec.Ports {
		if port := &svc.Spec.Ports[i]; port.Protocol == "" || port.Protocol == corev1.ProtocolTCP {
			check("spec.ports.nodePort", port.NodePort)
		}
	}
	check("spec.healthCheckNodePort", svc.Spec.HealthCheckNodePort)
	return problems
}
