package nodeselect

import (
	"slices"
	"strings"
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
// affected. An agent port that Annotations.AgentPorts gives to somebody else is
// left out, with a warning.
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
	lost := s.lostAgentPorts(objects)
	picked := make(Subsets, len(refs))
	for _, ref := range refs {
		target, problems := s.Annotations.Resolve(objects, ref)
		for _, p := range problems {
			report(p)
		}
		if target.NodePort == 0 {
			continue
		}
		key := ref.Key()
		if problem, ok := lost[key]; ok && target.AgentPort != 0 {
			report(asWarning(problem, ""))
			target.AgentPort = 0
		}
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

// lostAgentPorts gives, by Ref.Key, why services do not get the port they ask
// for.
func (s Selector) lostAgentPorts(objects Objects) map[string]Problem {
	_, problems := s.Annotations.AgentPorts(objects, s.Reserved...)
	lost := make(map[string]Problem, len(problems))
	for _, p := range problems {
		lost[strings.TrimPrefix(p.Object, "Service ")] = p
	}
	return lost
}
