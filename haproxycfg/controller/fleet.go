package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/headgate/headgate/haproxycfg/controller/fleet"
)

// sharedOrders is what a Controller knows of its Fleet.
type sharedOrders struct {
	snapshot fleet.Snapshot // the last one that could be read
	read     bool           // Fleet has been read since the start
	err      error          // why it cannot be read now
	since    time.Time      // when err last began or ended
}

// FleetStatus describes Controller.Fleet.
type FleetStatus struct {
	// Read is true once this process has read the state, or has learnt that there is none.
	Read bool
	// Version is the version of the last state that this process has read. It is "" before the first
	// read, and if Fleet has no state.
	Version string
	// Err is the reason why the state cannot be read now. The last known state stays in force.
	Err error
	// Since is the time at which Err last changed from nil to an error, or from an error to nil.
	Since time.Time
}

// String returns the fault of Fleet in one line. It returns "" if there is no fault.
func (s FleetStatus) String() string {
	if s.Err == nil {
		return ""
	}
	return fmt.Sprintf("the orders of the fleet: not read since %s, so the last known ones stay: %v", s.Since.UTC().Format(time.RFC3339), s.Err)
}

// awayError is any error of a request to Fleet except a conflict.
type awayError struct{ err error }

func (e *awayError) Error() string {
	return "the orders of the fleet cannot be changed: " + e.err.Error()
}

func (e *awayError) Unwrap() error { return e.err }

// changeOrders calls the function "change" with the present orders, replaces them by the orders
// that this function returns, and follows the new orders. If the hold or the canary has changed,
// changeOrders also makes and returns an Attempt, which applies the routes that are now to be in
// force. Without Fleet, the orders are in FleetFile.
func (c *Controller) changeOrders(ctx context.Context, change func(fleet.State) (fleet.State, error)) (Attempt, error) {
	if c.Fleet == nil {
		return c.changeCopy(ctx, change)
	}
	if !c.Status().Leading {
		return Attempt{}, ErrNotLeading
	}
	const maxTries = 5
	for tries := 1; ; tries++ {
		newRoutes, err := c.writeFleet(ctx, change)
		if errors.Is(err, fleet.ErrConflict) && tries < maxTries {
			continue
		}
		// The loop may already be adopting the state, because Follow has published it. This call
		// waits until the loop has adopted the state.
		a, adoptErr := c.inLoop(ctx, func(ctx context.Context, in inputs) (bool, error) {
			again, err := c.adopt(ctx, in)
			return again || newRoutes, err
		})
		if err != nil {
			return Attempt{}, err
		}
		return a, adoptErr
	}
}

// writeFleet makes one attempt to replace the state in Fleet. newRoutes reports whether the hold or
// the canary has changed.
func (c *Controller) writeFleet(ctx context.Context, change func(fleet.State) (fleet.State, error)) (newRoutes bool, err error) {
	now, err := c.Fleet.Read(ctx)
	if err != nil {
		return false, &awayError{err}
	}
	if now.Version == "" { // this process may have orders from the time before it had a Fleet
		last, err := c.orders()
		if err != nil {
			return false, err
		}
		now.State = last.state
	}
	next, err := change(now.State)
	if err != nil {
		return false, err
	}
	switch _, err := c.Fleet.Write(ctx, next, now.Version); {
	case errors.Is(err, fleet.ErrConflict):
		return false, err
	case err != nil:
		return false, &awayError{err}
	}
	return !next.SameRoutes(now.State), nil
}

// adopt copies the state of Fleet (the orders of operators: a hold of routes, and shifts) to
// FleetFile, and makes this process follow the state. It does nothing if this process follows the
// state already. If Fleet has no state, the copy in FleetFile stays, because deleting the state
// must not end a hold.
//
// The result "again" is true if the loop must then make an attempt to apply a configuration. Only
// the goroutine of the loop calls adopt.
func (c *Controller) adopt(ctx context.Context, in inputs) (again bool, err error) {
	shared := in.shared
	if shared == nil || !shared.read || shared.snapshot.Version == "" {
		return false, nil
	}
	if c.adopted == shared.snapshot.Version && (!c.diverged || shared.err != nil) {
		return false, nil
	}
	last, err := c.orders()
	if err != nil {
		return false, err
	}
	next := shared.snapshot.State
	c.following <- struct{}{}
	defer func() { <-c.following }()
	if again, err = c.writeCopy(ctx, last.state, next); err != nil {
		return again, err
	}
	c.adopted, c.diverged = shared.snapshot.Version, false
	if last.state.Shifts.Equal(next.Shifts) {
		return again, nil
	}
	if err := c.followShifts(ctx, last.state.Shifts, next.Shifts); err != nil {
		// Do not return this error from adopt: the next attempt to apply a configuration writes the
		// new shares to the configuration anyway.
		c.logger().Warn("HAProxy may not follow a shift yet", "err", err)
	}
	return again, nil
}

// readOrders returns the present orders of operators, for a process in which Run does not run. If
// Fleet does not answer within StartTimeout, or has no state, readOrders returns the orders in
// FleetFile.
func (c *Controller) readOrders(ctx context.Context) (*orders, error) {
	copied, err := c.orders()
	if err != nil || c.Fleet == nil {
		return copied, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.startTimeout())
	defer cancel()
	now, err := c.Fleet.Read(ctx)
	if err != nil {
		c.logger().Warn("the orders of the fleet cannot be read, so the last known ones count", "err", err)
		return copied, nil
	}
	if now.Version == "" {
		return copied, nil
	}
	return ordersOf(now.State)
}

// setShared stores the result of reading Fleet. It wakes the reader of the inputs only if the
// result differs from the last one.
func (in *inbox) setShared(now time.Time, s fleet.Snapshot, err error) {
	in.mu.Lock()
	last := in.inputs.shared
	in.mu.Unlock()
	next := &sharedOrders{since: last.since, err: err}
	if next.snapshot, next.read = last.snapshot, last.read; err == nil {
		next.snapshot, next.read = s, true
	}
	failing := err != nil
	if failing == (last.err != nil) && next.read == last.read && next.snapshot.Version == last.snapshot.Version &&
		(!failing || err.Error() == last.err.Error()) {
		return
	}
	if failing != (last.err != nil) {
		next.since = toSeconds(now)
	}
	in.change(func(latest *inputs) { latest.shared = next })
}
