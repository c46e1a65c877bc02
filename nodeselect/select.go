package nodeselect

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
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
// left out, with a warning. So is the preference for nodes with pods if there are
// none: see Objects.ReadyNodes.
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
	picked := make(map[string]subset, len(refs))
	for _, ref := range refs {
		svc := objects.Service(ref.Namespace, ref.Service)
		target, problems := s.Annotations.resolve(svc, ref)
		key := ref.Key()
		nodes, ok := picked[key]
		if !ok && target.NodePort != 0 {
			nodes = pool.pickFor(svc, key, current[key], objects.ReadyNodes)
			picked[key] = nodes
		}
		target, problems = finish(target, problems, nodes, lost[key])
		for _, p := range problems {
			report(p)
		}
		if target.NodePort != 0 {
			result.Targets = append(result.Targets, target)
		}
	}
	return result
}

// finish completes what was resolved with the subset of the service, and takes the
// agent port from it that lost says it does not have.
func finish(target Target, problems []Problem, s subset, lost Problem) (Target, []Problem) {
	if target.NodePort == 0 {
		return target, problems
	}
	if s.warning != (Problem{}) {
		problems = append([]Problem{s.warning}, problems...)
	}
	if lost != (Problem{}) && target.AgentPort != 0 {
		problems = append(problems, asWarning(lost, ""))
		target.AgentPort = 0
	}
	target.Nodes = s.nodes
	return target, problems
}

// subset is the nodes of a service.
type subset struct {
	nodes      []Node
	restricted bool    // to nodes with pods
	warning    Problem // none if it is zero
}

// pickFor is Pick with regard to where the pods of a service are, if that matters
// and is known.
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
