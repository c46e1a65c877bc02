package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg/controller/fleet"
	"github.com/headgate/headgate/haproxycfg/controller/journal"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
)

// Errors of Rollback and Release.
var (
	// ErrNoRollback means that the journal has no entry to which Rollback could return.
	ErrNoRollback = errors.New("controller: no such entry of the journal")
	// ErrRollbackRefused means that Limit or HAProxy rejects the change that Rollback would make.
	ErrRollbackRefused = errors.New("controller: the rollback is refused")
	// ErrNoHold means that there is no hold that Release could end.
	ErrNoHold = errors.New("controller: no routes are held")
)

// HoldStatus describes a hold.
type HoldStatus struct {
	kube.Held
	// Pending says what the latest declarations would change if there were no hold. It is "" if
	// they declare the held routes.
	Pending string
}

// String returns the hold in one line, for people.
func (h HoldStatus) String() string {
	text := (&fleet.Hold{ID: h.ID, Applied: h.Applied, Since: h.Since, By: h.By, Reason: h.Reason}).String()
	if h.Pending != "" {
		text += "; newer declarations " + h.Pending
	}
	return text
}

func (h *heldRoutes) describe() kube.Held {
	return kube.Held{ID: h.hold.ID, Applied: h.hold.Applied, Since: h.hold.Since, By: h.hold.By, Reason: h.hold.Reason}
}

// permits reports whether the next change may be applied even if Limit rejects it. This is so if
// the operator ordered the hold of the routes with Force (see RollbackOrder), and the configuration
// in force was made without this hold. The argument "last" is the report on the configuration in
// force.
func (h *heldRoutes) permits(last kube.Report) bool {
	return h != nil && h.hold.Force && !sameHold(last.Held, h.hold)
}

func sameHold(reported *kube.Held, hold *fleet.Hold) bool {
	if reported == nil || hold == nil {
		return reported == nil && hold == nil
	}
	return reported.ID == hold.ID && reported.Since.Equal(hold.Since)
}

// If a new hold, or the end of a hold, causes a change, causesOfHold returns this cause. The
// argument "last" is the hold with which the configuration in force was made, and the argument
// "hold" is the present hold.
func causesOfHold(last *kube.Held, hold *fleet.Hold) []kube.Cause {
	switch {
	case sameHold(last, hold):
		return nil
	case hold == nil:
		return []kube.Cause{{What: "the hold of configuration " + last.ID + " has ended"}}
	}
	return []kube.Cause{{What: hold.String()}}
}

// RollbackOrder says to which routes Rollback returns.
type RollbackOrder struct {
	// ID is the ID of an applied change in the journal. If several changes have this ID, Rollback
	// returns to the newest of them.
	//
	// If ID is empty, Rollback returns to the newest change whose declared routes differ from the
	// routes in force. While routes are held, it considers only changes older than the held change.
	ID string
	// By is the name of the person or program that orders the rollback. Reason is the reason for
	// this order. Both may be empty.
	By, Reason string
	// Force permits the change to the earlier routes even if Limit rejects it.
	Force bool
}

// text returns the order in one line, for people.
func (o RollbackOrder) text() string {
	text := "rollback"
	if o.By != "" {
		text += " by " + o.By
	}
	if o.Reason != "" {
		text += ": " + o.Reason
	}
	return text
}

// Rollback puts the declared routes of an earlier change into force, and holds them until Release.
// The Controller still follows nodes, services and certificates; see package fleet. It also reads
// newer declarations, and Status.Hold says what they would change.
//
// If Limit or HAProxy rejects the change, Rollback writes nothing, and the error wraps
// ErrRollbackRefused. Otherwise it writes the hold to FleetFile and makes an attempt. The error is
// nil as soon as the hold is written; the Attempt says whether the routes are in force already.
//
// With Canary, an order without an ID withdraws a running trial, and makes no hold.
//
// Call Rollback only while Run is running. It needs a Journal.
func (c *Controller) Rollback(ctx context.Context, order RollbackOrder) (Attempt, error) {
	if c.Journal == nil {
		return Attempt{}, fmt.Errorf("%w: there is no journal", ErrNoRollback)
	}
	now, err := c.orders()
	if err != nil {
		return Attempt{}, err
	}
	if now.held == nil && order.ID == "" && c.Canary != nil && now.state.Canary.Running() != nil {
		return c.withdraw(ctx, now.state.Canary, order.text())
	}
	hold, err := c.findHold(order, now)
	if err != nil {
		return Attempt{}, err
	}
	if err := c.rehearseHold(ctx, hold); err != nil {
		return Attempt{}, err
	}
	return c.changeOrders(ctx, func(s fleet.State) (fleet.State, error) {
		s.Hold = hold
		c.logger().Warn("rollback", "hold", hold)
		return c.approveHeld(s)
	})
}

