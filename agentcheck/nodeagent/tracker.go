package nodeagent

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/nodeselect"
)

// Tracker follows one cluster on behalf of one node's agent. It remembers which nodes
// have asked to be drained, as hold-down and order need it, and the weights that it has
// answered, and has no clock of its own. It is for one goroutine at a time.
type Tracker struct {
	Rules Rules // must not change after the first State

	drains  []drain
	weights map[string]lastWeight // of the Services that are answered for
	next    time.Time
	gone    goneNode
}

// State returns what to answer at a time, when the cluster is as the objects say and
// own are the further signals of the node that no object shows, such as [File]. The
// error is that of [Rules.State].
func (t *Tracker) State(now time.Time, objects nodeselect.Objects, own ...Ask) (State, error) {
	v := t.Rules.view(objects)
	v.own = own
	s := t.state(now, v)
	if v.node == nil {
		return s, fmt.Errorf("%w: %q; there are %s", ErrNoNode, t.Rules.Node, nodeNames(objects))
	}
	return s, nil
}

// Next returns when State has something else to say though nothing has changed, since
// a hold-down or the delay of a weight that falls to 0 ends. It is zero if nothing is
// held.
func (t *Tracker) Next() time.Time { return t.next }

// view is what an agent sees of its cluster.
type view struct {
	node     *corev1.Node       // its own, nil if it is gone
	own      []Ask              // of the node, that no object shows
	asks     map[string]Ask     // of the other nodes
	nodes    int                // all nodes, less than 0 if that is not known
	counted  bool               // its own was gone already when they were counted
	services nodeselect.Objects // Services alone are read
}

// view returns what an agent sees that sees all objects.
func (r Rules) view(objects nodeselect.Objects) view {
	signals := r.signals()
	v := view{asks: map[string]Ask{}, nodes: len(objects.Nodes), counted: true, services: objects}
	for _, node := range objects.Nodes {
		if node.Name == r.Node {
			v.node = node
		} else if ask, ok := combine(askOf(node, signals)); ok {
			v.asks[node.Name] = ask
		}
	}
	return v
}

func (t *Tracker) state(now time.Time, v view) State {
	var s State
	var waits string
	s.Drain, waits = t.drain(now, v)
	own := agentcheck.Reply{State: agentcheck.Up, Admin: agentcheck.Ready, Reason: s.Drain.Reason}
	switch {
	case s.Drain.Effective && !s.Drain.Wanted:
		own.Admin = agentcheck.Drain
		own.Reason += "; no more, held for " + t.Rules.holdDown().String()
	case s.Drain.Effective:
		own.Admin = agentcheck.Drain
	case s.Drain.Wanted:
		own.Reason += "; waits: " + waits
	}
	if v.node != nil {
		_, err := t.Rules.Annotations.Drain(v.node)
		s.addProblem(err)
	}

	port := t.Rules.port()
	s.Answers = append(s.Answers, Answer{Port: port, Reply: own})
	ports, problems := t.Rules.Annotations.AgentPorts(v.services, append([]uint16{port}, t.Rules.Reserved...)...)
	s.Problems = append(s.Problems, problems...)
	last := t.weights
	t.weights = make(map[string]lastWeight, len(ports))
	for _, p := range ports {
		name := p.Service.Namespace + "/" + p.Service.Name
		reply, problems := ServiceReply(p.Service, t.Rules.Annotations)
		s.Problems = append(s.Problems, problems...)
		var until time.Time
		t.weights[name], until = holdWeight(last[name], &reply, t.Rules.zeroDelay(), now)
		t.next = earliest(t.next, until)
		reply = reply.MostRestrictive(own)
		reply.Reason = cmp.Or(reply.Reason, own.Reason) // that it waits decides nothing
		s.Answers = append(s.Answers, Answer{Port: p.Port, Service: name, Reply: reply})
	}
	slices.SortFunc(s.Answers, func(a, b Answer) int { return int(a.Port) - int(b.Port) })
	return s
}

// drain brings the memory up to date and says how things stand, and why the drain waits
// if it does.
func (t *Tracker) drain(now time.Time, v view) (d Drain, waits string) {
	asks := maps.Clone(v.asks)
	if asks == nil {
		asks = map[string]Ask{}
	}
	own := v.own
	doubt := t.gone.look(now, v, t.drains, t.Rules)
	switch {
	case v.node != nil:
		own = append(askOf(v.node, t.Rules.signals()), own...)
	case doubt == "":
		own = append([]Ask{{Reason: reasonGone, Since: t.gone.since, Outside: true}}, own...)
	}
	if ask, ok := combine(own); ok {
		asks[t.Rules.Node] = ask
	}

	d.Total = t.total(v, asks)
	if d.Total == 0 && v.nodes > 0 {
		// All are excluded, and so none is: package nodeselect uses them too.
		for name, ask := range asks {
			ask.Outside = name == t.Rules.Node && v.node == nil
			asks[name] = ask
		}
		d.Total = t.total(v, asks)
	}
	share := t.Rules.maxDrain()
	d.Limit = limitOf(share, d.Total)
	if v.node != nil {
		t.gone.total = d.Total
	}

	t.drains = nextDrains(t.drains, asks, d.Limit, mostOf(share, d.Total), t.Rules.holdDown(), now)
	t.next = time.Time{}
	for i := range t.drains {
		m := &t.drains[i]
		held := !m.ended.IsZero()
		if held {
			t.next = earliest(t.next, m.ended.Add(t.Rules.holdDown()))
		}
		if !m.ask.Outside {
			if m.granted {
				d.Draining++
			} else {
				d.Waiting++
			}
		}
		if m.node != t.Rules.Node {
			continue
		}
		d.Wanted, d.Effective, d.Reason, d.Since = !held, m.granted, m.ask.Reason, m.ask.Since
		if held {
			d.HeldUntil = m.ended.Add(t.Rules.holdDown())
		}
	}
	if doubt != "" && !d.Wanted && !d.Effective {
		d.Wanted, d.Reason, d.Since = true, reasonGone, t.gone.since
		return d, doubt
	}
	return d, d.waits(share)
}

// total returns how many nodes share the cluster's load. Those that are seen are there,
// whatever was counted some time ago: of too low a count, or none, follows a limit that
// is too low rather than too high.
func (t *Tracker) total(v view, asks map[string]Ask) int {
	outside, known := 0, 0
	for name, ask := range asks {
		switch {
		case !ask.Outside:
			known++
		case name != t.Rules.Node || v.node != nil:
			outside++
		}
	}
	if _, ok := asks[t.Rules.Node]; !ok && v.node != nil {
		known++
	}
	return max(v.nodes-outside, known)
}

// waits says why a drain that is wanted is not in effect.
func (d Drain) waits(share float64) string {
	drain := "nodes drain"
	if d.Draining == 1 {
		drain = "nodes drains"
	}
	return fmt.Sprintf("%d of %d %s, no more than %d may (%s)", d.Draining, d.Total, drain, d.Limit, percent(share))
}

func percent(share float64) string { return strconv.FormatFloat(share*100, 'f', -1, 64) + "%" }

// nodeNames lists some nodes, for an error about one that is missing.
func nodeNames(objects nodeselect.Objects) string {
	const most = 10
	var names []string
	for _, n := range objects.Nodes[:min(len(objects.Nodes), most)] {
		names = append(names, n.Name)
	}
	if more := len(objects.Nodes) - most; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	if len(names) == 0 {
		return "no nodes"
	}
	return strings.Join(names, ", ")
}
