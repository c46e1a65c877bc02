package nodeagent

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/nodeselect"
)

// Tracker computes the answers for one node while its cluster changes: it remembers earlier drains,
// and the last weight of each Service. It has no clock; each call of State passes the time. Only
// one goroutine at a time may use a Tracker.
type Tracker struct {
	Rules Rules // must not change after the first State

	candidates []candidate
	weights    map[string]lastWeight // by "namespace/name" of the Services with an answer
	deletion   deletionGuard
	next       time.Time
}

// State returns the answers at the time "now". objects are the present objects of the cluster. The
// argument "own" contains drain requests for the node from other places, such as a command or a
// file. The error is ErrNoNode if the objects do not include the node.
func (t *Tracker) State(now time.Time, objects nodeselect.Objects, own ...DrainRequest) (State, error) {
	snapshot := t.Rules.snapshot(objects)
	snapshot.own = own
	s := t.state(now, snapshot)
	if snapshot.node == nil {
		return s, snapshot.errNoNode(t.Rules.Node)
	}
	return s, nil
}

// Next returns the next time at which the result of State changes although the cluster does not
// change. This is the end of Rules.HoldDown after a drain request has ended, or the end of
// Rules.ZeroWeightDelay after a weight has fallen to 0. The zero time means never.
func (t *Tracker) Next() time.Time { return t.next }

// snapshot is what one agent knows about its cluster at one moment.
type snapshot struct {
	complete bool                 // the agent has listed the whole cluster; if false, the snapshot is empty
	err      error                // why the snapshot is incomplete or may be out of date
	contact  time.Time            // when the cluster last answered; zero if never
	problems []nodeselect.Problem // the problems of the objects

	node     *corev1.Node            // the agent's own node, nil if it is missing
	own      []DrainRequest          // requests for the own node from outside of the cluster
	requests map[string]DrainRequest // requests of the other nodes, by node name
	nodes    int                     // number of all nodes; negative if it is unknown
	counted  bool                    // the agent has counted nodes after the own node went missing
	objects  nodeselect.Objects      // the Services, and the nodes if the source has all of them
}

// snapshot makes the input of the Tracker from all objects of the cluster. A Watcher does not call
// it, because a Watcher has only a part of these objects.
func (r Rules) snapshot(objects nodeselect.Objects) snapshot {
	signals := r.withDefaults().Signals
	s := snapshot{complete: true, requests: map[string]DrainRequest{}, nodes: len(objects.Nodes), counted: true, objects: objects}
	for _, node := range objects.Nodes {
		if node.Name == r.Node {
			s.node = node
		} else if request, ok := merge(requestsOf(node, signals)); ok {
			s.requests[node.Name] = request
		}
	}
	return s
}

func (t *Tracker) state(now time.Time, snap snapshot) State {
	rules := t.Rules.withDefaults()
	t.next = time.Time{}
	s := State{Problems: slices.Clone(snap.problems), Err: snap.err}
	var waits string
	s.Drain, waits = t.updateDrain(now, snap, rules)
	node := agentcheck.Reply{State: agentcheck.Up, Admin: agentcheck.Ready, Reason: s.Drain.Reason}
	if s.Drain.Effective {
		node.Admin = agentcheck.Drain
	}
	switch {
	case s.Drain.Effective && !s.Drain.Requested:
		node.Reason += "; no more, held for " + rules.HoldDown.String()
	case s.Drain.Requested && !s.Drain.Effective:
		node.Reason += "; waits: " + waits
	}
	if snap.node != nil {
		_, err := rules.Annotations.Drain(snap.node)
		s.addProblem(err)
	}

	s.Answers = append(s.Answers, Answer{Port: rules.Port, Reply: node})
	ports, problems := rules.Annotations.AgentPorts(snap.objects, append([]uint16{rules.Port}, rules.Reserved...)...)
	s.Problems = append(s.Problems, problems...)
	last := t.weights
	t.weights = make(map[string]lastWeight, len(ports))
	for _, p := range ports {
		name := p.Service.Namespace + "/" + p.Service.Name
		reply := s.serviceReply(p.Service, rules.Annotations)
		weight := last[name].next(reply.Weight, rules.ZeroWeightDelay, now)
		if weight.fallen() {
			reply.Weight = weight.weight
			reply.Reason = cmp.Or(reply.Reason, "weight falls to 0, held for "+rules.ZeroWeightDelay.String())
		}
		t.weights[name] = weight
		t.next = earliest(t.next, weight.until)
		reply = reply.MostRestrictive(node)
		reply.Reason = cmp.Or(reply.Reason, node.Reason) // the reason of a node that waits to drain
		s.Answers = append(s.Answers, Answer{Port: p.Port, Service: name, Reply: reply})
	}
	slices.SortFunc(s.Answers, func(a, b Answer) int { return cmp.Compare(a.Port, b.Port) })
	return s
}

// serviceReply returns the answer for a Service, without regard to the state of the node. The
// weight is 100% without an annotation. An annotation with an invalid value only adds a problem, so
// that a typing error does not take the Service down.
func (s *State) serviceReply(service *corev1.Service, a nodeselect.Annotations) agentcheck.Reply {
	weight, err := a.WeightPercent(service)
	s.addProblem(err)
	reply := agentcheck.Reply{State: agentcheck.Up, Admin: agentcheck.Ready, Weight: agentcheck.Percent(weight)}
	drain, err := a.Drain(service)
	s.addProblem(err)
	if drain {
		reply.Admin, reply.Reason = agentcheck.Drain, "service is annotated"
	}
	return reply
}