// Release ends the hold (see Rollback), and makes an attempt to apply the latest declarations. If
// Limit rejects that change, the Attempt is Refused, and Force can apply it. Call Release only
// while Run is running.
//
// With Canary, Release can also approve the declared routes of this Controller for all Controllers:
//
//   - Without a hold, Release approves them, even if they had no trial or were withdrawn. If some
//     declarations have not been read since the start, Release returns an error, which names them.
//   - If Release ends a hold, it approves the declared routes only if they were in force or
//     withdrawn earlier. Other routes get a trial.
//
// The error wraps ErrNoHold if there is neither a hold to end nor a route to approve. The error is
// nil as soon as the new state is written. The argument "by" is the name of the person or program,
// for the log; it may be empty.
func (c *Controller) Release(ctx context.Context, by string) (Attempt, error) {
	return c.changeOrders(ctx, func(s fleet.State) (fleet.State, error) {
		if s.Hold == nil {
			return c.approveDeclared(s, by)
		}
		c.logger().Warn("release", "by", by, "hold", s.Hold)
		s.Hold = nil
		if c.Canary != nil && s.Canary != nil && slices.Contains(s.Canary.Earlier, journal.RoutesID(c.refs.latest().Table.Routes())) {
			return c.approveDeclared(s, by)
		}
		return s, nil
	})
}

// findHold returns the hold that a RollbackOrder creates. The argument "now" contains the present
// orders.
func (c *Controller) findHold(order RollbackOrder, now *orders) (*fleet.Hold, error) {
	entries, _, err := c.Journal.List()
	if err != nil {
		return nil, err
	}
	if k := now.state.Canary; order.ID == "" && k != nil && k.Trial != nil { // its routes may do harm
		entries = slices.DeleteFunc(entries, func(e journal.Entry) bool { return e.Declarations == k.Trial.Declarations })
	}
	entry, err := chooseEntry(entries, order.ID, now.held)
	if err != nil {
		return nil, err
	}
	state, err := c.Journal.State(entry)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoRollback, err)
	}
	packed, err := fleet.Pack(state.Routes)
	if err != nil {
		return nil, err
	}
	hold := &fleet.Hold{
		ID: entry.ID, Applied: entry.Time, Since: time.Now().UTC().Truncate(time.Millisecond),
		By: order.By, Reason: order.Reason, Force: order.Force, Routes: packed,
	}
	if err := hold.Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRollbackRefused, err)
	}
	return hold, nil
}

// chooseEntry returns the journal entry of the change to which Rollback goes back, for a
// RollbackOrder with this ID. entries are all entries of the journal, the oldest first. The
// argument "held" contains the held routes.
func chooseEntry(entries []journal.Entry, id string, held *heldRoutes) (journal.Entry, error) {
	applied := slices.DeleteFunc(slices.Clone(entries), func(e journal.Entry) bool { return e.Result != journal.Applied })
	slices.Reverse(applied)
	if id != "" {
		for _, e := range applied {
			if e.ID == id {
				return e, nil
			}
		}
		return journal.Entry{}, fmt.Errorf("%w: no applied change has the ID %.100q", ErrNoRollback, id)
	}
	if len(applied) == 0 {
		return journal.Entry{}, fmt.Errorf("%w: there is no applied change", ErrNoRollback)
	}
	declared, older := applied[0].Declarations, applied[1:]
	if held != nil {
		declared = journal.RoutesID(held.table.Routes())
		older = slices.DeleteFunc(applied, func(e journal.Entry) bool { return !e.Time.Before(held.hold.Applied) })
	}
	for _, e := range older {
		if e.Declarations != declared {
			return e, nil
		}
	}
	return journal.Entry{}, fmt.Errorf("%w: no older change has other declared routes", ErrNoRollback)
}

// rehearseHold returns an error if Limit or HAProxy rejects the change to held routes.
func (c *Controller) rehearseHold(ctx context.Context, hold *fleet.Hold) error {
	table, problems, err := hold.Table()
	if err != nil {
		return err
	}
	if len(problems) > 0 {
		return fmt.Errorf("%w: this version of the program cannot serve a route: %w", ErrRollbackRefused, problems[0])
	}
	_, err = c.inLoop(ctx, func(ctx context.Context, in inputs) (bool, error) {
		now, err := c.orders()
		if err != nil {
			return false, err
		}
		by := &orders{state: now.state, held: &heldRoutes{hold: hold, table: table}}
		if _, err := c.rehearse(ctx, in, by, hold.Force); err != nil {
			return false, fmt.Errorf("%w: %w", ErrRollbackRefused, err)
		}
		return false, nil
	})
	return err
}

