package controller

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/controller/fleet"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/internal/inputfile"
	"github.com/headgate/headgate/nodeselect"
)

// FleetFile is the name of the file with the orders of operators (the hold and the shifts of
// routes), in the directory of the configuration. It contains a fleet.State as JSON. A restarted
// Controller and the next leader read it too. With Controller.Fleet, FleetFile is a copy of the
// last state in Fleet.
const FleetFile = "fleet.json"

// orders is the content of FleetFile. Nobody changes a value of this type.
type orders struct {
	data  []byte // of the file
	state fleet.State
	held  *heldRoutes // the routes of state.Hold; nil without a hold
	// approved are the routes of state.Canary. The field is nil without Controller.Canary, and
	// before any routes are approved.
	approved *heldRoutes
}

// heldRoutes are the routes of a hold, or the approved routes of a canary.
type heldRoutes struct {
	hold     *fleet.Hold
	table    routes.Table
	problems []routes.Problem // routes that this version of the program cannot serve
	canary   *fleet.Canary    // nil for the hold of an operator
}

// orders reads FleetFile. It parses the file only if the file has changed since the last call.
func (c *Controller) orders() (*orders, error) {
	path := filepath.Join(c.Dir.Path, FleetFile)
	data, err := inputfile.ReadOptional(path, fleet.MaxBytes)
	if err != nil {
		return nil, err
	}
	last := c.lastOrders.Load()
	if last != nil && bytes.Equal(data, last.data) {
		return last, nil
	}
	state, err := fleet.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	o := &orders{data: data, state: state}
	if last != nil && last.held != nil && last.held.hold.Is(state.Hold) {
		o.held = last.held
	} else if o.held, err = unpack(state.Hold); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if o.approved, err = c.heldByCanary(state.Canary, last); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	c.lastOrders.Store(o)
	return o, nil
}

// ordersOf returns the orders in a state.
func ordersOf(state fleet.State) (*orders, error) {
	held, err := unpack(state.Hold)
	return &orders{state: state, held: held}, err
}

// unpack returns the routes of a hold. The argument may be nil.
func unpack(hold *fleet.Hold) (*heldRoutes, error) {
	if hold == nil {
		return nil, nil
	}
	table, problems, err := hold.Table()
	return &heldRoutes{hold: hold, table: table, problems: problems}, err
}

// loopCall asks the loop to call the function "do" between two attempts to apply a configuration,
// with the latest inputs. If the first result of "do" is true, the loop makes an attempt at once.
// The loop sends the error and the attempt to the channel "reply", whose capacity is 1.
type loopCall struct {
	do    func(ctx context.Context, in inputs) (again bool, err error)
	reply chan callResult
}

// callResult is the result of a loopCall.
type callResult struct {
	err     error   // the error of the function in the field "do"
	attempt Attempt // the zero Attempt if the loop has made none
}

// inLoop calls the function "do" in the goroutine of Run, while this process leads. The error is
// ErrNotLeading if another process leads.
func (c *Controller) inLoop(ctx context.Context, do func(context.Context, inputs) (again bool, err error)) (Attempt, error) {
	c.init()
	request := loopCall{do, make(chan callResult, 1)}
	select {
	case c.calls <- request:
	case <-ctx.Done():
		return Attempt{}, ErrBusy
	}
	select {
	case result := <-request.reply:
		return result.attempt, result.err
	case <-ctx.Done():
		return Attempt{}, ErrUnderway
	}
}

// changeCopy replaces the state in FleetFile by the result of the function "change", and makes
// HAProxy use the new state. If the hold or the canary has changed, this needs an attempt to apply a
// configuration, and changeCopy returns the Attempt.
func (c *Controller) changeCopy(ctx context.Context, change func(fleet.State) (fleet.State, error)) (Attempt, error) {
	return c.inLoop(ctx, func(ctx context.Context, _ inputs) (bool, error) {
		last, err := c.orders()
		if err != nil {
			return false, err
		}
		next, err := change(last.state)
		if err != nil {
			return false, err
		}
		if c.Fleet != nil {
			c.diverged = true
		}
		c.following <- struct{}{}
		defer func() { <-c.following }()
		again, err := c.writeCopy(ctx, last.state, next)
		if err != nil || again && last.state.Shifts.Equal(next.Shifts) {
			return again, err
		}
		return again, c.followShifts(ctx, last.state.Shifts, next.Shifts)
	})
}

// writeCopy replaces the state "last" in FleetFile by the state "next". If the hold or the canary has
// changed, the first result is true: only an attempt to apply a configuration can put the new routes
// into force.
func (c *Controller) writeCopy(ctx context.Context, last, next fleet.State) (again bool, err error) {
	data, err := next.AppendJSON(nil)
	if err != nil {
		return false, err
	}
	if _, err := c.Dir.WriteAuxiliary(ctx, haproxycfg.RenderedFile{Name: FleetFile, Data: data}); err != nil {
		return false, err
	}
	if again = !next.SameRoutes(last); again {
		c.updateRefs()
	}
	return again, nil
}

// refs tells the sources of clusters which service ports the routes name.
type refs struct {
	mu       sync.Mutex
	declared Declarations // the latest ones
}

// setRefs stores the latest declarations for updateRefs, and calls updateRefs.
func (c *Controller) setRefs(declared Declarations) {
	c.refs.mu.Lock()
	c.refs.declared = declared
	c.refs.mu.Unlock()
	c.updateRefs()
}

// latest returns the latest declarations.
func (r *refs) latest() Declarations {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.declared
}

// updateRefs tells the source of each cluster which of the cluster's service ports are named by the
// latest declarations, by held routes or by approved routes.
func (c *Controller) updateRefs() {
	c.refs.mu.Lock()
	defer c.refs.mu.Unlock()
	refs := kube.RefsOf(c.groups.Group(c.refs.declared.Table))
	// Ignore an error of FleetFile here: each attempt to apply the routes fails with the same
	// error.
	if now, err := c.orders(); err == nil {
		for _, h := range []*heldRoutes{now.held, now.approved} {
			if h != nil {
				addRefs(refs, h.table)
			}
		}
	}
	for _, cluster := range c.Clusters {
		cluster.Source.SetRefs(refs[cluster.Name])
	}
}

// addRefs adds to refs the service ports that a table names, without duplicates.
func addRefs(refs map[string][]nodeselect.Ref, table routes.Table) {
	for cluster, held := range kube.Refs(table) {
		known := map[nodeselect.Ref]bool{}
		for _, ref := range refs[cluster] {
			known[ref] = true
		}
		refs[cluster] = append(refs[cluster], slices.DeleteFunc(held, func(r nodeselect.Ref) bool { return known[r] })...)
	}
}
