package nodeagent

import (
	"cmp"
	"errors"
	"time"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/nodeselect"
)

// Defaults of Rules.
const (
	// DefaultPort is the port on which every node answers for itself.
	DefaultPort = 9707
	// DefaultMaxDrain is 30% of the nodes.
	DefaultMaxDrain = 0.3
	// DefaultHoldDown is 10 s.
	DefaultHoldDown = 10 * time.Second
	// DefaultZeroWeightDelay is HAProxy's default agent-inter of 2 s plus a margin, because two
	// Services are never annotated at exactly the same moment.
	DefaultZeroWeightDelay = 2500 * time.Millisecond
)

// ErrNoNode means that the cluster does not have the node of Rules.Node. A node that existed before
// has been deleted and should be drained. For a node that never existed, the name is probably
// wrong.
var ErrNoNode = errors.New("agentcheck/nodeagent: no such node")

// Rules configure the answers of one node's agent.
type Rules struct {
	// Node is the name of the node.
	Node string
	// Port is the port that answers for the node. 0 means DefaultPort.
	Port uint16
	// Annotations reads the annotations of nodes and Services.
	Annotations nodeselect.Annotations
	// Signals find drain requests. One request is enough to drain the node. Nil means
	// DefaultSignals, an empty list means no signals. All agents of a cluster need the same
	// Signals, because each agent computes by itself which nodes may drain.
	Signals []Signal
	// MaxDrain is the share of the cluster's nodes that may drain at the same time, 1 for all.
	// Further nodes wait. The number of nodes is rounded down, but at least 1. If MaxDrain is below
	// 1, at least one node keeps its traffic, so the only node of a cluster never drains. 0 means
	// DefaultMaxDrain.
	MaxDrain float64
	// HoldDown is how long a node continues to drain after its last drain request ended. 0 means
	// DefaultHoldDown, a negative value means no hold-down.
	HoldDown time.Duration
	// ZeroWeightDelay is how long a Service keeps its last weight after its annotation fell to 0.
	// It should be longer than the agent-inter of every HAProxy; see the package documentation. 0
	// means DefaultZeroWeightDelay, a negative value means no delay.
	ZeroWeightDelay time.Duration
	// Reserved are more ports that no Service may use as its agent port, such as the port of the
	// agent's metrics.
	Reserved []uint16
}

func (r Rules) withDefaults() Rules {
	r.Port = cmp.Or(r.Port, DefaultPort)
	r.MaxDrain = cmp.Or(r.MaxDrain, DefaultMaxDrain)
	r.HoldDown = cmp.Or(r.HoldDown, DefaultHoldDown)
	r.ZeroWeightDelay = cmp.Or(r.ZeroWeightDelay, DefaultZeroWeightDelay)
	if r.Signals == nil {
		r.Signals = DefaultSignals(r.Annotations)
	}
	return r
}

// State returns the answers of a node's agent that sees its cluster for the first time. Nothing is
// held down or delayed yet. Use a [Tracker] to follow a cluster over time.
//
// The error is ErrNoNode if the objects do not include the node. The State then drains the node,
// for callers that have seen the node before.
func (r Rules) State(objects nodeselect.Objects) (State, error) {
	t := Tracker{Rules: r}
	return t.State(time.Time{}, objects)
}

// Answer is the answer on one port.
type Answer struct {
	Port uint16
	// Service is "namespace/name", or "" for the node itself.
	Service string
	Reply   agentcheck.Reply
}

// State is the set of answers of one node's agent at one moment, with the reasons.
type State struct {
	// Answers has one element for each port, sorted by port. One of them is the answer for the
	// node. Answers is nil only before a Watcher has seen the whole cluster.
	Answers []Answer
	// Problems are the annotations with an invalid value or an agent port that the Service cannot
	// have, and the problems of Watcher.Objects. A Service whose agent port is invalid has no
	// Answer.
	Problems []nodeselect.Problem
	// Drain describes the drain of the node and of its cluster.
	Drain DrainStatus
	// Err is set only by a Watcher, while its view of the cluster may be out of date.
	Err error
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

// DrainStatus describes the drain of one node, and the drains of its cluster as far as the node's
// agent sees them.
type DrainStatus struct {
	// Requested is true while there is a drain request for the node, Effective while the node
	// drains. If only Requested is true, the node waits for other nodes. If only Effective is true,
	// the node is held down: its requests have ended, and it drains until HeldUntil.
	Requested, Effective bool
	// Reason is the reason of the request, or of the last request of a node that is held down.
	Reason string
	// Since is the time of the request, rounded down to seconds. Zero means no request.
	Since time.Time
	// HeldUntil is the end of the hold-down, the time of Rules.HoldDown after the last request.
	// Zero means that the node is not held down.
	HeldUntil time.Time
	// Draining and Waiting are the numbers of nodes that drain and that wait to drain, including
	// this node, and without the nodes of an Uncounted request.
	Draining, Waiting int
	// Limit is how many of the cluster's Total nodes may drain at the same time.
	Limit, Total int
}
