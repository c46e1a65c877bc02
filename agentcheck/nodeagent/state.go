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
	// DefaultPort is the port on which an agent answers for its node if Rules.Port is 0.
	DefaultPort = 9707
	// DefaultMaxDrain is 30% of the nodes.
	DefaultMaxDrain = 0.3
	// DefaultHoldDown is 10 s.
	DefaultHoldDown = 10 * time.Second
	// DefaultZeroWeightDelay is HAProxy's default agent-inter (2 s) plus a margin of 0.5 s. The
	// margin covers the time between two annotations: to move a Service to another cluster, an
	// operator annotates the weight 0 in one cluster, and a moment later a higher weight in the
	// other.
	DefaultZeroWeightDelay = 2500 * time.Millisecond
)

// ErrNoNode means that the cluster has no Node object with the name Rules.Node. If the node existed
// before, it was deleted and should be drained. Otherwise the name is probably wrong.
var ErrNoNode = errors.New("agentcheck/nodeagent: no such node")

// Rules are the settings by which an agent computes the answers for its node.
type Rules struct {
	// Node is the name of the node.
	Node string
	// Port is the port on which the agent answers for the node. 0 means DefaultPort.
	Port uint16
	// Annotations reads the annotations of nodes and Services.
	Annotations nodeselect.Annotations
	// Signals find drain requests in nodes; one request is enough to drain a node. nil means
	// DefaultSignals, an empty list means no signals. All agents of a cluster need the same
	// Signals.
	Signals []Signal
	// MaxDrain is the share of the cluster's nodes that may drain at the same time, rounded down,
	// but at least one node. 0 means DefaultMaxDrain, and 1 means all nodes. Below 1, one node
	// always keeps its traffic, so the only node of a cluster never drains.
	MaxDrain float64
	// HoldDown is how long a node continues to drain after the end of its last drain request. 0
	// means DefaultHoldDown, a negative value means that the drain ends immediately.
	HoldDown time.Duration
	// ZeroWeightDelay is how long a Service keeps its last weight after somebody annotates the
	// weight 0. It should be longer than the agent-inter of every HAProxy. 0 means
	// DefaultZeroWeightDelay, a negative value means no delay.
	ZeroWeightDelay time.Duration
	// Reserved are ports that no Service may use as its agent port, such as the port of the agent's
	// metrics. The port in the field Port is always reserved.
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

// State returns the answers of a node's agent that knows no earlier drain request and no earlier
// weight. So a Service with the weight 0 has the weight 0 without delay. To follow a cluster over
// time, use a [Tracker].
//
// If the objects do not include the node, the error is ErrNoNode, and the State drains the node.
func (r Rules) State(objects nodeselect.Objects) (State, error) {
	t := Tracker{Rules: r}
	return t.State(time.Time{}, objects)
}

// Answer is the answer on one port.
type Answer struct {
	Port uint16
	// Service is the service that the answer is about, as "namespace/name". "" means that the
	// answer is about the node itself.
	Service string
	Reply   agentcheck.Reply
}

// State is the set of answers of one node's agent at one moment, with the reasons.
type State struct {
	// Answers has one element for each port, sorted by port. Exactly one of them is the answer for
	// the node. nil means that a Watcher has not seen the whole cluster yet.
	Answers []Answer
	// Problems has an element for each annotation with an invalid value, and for each agent port
	// that a Service cannot have. It also has the problems that Watcher.Objects reported. A Service
	// whose agent port is invalid has no Answer.
	Problems []nodeselect.Problem
	// Drain says whether the node drains and why, and how many nodes of its cluster drain.
	Drain DrainStatus
	// Err is not nil while a Watcher cannot read the cluster: it is the reason, and the State may
	// be out of date. Only a Watcher sets Err.
	Err error
}

// Node returns the answer for the node, which is the element of Answers without a Service.
func (s State) Node() agentcheck.Reply {
	for _, a := range s.Answers {
		if a.Service == "" {
			return a.Reply
		}
	}
	return agentcheck.Reply{}
}

// DrainStatus describes the drain of one node. It also says how many nodes of the cluster drain or
// wait, according to the node's agent. The agent does not see every drain of another node.
type DrainStatus struct {
	// Requested is true while there is a drain request for the node, and Effective while the node
	// drains:
	//
	//   - Requested without Effective: the node waits until fewer other nodes drain.
	//   - Effective without Requested: the last request has ended, and the node drains until
	//     HeldUntil.
	Requested, Effective bool
	// Reason is the reason of the drain request. For a node that is held down, it is the reason of
	// the last request.
	Reason string
	// Since is the time of the request, rounded down to seconds. The zero time means that there is
	// no request.
	Since time.Time
	// HeldUntil is the time when the hold-down ends. The hold-down begins when the last request to
	// drain the node ends, and lasts for Rules.HoldDown. The zero time means that the node is not
	// held down.
	HeldUntil time.Time
	// Draining is the number of nodes that drain, and Waiting is the number of nodes that wait to
	// drain. Each number can include this node. A node whose request is Uncounted is in neither
	// number.
	Draining, Waiting int
	// Limit is how many nodes may drain at the same time. Total is the number of nodes from which
	// the agent computed Limit.
	Limit, Total int
}
