package keeper

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/nodeselect/disruption"
	"github.com/headgate/headgate/nodeselect/disruption/gate"
	"github.com/headgate/headgate/nodeselect/disruption/gate/leases"
	"github.com/headgate/headgate/nodeselect/disruption/gate/protect"
)

// Keeper decides which nodes of one cluster somebody may take away, and grants them. Set the fields
// before the first call. Any number of goroutines may call the methods.
type Keeper struct {
	// Reports are the reports of all terminators that send requests to the cluster. Required.
	Reports []Report
	// Nodes returns the states of all nodes of the cluster. Required.
	Nodes func(context.Context) ([]gate.Node, error)
	// Store stores the grants. If Store is nil, there are no grants, and Take returns an error.
	Store *leases.Store
	// Budget limits how many nodes may be away.
	Budget disruption.Budget
	// HoldDown is how long a node that was away must be back before its grant ends. 0 means
	// gate.DefaultHoldDown.
	HoldDown time.Duration
	// Up reports whether the agent of the node answers "up". A node is back when it is Ready in
	// Kubernetes and Up returns true. If Up is nil, a node is back when it is Ready.
	Up func(context.Context, gate.Node) bool
	// Ended, if not nil, receives each grant that has ended, and the reason.
	Ended func(gate.Grant, string)

	mu sync.Mutex // one decision at a time, so that calls in one process do not conflict
}

// errNoStore is the error of calls that need a Store.
var errNoStore = errors.New("keeper: there is no store for grants")

// May reports whether somebody may take all of the nodes away at the same time.
func (k *Keeper) May(ctx context.Context, nodes ...string) (answer gate.Answer, err error) {
	err = k.decide(ctx, func(g *gate.Gate) []gate.Grant {
		answer = g.May(nodes...)
		return nil
	})
	return answer, err
}

// Take decides, as May does, whether somebody may take all of the nodes away at the same time. If
// so, Take also stores grants for the holder before it returns. The holder must take the nodes away
// within the time in the argument "ttl".
func (k *Keeper) Take(ctx context.Context, holder string, ttl time.Duration, nodes ...string) (answer gate.Answer, err error) {
	if k.Store == nil {
		return answer, errNoStore
	}
	err = k.decide(ctx, func(g *gate.Gate) (taken []gate.Grant) {
		answer, taken = g.Take(holder, ttl, nodes...)
		return taken
	})
	return answer, err
}

// TakeEach makes grants for as many of the nodes as the limits allow, in the order of the
// arguments. It makes no more grants than the argument "most" allows, as [gate.Gate.TakeEach] does.
// If try is true, TakeEach stores no grants, and the result shows which grants the holder would get.
func (k *Keeper) TakeEach(ctx context.Context, holder string, ttl time.Duration, most int, try bool, nodes ...string) (held protect.Held, err error) {
	if k.Store == nil {
		return held, errNoStore
	}
	if most == 0 || most > leases.MaxTaken {
		most = leases.MaxTaken
	}
	err = k.decide(ctx, func(g *gate.Gate) (taken []gate.Grant) {
		held.May, taken = g.TakeEach(holder, ttl, most, nodes...)
		held.Grants, held.Unused = g.Grants(holder), nil
		for _, grant := range held.Grants {
			if !g.Used(grant.Node) {
				held.Unused = append(held.Unused, grant.Node)
			}
		}
		if try {
			return nil
		}
		return taken
	})
	return held, err
}

// Record stores the fact that the holder has taken a node away, and the time since which the node
// is away. If the node has no grant, Record makes one; see [gate.Gate.Record]. So the node counts
// as away until it has been back for HoldDown. If no applied configuration contains the node,
// Record stores nothing.
func (k *Keeper) Record(ctx context.Context, holder, node string) error {
	if k.Store == nil {
		return errNoStore
	}
	err := k.decide(ctx, func(g *gate.Gate) []gate.Grant { return g.Record(holder, DefaultTTL, node) })
	if errors.Is(err, gate.ErrNoSubsets) {
		return nil
	}
	return err
}

// Wave is a set of nodes that somebody may take away at the same time.
type Wave struct {
	Nodes []string `json:"nodes"`
	// Estimate says how many waves are needed until all candidates have been away once. It is nil
	// if the caller requested no estimate.
	Estimate *disruption.Estimate `json:"estimate,omitempty"`
}

// Wave returns a set of nodes that somebody may take away now, at the same time. It chooses them
// from candidates; nil means all nodes. steps is the number of steps of the search; see
// [disruption.State.Wave].
func (k *Keeper) Wave(ctx context.Context, candidates []string, steps int, estimate bool) (w Wave, err error) {
	err = k.decide(ctx, func(g *gate.Gate) []gate.Grant {
		w = Wave{Nodes: g.Wave(candidates, steps)}
		if estimate {
			e := g.Estimate(candidates, steps)
			w.Estimate = &e
		}
		return nil
	})
	return w, err
}

