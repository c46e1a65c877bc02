package nodeselect

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// NaiveSelect is the oracle for Select and Tracker: one loop over the refs, without state.
func (s Selector) NaiveSelect(objects Objects, refs []Ref, now time.Time, current Subsets) Selection {
	pool := s.Pool(objects.Nodes, now)
	result := Selection{
		Targets:  make([]Target, 0, len(refs)),
		Findings: pool.Findings(),
		Problems: slices.Clone(pool.Problems()),
	}
	seen := make(map[Problem]bool)
	report := func(p Problem) {
		if !seen[p] {
			seen[p] = true
			result.Problems = append(result.Problems, p)
		}
	}
	var conflicts []Problem
	for _, svc := range objects.Services {
		conflicts = append(conflicts, newAgentPorts(s.Annotations, s.Reserved).conflicts(svc)...)
	}
	slices.SortFunc(conflicts, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.Object, b.Object), strings.Compare(a.Field, b.Field), strings.Compare(a.Message, b.Message))
	})
	for _, p := range conflicts {
		report(p)
	}
	lost := s.naiveLostAgentPorts(objects)
	picked := make(map[string]subset, len(refs))
	for _, ref := range refs {
		svc := objects.Service(ref.Namespace, ref.Service)
		var r resolution
		r.target, r.problems = s.Annotations.resolve(svc, ref)
		key := ref.Key()
		nodes, ok := picked[key]
		if !ok && r.target.NodePort != 0 {
			nodes = pool.pickFor(svc, key, current[key], objects.ReadyNodes)
			picked[key] = nodes
		}
		r.complete(nodes, lost[key])
		for _, p := range r.problems {
			report(p)
		}
		if r.target.NodePort != 0 {
			result.Targets = append(result.Targets, r.target)
		}
	}
	return result
}

// naiveLostAgentPorts returns why services do not get the port they ask for, by Ref.Key.
func (s Selector) naiveLostAgentPorts(objects Objects) map[string]Problem {
	_, problems := s.Annotations.NaiveAgentPorts(objects, s.Reserved...)
	lost := make(map[string]Problem, len(problems))
	for _, p := range problems {
		lost[strings.TrimPrefix(p.Object, "Service ")] = p
	}
	return lost
}

// NaiveAgentPorts is the oracle for AgentPorts: one pass over all services, oldest first.
func (a Annotations) NaiveAgentPorts(objects Objects, reserved ...uint16) ([]AgentPort, []Problem) {
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
			problems = append(problems, err.(Problem))
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
