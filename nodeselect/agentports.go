package nodeselect

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// AgentPort is an agent port and the Service that has it.
type AgentPort struct {
	Port    uint16
	Service *corev1.Service
}

// AgentPorts returns the agent port of every Service that has one, sorted by
// port. Services without node ports have none, whatever they ask for: nobody sends
// them traffic from elsewhere, and who watches a cluster need not know them. Every port is a single Service's: where several ask for the same one, the
// oldest has it, and of equally old ones the first by namespace and name, so that
// the agents of all nodes and the balancer agree without talking. A port that is
// reserved, or that is a node port of any Service, is nobody's. Each Service that
// goes without the port it asks for is a Problem.
func (a Annotations) AgentPorts(objects Objects, reserved ...uint16) ([]AgentPort, []Problem) {
	byAge := make([]*corev1.Service, 0, len(objects.Services))
	for _, svc := range objects.Services {
		if hasNodePorts(svc) {
			byAge = append(byAge, svc)
		}
	}
	slices.SortStableFunc(byAge, compareAge)
	taken := map[uint16]string{}
	for _, port := range reserved {
		taken[port] = "it is reserved"
	}
	take := func(port int32, why string) {
		if port > 0 && port <= 65535 {
			taken[uint16(port)] = why
		}
	}
	for _, svc := range byAge {
		for _, p := range svc.Spec.Ports {
			take(p.NodePort, "it is a node port of "+serviceObject(svc))
		}
		take(svc.Spec.HealthCheckNodePort, "it is the health check node port of "+serviceObject(svc))
	}

	var ports []AgentPort
	var problems []Problem
	for _, svc := range byAge {
		port, err := a.AgentPort(svc)
		switch {
		case err != nil:
			problems = append(problems, err.(Problem)) // the accessors of Annotations give no other
		case port == 0:
		case taken[port] != "":
			problems = append(problems, annotationProblem(serviceObject(svc), a.name("agent-port"), fmt.Sprint(port), "the service has no agent, because "+taken[port]))
		default:
			taken[port] = "it is the agent port of " + serviceObject(svc)
			ports = append(ports, AgentPort{Port: port, Service: svc})
		}
	}
	slices.SortFunc(ports, func(x, y AgentPort) int { return cmp.Compare(x.Port, y.Port) })
	return ports, problems
}