// Refresh reads the present states of the nodes, and ends the grants that are over. It returns the
// other grants, sorted by node. Call Refresh every few seconds, because it may not notice that a
// node was away between two calls.
func (k *Keeper) Refresh(ctx context.Context) (grants []gate.Grant, err error) {
	if k.Store == nil {
		return nil, errNoStore
	}
	err = k.observe(ctx, func(_ gate.Input, live []gate.Grant) ([]gate.Grant, error) {
		grants = live
		return nil, nil
	})
	return grants, err
}

// Release ends the grant for a node; see [leases.Store.Release].
func (k *Keeper) Release(ctx context.Context, node, holder string) (found bool, err error) {
	if k.Store == nil {
		return false, errNoStore
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.Store.Release(ctx, node, holder)
}

// decide calls the function "ask" with a Gate for the present state, and stores the grants that the
// function returns. If another process decides at the same time, decide calls the function again
// with the new state. Only the result of the last call counts.
func (k *Keeper) decide(ctx context.Context, ask func(*gate.Gate) []gate.Grant) error {
	return k.observe(ctx, func(in gate.Input, live []gate.Grant) ([]gate.Grant, error) {
		in.Grants = live
		g, err := gate.New(in)
		if err != nil {
			return nil, err
		}
		return ask(g), nil
	})
}

// observe reads the state of the nodes and the stored grants, and ends the grants that are over. It
// passes the state and the remaining grants to a function, and stores the grants that this function
// returns.
func (k *Keeper) observe(ctx context.Context, use func(gate.Input, []gate.Grant) ([]gate.Grant, error)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.Store == nil {
		in, err := k.read(ctx)
		if err == nil {
			_, err = use(in, nil)
		}
		return err
	}
	var ended map[gate.Grant]string
	err := k.Store.Decide(ctx, func(grants []gate.Grant) (changes leases.Changes, err error) {
		ended = map[gate.Grant]string{}
		// Read the state of the nodes only here, after Decide has read the grants. If the state
		// were older than a grant, the Keeper could end the grant because of something that
		// happened before the grant began.
		in, err := k.read(ctx)
		if err != nil {
			return changes, err
		}
		live, err := k.next(ctx, in, grants, &changes, ended)
		if err == nil {
			changes.Taken, err = use(in, live)
		}
		return changes, err
	})
	if err == nil && k.Ended != nil {
		for g, why := range ended {
			k.Ended(g, why)
		}
	}
	return err
}

// next compares each grant with the present state of its node, and returns the grants that
// continue. It adds the changed grants and the ended grants to the argument "changes", and the
// reason for each end to the argument "ended".
func (k *Keeper) next(ctx context.Context, in gate.Input, grants []gate.Grant, changes *leases.Changes, ended map[gate.Grant]string) (live []gate.Grant, err error) {
	if len(grants) == 0 {
		return nil, nil
	}
	g, err := gate.New(in)
	if err != nil {
		return nil, err
	}
	nodes := map[string]gate.Node{}
	for _, n := range in.Nodes {
		nodes[n.Name] = n
	}
	up := k.askAgents(ctx, g, nodes, grants)
	for i, grant := range grants {
		if grant.Pending { // package leases ends a pending grant, or makes it final
			live = append(live, grant)
			continue
		}
		next, why := grant.Observe(gate.Observation{
			Applied: g.Used(grant.Node), Away: g.Away(grant.Node) != "", Up: up[i], ReadySince: nodes[grant.Node].ReadySince,
		}, k.HoldDown, in.Now)
		switch {
		case why != "":
			changes.Ended = append(changes.Ended, grant)
			ended[grant] = why
			continue
		case next != grant:
			changes.Updated = append(changes.Updated, next)
		}
		live = append(live, next)
	}
	return live, nil
}

// maxAsked is the largest number of agents to which a Keeper connects at the same time.
const maxAsked = 50

// askAgents connects to the agents of the nodes with a grant. Element i is true if the agent on the
// node of grants[i] answers "up", and false if the node is away. If Keeper.Up is nil, all elements
// are true.
func (k *Keeper) askAgents(ctx context.Context, g *gate.Gate, nodes map[string]gate.Node, grants []gate.Grant) []bool {
	up := make([]bool, len(grants))
	var group errgroup.Group
	group.SetLimit(maxAsked)
	for i, grant := range grants {
		if k.Up == nil {
			up[i] = true
		} else if g.Away(grant.Node) == "" {
			group.Go(func() error { up[i] = k.Up(ctx, nodes[grant.Node]); return nil })
		}
	}
	_ = group.Wait()
	return up
}

// read reads all reports and nodes.
func (k *Keeper) read(ctx context.Context) (gate.Input, error) {
	in := gate.Input{Budget: k.Budget, Applied: make([]gate.Applied, len(k.Reports))}
	errs := make([]error, len(k.Reports)+1)
	var group errgroup.Group
	for i, report := range k.Reports {
		group.Go(func() error { in.Applied[i], errs[i] = report(ctx); return nil })
	}
	group.Go(func() (err error) {
		if in.Nodes, err = k.Nodes(ctx); err != nil {
			errs[len(k.Reports)] = fmt.Errorf("nodes: %w", err)
		}
		return nil
	})
	_ = group.Wait()
	in.Now = time.Now()
	return in, errors.Join(errs...)
}
