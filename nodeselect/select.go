package nodeselect

import (
	"fmt"
	"slices"
	"time"
)

// Subsets are the nodes of services by Ref.Key, each list sorted by name. They
// can be stored as JSON and given to Select as the current ones later.
type Subsets map[string][]Node

// Selection is the outcome for a cluster.
type Selection struct {
	// Targets are those refs that could be resolved, in the order given.
	Targets []Target
	// Findings give the reason for every node that is not Eligible, by name.
	Findings []Finding
	// Problems of refs and nodes, each said once.
	Problems []Problem
}

// Subsets returns the nodes of each service.
func (s Selection) Subsets() Subsets {
	subsets := make(Subsets, len(s.Targets))
	for i := range s.Targets {
		subsets[s.Targets[i].Key()] = s.Targets[i].Nodes
	}
	return subsets
}

// Select resolves refs and picks the nodes of each of their services. now is the
// time at which nodes are judged. current holds the subsets in use, nil if there
// are none: it decides only where Pool.Pick says so, and without nodes to Avoid
// and Selector.Sticky the result does not depend on it.
//
// A ref that cannot be resolved is a problem and has no target; nothing else is
// affected. An agent port that is a node port of another service is left out,
// with a warning.
func (s Selector) Select(objects Objects, refs []Ref, now time.Time, current Subsets) Selection {
	pool := s.Pool(objects.Nodes, now)
	result := Selection{
		Targets:  make([]Target, 0, len(refs)),
		Findings: pool.Findings(),
		Problems: slices.Clone(pool.Problems()),
	}
	said := make(map[Problem]bool)
	report := func(p Problem) {
		if !said[p] {
			said[p] = true
			result.Problems = append(result.Problems, p)
		}
	}
	owner := nodePortOwners(objects)
	picked := make(Subsets, len(refs))
	for _, ref := range refs {
		target, problems := s.Annotations.Resolve(objects, ref)
		for _, p := range problems {
			report(p)
		}
		if target.NodePort == 0 {
			continue
		}
		if svc, taken := owner[target.AgentPort]; taken && target.AgentPort != 0 {
			report(Problem{
				Object: "Service " + ref.Key(), Field: "metadata.annotations[" + s.Annotations.name("agent-port") + "]",
				Message: fmt.Sprintf("%d is a node port of service %s, which would answer instead of the agent; no agent is asked", target.AgentPort, svc),
				Warning: true,
			})
			target.AgentPort = 0
		}
		key := ref.Key()
		nodes, ok := picked[key]
		if !ok {
			nodes = pool.Pick(key, current[key])
			picked[key] = nodes
		}
		target.Nodes = nodes
		result.Targets = append(result.Targets, target)
	}
	return result
}

// nodePortOwners gives the service that has each node port.
func nodePortOwners(objects Objects) map[uint16]string {
	owner := make(map[uint16]string, len(objects.Services))
	for _, svc := range objects.Services {
		for i := range svc.Spec.Ports {
			if p := svc.Spec.Ports[i].NodePort; p > 0 && p <= 65535 {
				owner[uint16(p)] = svc.Namespace + "/" + svc.Name
			}
		}
		if p := svc.Spec.HealthCheckNodePort; p > 0 && p <= 65535 {
			owner[uint16(p)] = svc.Namespace + "/" + svc.Name
		}
	}
	return owner
}
