package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg/controller/canary"
	"github.com/headgate/headgate/haproxycfg/controller/fleet"
	"github.com/headgate/headgate/haproxycfg/controller/journal"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// Canary makes the Controllers of a fleet try new routes on one Controller first. This is the
// Controller that first records a trial of the new routes in Controller.Fleet. The other Controllers
// serve the approved routes, which are older, until the trial succeeds.
//
// Nodes, services, certificates and shifts never wait for a trial. See fleet.Canary for the state
// that all Controllers follow.
type Canary struct {
	// Name is the name of this Controller in the fleet. No other Controller of the fleet may have it,
	// and a restarted Controller must have the same name. Required.
	Name string
	// Policy says how long new routes are tried, and which errors withdraw them. If a trial does
	// not end within twice Policy.For plus one minute, another Controller begins a trial of its
	// own declared routes.
	Policy canary.Policy
	// Probe sends the probes to HAProxy. It returns the reason for each probe that fails; the method
	// Run of a canary.Prober is such a function. nil means no probes.
	Probe func(context.Context) map[string]error
	// Counters returns the present counters of HAProxy; CanaryCounters returns such a function. nil
	// means that only the probes decide.
	Counters func(context.Context) (canary.Counts, error)
	// Interval is the time between two rounds of probes. 0 means a twelfth of the time for which
	// new routes are tried, but at least 100 ms and at most 10 s.
	Interval time.Duration
}

// CanaryCounters returns a function for Canary.Counters. It reads the counters of the HAProxy worker
// whose socket "worker" returns; pass the method Worker of a deploy.Runtime.
func CanaryCounters(worker func(context.Context) (runtimeapi.Socket, error)) func(context.Context) (canary.Counts, error) {
	return func(ctx context.Context) (canary.Counts, error) {
		socket, err := worker(ctx)
		if err != nil {
			return nil, err
		}
		rows, err := socket.ProxyStats(ctx)
		return canary.FromStats(rows), err
	}
}

func (k *Canary) interval() time.Duration {
	return cmp.Or(k.Interval, min(max(k.Policy.Length()/12, 100*time.Millisecond), 10*time.Second))
}

// patience is the time after which another Controller takes over a trial.
func (k *Canary) patience() time.Duration { return 2*k.Policy.Length() + time.Minute }

// CanaryStatus describes declared routes that are not approved yet.
type CanaryStatus struct {
	// Trial is the running or withdrawn trial of new routes. nil means that the declared routes
	// still wait for their trial to begin.
	Trial *fleet.Trial
	// Serving is true if this Controller tries the new routes.
	Serving bool
	// Since is the time at which the trial began or, if the trial is withdrawn, the time of the
	// withdrawal. If Trial is nil, Since is the time at which the declared routes began to wait.
	Since time.Time
	// Pending says what the declared routes would change. It is "" if Serving is true.
	Pending string
}

// Withdrawn reports whether the declared routes are withdrawn.
func (s CanaryStatus) Withdrawn() bool { return s.Trial != nil && !s.Trial.Withdrawn.IsZero() }

// String returns the status in one line, for people.
func (s CanaryStatus) String() string {
	text := "canary: the declared routes wait since " + s.Since.UTC().Format(time.RFC3339) + " for their trial, or for other declarations"
	if s.Trial != nil {
		text = "canary: " + s.Trial.String()
	}
	if s.Pending != "" {
		text += "; the declared routes of this terminator " + s.Pending
	}
	return text
}

// heldByCanary returns the approved routes, and the reason why newer routes are not in force. The
// result has the same type as the routes that an operator holds, so the Controller treats both in
// the same way. If the previous orders, the argument "last", contain the same approved routes,
// heldByCanary does not unpack them again.
func (c *Controller) heldByCanary(state *fleet.Canary, last *orders) (*heldRoutes, error) {
	if c.Canary == nil || state == nil {
		return nil, nil
	}
	hold := &fleet.Hold{ID: state.Declarations, Applied: state.Approved, Since: state.Approved, By: "canary", Reason: "newer routes wait for their trial"}
	if t := state.Trial; t != nil {
		hold.Reason, hold.Since = t.String(), t.Since
		if !t.Withdrawn.IsZero() {
			// The terminator of the trial runs routes that do harm. Limit must not prevent its
			// return to the approved routes.
			hold.Since, hold.Force = t.Withdrawn, t.Terminator == c.Canary.Name
		}
	}
	h := &heldRoutes{hold: hold, canary: state}
	if last != nil && last.approved != nil {
		if state.Is(last.state.Canary) {
			return last.approved, nil
		}
		if was := last.state.Canary; was.Declarations == state.Declarations && was.Approved.Equal(state.Approved) {
			h.table, h.problems = last.approved.table, last.approved.problems
			return h, nil
		}
	}
	var err error
	h.table, h.problems, err = state.Table()
	return h, err
}

// withCanary decides whether this Controller serves its declared routes or the approved routes. For
// the declared routes, it returns the orders as they are. For the approved routes, it returns a
// copy of the orders that holds the approved routes in force. Only the goroutine of the loop calls
// withCanary.
func (c *Controller) withCanary(in inputs, by *orders) *orders {
	if by.held != nil || by.approved == nil {
		return by
	}
	if len(in.routes.Unread) == 0 && by.state.Canary.Serves(c.Canary.Name, c.declaredID(in)) {
		return by
	}
	next := *by
	next.held = by.approved
	return &next
}