// rehearse returns the change that the Controller would make with these inputs and orders, and an
// error if Limit or HAProxy rejects the change. If force is true, rehearse ignores Limit.
func (c *Controller) rehearse(ctx context.Context, in inputs, by *orders, force bool) (*Change, error) {
	last, err := c.readReport()
	if err != nil {
		return nil, err
	}
	ch, err := c.plan(ctx, in, by, last, func(*Change) []kube.Cause { return nil }, time.Now())
	if err != nil {
		return nil, err
	}
	if !force {
		if err := c.limit(ch); err != nil {
			return ch, err
		}
	}
	if ch.Diff.Empty() {
		return ch, nil
	}
	return ch, ch.plan.Check(ctx)
}

// review is the result of comparing the latest declarations with held routes.
type review struct {
	hold     *fleet.Hold
	declared int // inputs.declared
	pending  string
	since    time.Time // of this review
}

// reviewHeld sets Status.Hold and Status.Canary after an attempt to apply a configuration. If the
// declarations or the hold are new, reviewHeld finds out what the declarations would change.
func (a *applier) reviewHeld(ctx context.Context, in inputs, t Attempt) {
	if t.Change == nil || a.cutOff(ctx) {
		return
	}
	by, err := a.c.orders()
	if err != nil {
		return // the next attempt fails with this error
	}
	by = a.c.withCanary(in, by)
	if by.held == nil {
		a.reviewed = review{}
		a.c.status.setHold(nil, a.c.canaryStatus(by, a.reviewed))
		return
	}
	if a.reviewed.hold != by.held.hold || a.reviewed.declared != in.declared {
		pending := a.c.pending(ctx, in, by)
		if a.cutOff(ctx) {
			return // the text in pending may be the error of an interrupted check
		}
		a.reviewed = review{hold: by.held.hold, declared: in.declared, pending: pending, since: toSeconds(a.clock())}
		if a.reviewed.pending != "" {
			a.log.Warn("newer declarations are not applied", "they", a.reviewed.pending, "hold", by.held.hold)
		}
	}
	var hold *HoldStatus
	if by.held.canary == nil {
		hold = &HoldStatus{Held: by.held.describe(), Pending: a.reviewed.pending}
	}
	a.c.status.setHold(hold, a.c.canaryStatus(by, a.reviewed))
}

// pending says what the latest declarations would change if there were no hold. It is "" if they
// declare the held routes.
func (c *Controller) pending(ctx context.Context, in inputs, by *orders) string {
	text := compareRoutes(by.held.table.Routes(), in.routes.Table.Routes())
	if text == "" {
		return ""
	}
	ch, err := c.rehearse(ctx, in, &orders{state: by.state}, false)
	if ch != nil && ch.plan != nil {
		s := ch.Diff.Servers
		text += fmt.Sprintf("; and servers: %d added, %d removed, %d changed", s.Added, s.Removed, s.Altered)
	}
	if err != nil {
		text += "; this would be refused: " + err.Error()
	}
	return "would change routes: " + text
}

// compareRoutes names the routes that differ between the two lists. Both lists must be sorted. It
// returns "" if all routes are equal, even if they are declared in other places.
func compareRoutes(before, after []routes.Route) string {
	var added, removed, changed []string
	for len(before) > 0 || len(after) > 0 {
		order := 0
		switch {
		case len(before) == 0:
			order = 1
		case len(after) == 0:
			order = -1
		default:
			order = before[0].Compare(after[0])
		}
		switch {
		case order < 0:
			removed = append(removed, before[0].Name())
		case order > 0:
			added = append(added, after[0].Name())
		case journal.RoutesID(before[:1]) != journal.RoutesID(after[:1]):
			changed = append(changed, after[0].Name())
		}
		if order <= 0 {
			before = before[1:]
		}
		if order >= 0 {
			after = after[1:]
		}
	}
	var parts []string
	for _, p := range []struct {
		what  string
		names []string
	}{{"added", added}, {"removed", removed}, {"changed", changed}} {
		if n := len(p.names); n > 0 {
			names := strings.Join(p.names[:min(n, 3)], ", ")
			if n > 3 {
				names += " and others"
			}
			parts = append(parts, fmt.Sprintf("%d %s (%s)", n, p.what, names))
		}
	}
	return strings.Join(parts, ", ")
}
