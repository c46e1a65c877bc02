package kube

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/nodeselect"
)

// DefaultNodeAgentPort is the fixed port on which every node answers for itself.
const DefaultNodeAgentPort = 9707

// ErrNoNode means that the objects do not hold the node that is to be answered
// for. A node that was there before is gone now and should be drained; one that
// never was is more likely a wrong name.
var ErrNoNode = errors.New("agentcheck/kube: no such node")

// Rules say what the agent of one node answers.
type Rules struct {
	// Node is the name of the node.
	Node string
	// Port is the port on which to answer for the node. 0 means DefaultNodeAgentPort.
	Port uint16
	// Annotations reads those of nodes and Services.
	Annotations nodeselect.Annotations
	// Signals say when the node is drained: when any of them does. Nil means
	// DefaultSignals.
	Signals []Signal
	// Reserved are further ports that no Service may have, such as that of the
	// agent's own metrics.
	Reserved []uint16
}

// Answer is what to answer on one port.
type Answer struct {
	Port uint16
	// Service is "namespace/name", or "" for the node itself.
	Service string
	Reply   agentcheck.Reply
}

// State is all that the agent of one node answers at a moment.
type State struct {
	// Answers are sorted by port, and each port is named once. The node's own is
	// always among them.
	Answers []Answer
	// Problems are annotations that could not be followed. The Services that they
	// name have no Answer; all others do.
	Problems []nodeselect.Problem
}

// Node returns the answer for the node itself.
func (s State) Node() agentcheck.Reply {
	for _, a := range s.Answers {
		if a.Service == "" {
			return a.Reply
		}
	}
	return agentcheck.Reply{}
}

// State returns what the node's agent answers when its cluster is as the objects
// say. The error is ErrNoNode if they do not hold the node; the State that comes
// with it drains the node, for callers that know it was there before.
func (r Rules) State(objects nodeselect.Objects) (State, error) {
	var s State
	var err error
	own := agentcheck.Reply{State: agentcheck.Up, Admin: agentcheck.Drain, Reason: "node is gone"}
	if node := objects.Node(r.Node); node != nil {
		own = NodeReply(node, r.signals()...)
		s.check(r.Annotations.Drain(node))
	} else {
		err = fmt.Errorf("%w: %q", ErrNoNode, r.Node)
	}
	port := r.Port
	if port == 0 {
		port = DefaultNodeAgentPort
	}
	s.Answers = append(s.Answers, Answer{Port: port, Reply: own})

	ports, problems := r.Annotations.AgentPorts(objects, append([]uint16{port}, r.Reserved...)...)
	s.Problems = append(s.Problems, problems...)
	for _, p := range ports {
		reply, problems := ServiceReply(p.Service, r.Annotations)
		s.Problems = append(s.Problems, problems...)
		s.Answers = append(s.Answers, Answer{
			Port:    p.Port,
			Service: p.Service.Namespace + "/" + p.Service.Name,
			Reply:   reply.Worst(own),
		})
	}
	slices.SortFunc(s.Answers, func(a, b Answer) int { return int(a.Port) - int(b.Port) })
	return s, err
}

func (r Rules) signals() []Signal {
	if r.Signals == nil {
		return DefaultSignals(r.Annotations)
	}
	return r.Signals
}

// check takes an error of an annotation into the problems.
func (s *State) check(_ bool, err error) {
	var p nodeselect.Problem
	if errors.As(err, &p) {
		s.Problems = append(s.Problems, p)
	}
}

// NodeReply answers for a node: "up ready", or "up drain" with the reasons of all
// signals that ask for it. It sets no weight, so that it can be combined with the
// answer for a Service, whose weight may be above 100%.
func NodeReply(node *corev1.Node, signals ...Signal) agentcheck.Reply {
	var reasons []string
	for _, signal := range signals {
		if reason, drain := signal(node); drain {
			reasons = append(reasons, reason)
		}
	}
	if len(reasons) == 0 {
		return agentcheck.Reply{State: agentcheck.Up, Admin: agentcheck.Ready}
	}
	return agentcheck.Reply{State: agentcheck.Up, Admin: agentcheck.Drain, Reason: strings.Join(reasons, ", ")}
}

// ServiceReply answers for a Service on a node of which nothing is known: its
// weight, 100% unless annotated, and drain if that is annotated. An annotation that
// does not read counts as absent and is returned as a problem: a slip of the pen
// must not take a Service down.
func ServiceReply(service *corev1.Service, a nodeselect.Annotations) (agentcheck.Reply, []nodeselect.Problem) {
	var s State
	reply := agentcheck.Reply{State: agentcheck.Up, Admin: agentcheck.Ready, Weight: agentcheck.Percent(100)}
	weight, ok, err := a.Weight(service)
	s.check(ok, err)
	if ok && err == nil {
		reply.Weight = agentcheck.Percent(weight)
	}
	drain, err := a.Drain(service)
	s.check(drain, err)
	if drain && err == nil {
		reply.Admin, reply.Reason = agentcheck.Drain, "service is annotated"
	}
	return reply, s.Problems
}