// addProblem appends the problem of an annotation to s.Problems. If err is nil, it does nothing.
func (s *State) addProblem(err error) {
	var p nodeselect.Problem
	if errors.As(err, &p) {
		s.Problems = append(s.Problems, p)
	}
}

// lastWeight is the last weight above 0 that the agent answered for a Service, or the zero value.
// When the annotated weight falls to 0, the agent answers lastWeight for the time
// Rules.ZeroWeightDelay, and then 0.
type lastWeight struct {
	weight agentcheck.Weight
	until  time.Time // when the answer becomes 0; the zero time if the annotated weight is above 0
}

func (l lastWeight) fallen() bool { return !l.until.IsZero() }

// The method "next" computes the lastWeight of a Service at the time "now". l is the previous
// lastWeight of the Service, and "annotated" is its present weight in the annotation. If "annotated"
// is 0, the last weight above 0 stays for the time "delay".
func (l lastWeight) next(annotated agentcheck.Weight, delay time.Duration, now time.Time) lastWeight {
	if percent, _ := annotated.Percent(); percent > 0 {
		return lastWeight{weight: annotated}
	}
	if !l.weight.IsZero() && !l.fallen() {
		l.until = now.Add(delay)
	}
	if !now.Before(l.until) {
		return lastWeight{}
	}
	return l
}

// updateDrain updates t.candidates. It returns the status of the node's drain and, if the node
// waits to drain, the reason why it waits.
func (t *Tracker) updateDrain(now time.Time, snap snapshot, rules Rules) (d DrainStatus, waits string) {
	requests := maps.Clone(snap.requests)
	if requests == nil {
		requests = map[string]DrainRequest{}
	}
	draining := slices.ContainsFunc(t.candidates, func(c candidate) bool { return c.node == rules.Node && c.granted })
	doubt := t.deletion.check(now, snap, draining, rules.MaxDrain)
	var own []DrainRequest
	switch {
	case snap.node != nil:
		own = requestsOf(snap.node, rules.Signals)
	case doubt == "":
		own = []DrainRequest{{Reason: reasonGone, Since: t.deletion.since, Uncounted: true}}
	}
	if request, ok := merge(append(own, snap.own...)); ok {
		requests[rules.Node] = request
	}

	d.Total = countNodes(snap, requests, rules.Node)
	if d.Total == 0 && snap.nodes > 0 {
		// A node that is excluded from load balancers normally gets no traffic, so it does not
		// count for MaxDrain. But if all nodes are excluded, package nodeselect uses all of them,
		// and then all nodes count.
		for name, request := range requests {
			request.Uncounted = name == rules.Node && snap.node == nil
			requests[name] = request
		}
		d.Total = countNodes(snap, requests, rules.Node)
	}
	d.Limit = drainLimit(rules.MaxDrain, d.Total)
	if snap.node != nil {
		t.deletion.total = d.Total
	}

	t.candidates = nextCandidates(t.candidates, requests, d.Limit, drainCeiling(rules.MaxDrain, d.Total), rules.HoldDown, now)
	for _, c := range t.candidates {
		var heldUntil time.Time
		if c.heldDown() {
			heldUntil = c.ended.Add(rules.HoldDown)
			t.next = earliest(t.next, heldUntil)
		}
		switch {
		case c.request.Uncounted:
		case c.granted:
			d.Draining++
		default:
			d.Waiting++
		}
		if c.node == rules.Node {
			d.Requested, d.Effective, d.HeldUntil = !c.heldDown(), c.granted, heldUntil
			d.Reason, d.Since = c.request.Reason, c.request.Since
		}
	}
	if doubt != "" && !d.Requested && !d.Effective {
		d.Requested, d.Reason, d.Since = true, reasonGone, t.deletion.since
		return d, doubt
	}
	verb := "drain"
	if d.Draining == 1 {
		verb = "drains"
	}
	return d, fmt.Sprintf("%d of %d nodes %s, no more than %d may (%s)", d.Draining, d.Total, verb, d.Limit, percent(rules.MaxDrain))
}

// countNodes returns the number of nodes that load balancers use; the limit of drains is a share of
// this number. snap.nodes, the last count of these nodes, can be out of date or unknown. So the
// result is at least the number of these nodes that the agent sees.
func countNodes(snap snapshot, requests map[string]DrainRequest, own string) int {
	uncounted, seen := 0, 0
	for name, request := range requests {
		switch {
		case !request.Uncounted:
			seen++
		case name != own || snap.node != nil:
			uncounted++
		}
	}
	if _, ok := requests[own]; !ok && snap.node != nil {
		seen++
	}
	return max(snap.nodes-uncounted, seen)
}

// errNoNode returns ErrNoNode, with the names of up to ten other nodes. If a Watcher has only
// counted the other nodes, the text contains their number instead.
func (s snapshot) errNoNode(node string) error {
	const most = 10
	others := fmt.Sprintf("the cluster has %d others", s.nodes)
	if nodes := s.objects.Nodes; len(nodes) > 0 {
		var names []string
		for _, n := range nodes[:min(len(nodes), most)] {
			names = append(names, n.Name)
		}
		if more := len(nodes) - most; more > 0 {
			names = append(names, fmt.Sprintf("and %d more", more))
		}
		others = "there are " + strings.Join(names, ", ")
	}
	return fmt.Errorf("%w: %q; %s", ErrNoNode, node, others)
}