// declaredID returns the ID of the declared routes. Only the goroutine of the loop calls it.
func (c *Controller) declaredID(in inputs) string {
	if c.declared.id == "" || c.declared.number != in.declared {
		c.declared.number, c.declared.id = in.declared, journal.RoutesID(in.routes.Table.Routes())
	}
	return c.declared.id
}

// tried is the result of the last attempt to serve the declared routes.
type tried struct {
	id      string // of the routes; "" if the last attempt wanted to serve held routes
	outcome Outcome
	err     error
}

// rejected reports whether Limit or HAProxy rejects the routes.
func (t tried) rejected() bool {
	var check *deploy.CheckError
	return t.outcome == Refused || t.outcome == Failed && errors.As(t.err, &check)
}

// noteTried records the result of an attempt in c.tried, which the trials of new routes read.
func (c *Controller) noteTried(in inputs, t Attempt) {
	if c.Canary == nil || t.Change == nil {
		return
	}
	c.tried = tried{}
	if t.Change.held == nil {
		c.tried = tried{c.declaredID(in), t.Outcome, t.Err}
	}
}

// canaryStatus returns the status for orders that withCanary returned. The argument "review" is the
// comparison of the declared routes with the held routes. The result is nil if the declared routes
// are approved, or if an operator holds other routes.
func (c *Controller) canaryStatus(by *orders, review review) *CanaryStatus {
	switch running := by.state.Canary.Running(); {
	case c.Canary == nil:
	case by.held == nil && running != nil && running.Terminator == c.Canary.Name:
		return &CanaryStatus{Trial: running, Serving: true, Since: running.Since}
	case by.held != nil && by.held.canary != nil:
		s := &CanaryStatus{Trial: by.held.canary.Trial, Since: review.since, Pending: review.pending}
		if s.Trial != nil {
			s.Since = by.held.hold.Since
		}
		return s
	}
	return nil
}

// errOtherTrial means that the state in Fleet has changed since the caller read it.
var errOtherTrial = errors.New("controller: the trial has changed meanwhile")

// changeCanary replaces the Canary in Fleet and FleetFile by "next", if the present Canary is still
// "seen".
func (c *Controller) changeCanary(ctx context.Context, seen, next *fleet.Canary) error {
	_, err := c.changeOrders(ctx, replaceCanary(seen, next))
	return err
}

func replaceCanary(seen, next *fleet.Canary) func(fleet.State) (fleet.State, error) {
	return func(s fleet.State) (fleet.State, error) {
		if !s.Canary.Is(seen) {
			return s, errOtherTrial
		}
		s.Canary = next
		return s, nil
	}
}

// withdrawal is a trial that was withdrawn only in this process.
type withdrawal struct {
	trial *fleet.Trial // as it was before
	cause string
}

// withdraw withdraws the running trial. If Fleet cannot be written, the trial is withdrawn only in
// this process, and trials.tick repeats the withdrawal when Fleet can be read again.
func (c *Controller) withdraw(ctx context.Context, seen *fleet.Canary, cause string) (Attempt, error) {
	next := seen.Withdraw(cause, time.Now())
	a, err := c.changeOrders(ctx, replaceCanary(seen, next))
	if away := (*awayError)(nil); errors.As(err, &away) {
		c.logger().Warn("the new routes are withdrawn only here", "err", err)
		c.onlyHere.Store(&withdrawal{seen.Trial, cause})
		a, err = c.changeCopy(ctx, replaceCanary(seen, next))
	}
	if err == nil {
		c.logger().Error("canary", "state", next.Trial)
	}
	return a, err
}

// approveDeclared returns the state in which the declared routes of this Controller are approved.
// The error wraps ErrNoHold if they are approved already.
func (c *Controller) approveDeclared(s fleet.State, by string) (fleet.State, error) {
	declared := c.refs.latest()
	id := journal.RoutesID(declared.Table.Routes())
	switch {
	case c.Canary == nil || s.Canary == nil || s.Canary.Declarations == id:
		return s, ErrNoHold
	case len(declared.Unread) > 0:
		return s, fmt.Errorf("controller: nothing is approved: not read since the start: %s", strings.Join(declared.Unread, ", "))
	}
	packed, err := fleet.Pack(declared.Table.Routes())
	if err != nil {
		return s, err
	}
	c.logger().Warn("canary: approved without a trial", "by", by, "declarations", id)
	s.Canary = s.Canary.Approve(id, packed, time.Now())
	return s, nil
}

// approveHeld returns the state in which the held routes are also the approved routes. When the
// hold ends, a Controller whose newer routes wait for their trial serves the approved routes.
// Without approveHeld, these would be the routes that were approved before the rollback.
func (c *Controller) approveHeld(s fleet.State) (fleet.State, error) {
	if c.Canary == nil || s.Canary == nil {
		return s, nil
	}
	table, _, err := s.Hold.Table()
	if err != nil {
		return s, err
	}
	s.Canary = s.Canary.Approve(journal.RoutesID(table.Routes()), s.Hold.Routes, s.Hold.Since)
	return s, nil
}
