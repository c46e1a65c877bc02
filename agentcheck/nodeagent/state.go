package nodeagent

import (
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/nodeselect"
)

// DefaultNodeAgentPort is the fixed port on which every node answers for itself.
const DefaultNodeAgentPort = 9707

// Defaults of Rules.
const (
	DefaultMaxDrain = 0.3
	DefaultHoldDown = 10 * time.Second
	// DefaultZeroDelay is HAProxy's default agent-inter of 2 s, and something for what
	// is not quite the same moment.
	DefaultZeroDelay = 2500 * time.Millisecond
)

// ErrNoNode means that the objects do not hold the node that is to be answered
// for. A node that was there before is gone now and should be drained; one that
// never was is more likely a wrong name.
var ErrNoNode = errors.New("agentcheck/nodeagent: no such node")

// Rules say what the agent of one node answers.
type Rules struct {
	// Node is the name of the node.
	Node string
	// Port is the port on which to answer for the node. 0 means DefaultNodeAgentPort.
	Port uint16
	// Annotations reads those of nodes and Services.
	Annotations nodeselect.Annotations
	// Signals say when the node is drained: when any of them does. Nil means
	// DefaultSignals. All agents of a cluster must have the same, or they do not
	// agree on who may drain.
	Signals []Signal
	// MaxDrain is the share of the cluster's nodes that may drain at once; further
	// ones wait. Of a small cluster one node may in any case, and never all of them
	// may unless MaxDrain is 1 or more. 0 means DefaultMaxDrain.
	MaxDrain float64
	// HoldDown is for how long a node goes on draining when nothing asks for it any
	// more. 0 means DefaultHoldDown, less than 0 none.
	HoldDown time.Duration
	// ZeroDelay is for how long a Service whose weight falls to 0 keeps the weight that
	// was answered before. It should be more than the agent-inter of all HAProxies that
	// ask: see the package comment. 0 means DefaultZeroDelay, less than 0 none.
	ZeroDelay time.Duration
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

// State is all that the agent of one node answers at a moment, and why.
type State struct {
	// Answers are sorted by port, and each port is named once. The node's own is
	// always among them, but for the state of a Watcher that has none yet.
	Answers []Answer
	// Problems are annotations that could not be followed. The Services that they
	// name have no Answer; all others do.
	Problems []nodeselect.Problem
	// Drain is why the node drains or not.
	Drain Drain
	// Err is set by a Watcher alone.
	Err error
}

// Drain is how things stand with the drain of a node, and of its cluster as far as
// the node's agent sees it.
type Drain struct {
	// Wanted says that something asks for the node's drain, Effective that the node
	// drains. The one without the other: it waits for others, or it is held down.
	Wanted, Effective bool
	// Reason is what asks for it, or did when it is held down.
	Reason string
	// Since is since when it is asked for, to the second. Zero if it is not.
	Since time.Time
	// HeldUntil is when the hold-down ends, zero if there is none.
	HeldUntil time.Time
	// Draining and Waiting are the nodes that drain and that wait, this one too;
	// those that are Outside do not count.
	Draining, Waiting int
	// Limit is how many of Total nodes may drain at once.
	Limit, Total int
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

// State returns what the node's agent answers if it sees its cluster for the first
// time, and it is as the objects say: nothing is held. Use a [Tracker] to follow a
// cluster.
//
// The error is ErrNoNode if the objects do not hold the node; the State that comes
// with it drains the node, for callers that know it was there before.
func (r Rules) State(objects nodeselect.Objects) (State, error) {
	t := Tracker{Rules: r}
	return t.State(time.Time{}, objects)
}

func (r Rules) signals() []Signal {
	if r.Signals == nil {
		return DefaultSignals(r.Annotations)
	}
	return r.Signals
}

func (r Rules) port() uint16 {
	if r.Port == 0 {
		return DefaultNodeAgentPort
	}
	return r.Port
}

func (r Rules) maxDrain() float64 {
	if r.MaxDrain == 0 {
		return DefaultMaxDrain
	}
	return r.MaxDrain
}

func (r Rules) holdDown() time.Duration {
	if r.HoldDown == 0 {
		return DefaultHoldDown
	}
	return r.HoldDown
}

func (r Rules) zeroDelay() time.Duration {
	if r.ZeroDelay == 0 {
		return DefaultZeroDelay
	}
	return r.ZeroDelay
}

// addProblem adds the error of an annotation, if there is one, to the problems.
func (s *State) addProblem(err error) {
	var p nodeselect.Problem
	if errors.As(err, &p) {
		s.Problems = append(s.Problems, p)
	}
}

// NodeReply answers for a node of which alone something is known: "up ready", or "up
// drain" with the reasons of all signals that ask for it. It sets no weight, so that
// it can be combined with the answer for a Service, whose weight may be above 100%.
func NodeReply(node *corev1.Node, signals ...Signal) agentcheck.Reply {
	if ask, ok := combine(askOf(node, signals)); ok {
		return agentcheck.Reply{State: agentcheck.Up, Admin: agentcheck.Drain, Reason: ask.Reason}
	}
	return agentcheck.Reply{State: agentcheck.Up, Admin: agentcheck.Ready}
}

// ServiceReply answers for a Service on a node of which nothing is known: its
// weight, 100% unless annotated, and drain if that is annotated. An annotation that
// does not read counts as absent and is returned as a problem: a slip of the pen
// must not take a Service down.
func ServiceReply(service *corev1.Service, a nodeselect.Annotations) (agentcheck.Reply, []nodeselect.Problem) {
	var s State
	weight, err := a.WeightPercent(service)
	s.addProblem(err)
	reply := agentcheck.Reply{State: agentcheck.Up, Admin: agentcheck.Ready, Weight: agentcheck.Percent(weight)}
	drain, err := a.Drain(service)
	s.addProblem(err)
	if drain {
		reply.Admin, reply.Reason = agentcheck.Drain, "service is annotated"
	}
	return reply, s.Problems
}
