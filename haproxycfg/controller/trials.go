package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/headgate/headgate/haproxycfg/controller/canary"
	"github.com/headgate/headgate/haproxycfg/controller/fleet"
)

// trials begins, observes and ends the trials of new routes on this Controller. Only one goroutine
// may use it.
type trials struct {
	c      *Controller
	meter  canary.Meter
	recent canary.Recent // without the responses during a trial

	declared string // ID of the declared routes at the last tick
	newest   string // ID of the routes that were tried or approved last, at the last tick
	fresh    bool   // see fleet.Member
	sampled  time.Time

	seen      *fleet.Trial // trial of another Controller
	seenSince time.Time

	began *observation // by this process; its trial is the last one that this process has begun
	now   *observation // nil: no trial is running here

	lastErr string // so that a repeated error is logged once
}

// observation is what this process has seen of its trial.
type observation struct {
	trial   *fleet.Trial
	inForce bool
	last    time.Time // when the last round ended
	canary.Observation
}

// snapshot is the part of the loop's state that the trials read.
type snapshot struct {
	state    fleet.State
	declared Declarations
	id       string // of the declared routes
	tried    tried
}

func newTrials(c *Controller) *trials {
	return &trials{c: c, recent: canary.Recent{Length: c.Canary.Policy.Length()}}
}

func (r *trials) run(ctx context.Context) {
	tick := time.NewTicker(min(r.c.Canary.interval(), time.Second))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			err := r.tick(ctx, time.Now())
			text := ""
			if err != nil && ctx.Err() == nil {
				if text = err.Error(); text != r.lastErr {
					r.c.logger().Error("canary", "err", err)
				}
			}
			r.lastErr = text
		}
	}
}

// look returns a snapshot. ok is false if this process does not lead, or if its inputs are not
// complete yet.
func (r *trials) look(ctx context.Context) (s snapshot, ok bool, err error) {
	_, err = r.c.inLoop(ctx, func(_ context.Context, in inputs) (bool, error) {
		if len(in.routes.Unread) > 0 || in.shared != nil && !in.shared.read {
			return false, nil
		}
		by, err := r.c.orders()
		if err != nil {
			return false, err
		}
		s, ok = snapshot{by.state, in.routes, r.c.declaredID(in), r.c.tried}, true
		return false, nil
	})
	if errors.Is(err, ErrNotLeading) {
		err = nil
	}
	return s, ok, err
}

func (r *trials) tick(ctx context.Context, now time.Time) error {
	s, ok, err := r.look(ctx)
	if err != nil {
		return err
	}
	if !ok || s.state.Hold != nil { // an operator has decided which routes are in force
		r.now, r.seen = nil, nil
		return nil
	}
	state := s.state.Canary
	newest := newestOf(state)
	switch {
	case r.declared != s.id:
		r.fresh = r.declared != ""
	case r.newest != newest && newest != s.id:
		r.fresh = false
	}
	r.declared, r.newest = s.id, newest
	m := fleet.Member{Terminator: r.c.Canary.Name, Declarations: s.id, Fresh: r.fresh, Waited: r.waited(state.Running(), now)}
	step := state.Next(m, r.c.Canary.patience())
	switch w := r.c.onlyHere.Load(); {
	case w != nil && w.trial.Is(state.Running()): // Fleet lacks the withdrawal
		_, err = r.c.withdraw(ctx, state, w.cause)
	case step == fleet.Observe:
		err = r.observe(ctx, s, now)
	default:
		r.sample(ctx, now)
		err = r.change(ctx, step, s, now)
	}
	if errors.Is(err, errOtherTrial) || errors.Is(err, ErrNotLeading) {
		return nil // the next tick sees the new state
	}
	return err
}

// newestOf returns the ID of the routes that were tried or approved last. It returns "" if no routes are
// approved yet.
func newestOf(c *fleet.Canary) string {
	switch {
	case c == nil:
		return ""
	case c.Trial != nil:
		return c.Trial.Declarations
	}
	return c.Declarations
}

// waited returns for how long this process has seen the running trial of another Controller. It
// returns 0 if no trial runs, or if the trial is one of this Controller.
func (r *trials) waited(running *fleet.Trial, now time.Time) time.Duration {
	if running == nil || running.Terminator == r.c.Canary.Name {
		r.seen = nil
		return 0
	}
	if !r.seen.Is(running) {
		r.seen, r.seenSince = running, now
	}
	return now.Sub(r.seenSince)
}

// sample reads HAProxy's counters of responses while this Controller serves approved routes. The next
// trial is compared with these responses. If the counters cannot be read, sample ignores the error,
// and the comparison has fewer responses.
func (r *trials) sample(ctx context.Context, now time.Time) {
	if r.c.Canary.Counters == nil || r.now == nil && now.Sub(r.sampled) < r.c.Canary.interval() {
		return
	}
	r.sampled = now
	if counts, err := r.c.Canary.Counters(ctx); err == nil {
		since := r.meter.Read(counts)
		if r.now == nil { // otherwise some of these responses belong to a trial that has just ended
			r.recent.Add(now, since)
		}
	}
}

// change carries out a step that changes the state in Fleet.
func (r *trials) change(ctx context.Context, step fleet.Step, s snapshot, now time.Time) error {
	state := s.state.Canary
	switch step {
	case fleet.Approve:
		return r.approve(ctx, s, now)
	case fleet.End:
		r.now = nil
		return r.c.changeCanary(ctx, state, state.End())
	case fleet.Begin:
		return r.begin(ctx, s, now)
	}
	r.now = nil
	return nil
}

func (r *trials) approve(ctx context.Context, s snapshot, now time.Time) error {
	packed, err := fleet.Pack(s.declared.Table.Routes())
	if err != nil {
		return err
	}
	r.now = nil
	if err := r.c.changeCanary(ctx, s.state.Canary, s.state.Canary.Approve(s.id, packed, now)); err != nil {
		return err
	}
	r.c.logger().Info("canary: the declared routes are approved", "declarations", s.id)
	return nil
}

// begin begins a trial of the declared routes. The trial is compared with the time before it. If the
// trial replaces a running trial on this Controller, because the declarations have changed, it is
// compared with the time before the replaced trial.
func (r *trials) begin(ctx context.Context, s snapshot, now time.Time) error {
	t := fleet.Trial{Declarations: s.id, Terminator: r.c.Canary.Name, Since: now.UTC().Truncate(time.Millisecond)}
	next := &observation{trial: &t}
	if last := s.state.Canary.Running(); last != nil && last.Terminator == t.Terminator {
		t.Failing, t.Responses, t.Errors, t.ConnErrors = last.Failing, last.Responses, last.Errors, last.ConnErrors
		if r.began != nil && r.began.trial.Is(last) {
			next.Before = r.began.Before
		}
	} else {
		next.Before = r.recent.Counts()
		sum := next.Before.Sum()
		t.Responses, t.Errors, t.ConnErrors = sum.Responses, sum.Errors, sum.ConnErrors
		for probe, err := range r.probe(ctx) {
			t.Failing = append(t.Failing, probe)
			r.c.logger().Warn("canary: a probe fails before the trial, so it does not count", "probe", probe, "err", err)
		}
		slices.Sort(t.Failing)
	}
	if err := r.c.changeCanary(ctx, s.state.Canary, s.state.Canary.Try(t)); err != nil {
		return err
	}
	r.began, r.now = next, nil
	r.c.logger().Info("canary", "state", &t)
	return nil
}

func (r *trials) probe(ctx context.Context) map[string]error {
	if r.c.Canary.Probe == nil {
		return nil
	}
	return r.c.Canary.Probe(ctx)
}

// observe makes a round of the running trial of this Controller: it reads the counters and runs the
// probes. If the results suffice to approve or withdraw the routes, observe ends the trial.
func (r *trials) observe(ctx context.Context, s snapshot, now time.Time) error {
	t := s.state.Canary.Running()
	if r.now == nil || !r.now.trial.Is(t) {
		r.now = &observation{trial: t}
		r.now.Total = canary.Counters{Responses: t.Responses, Errors: t.Errors, ConnErrors: t.ConnErrors}
		if r.began != nil && r.began.trial.Is(t) {
			r.now.Before = r.began.Before
		}
	}
	o := r.now
	if !o.inForce {
		switch {
		case s.tried.id != s.id || s.tried.outcome == "":
			return nil
		case s.tried.rejected():
			_, err := r.c.withdraw(ctx, s.state.Canary, fmt.Sprintf("%s: %v", s.tried.outcome, s.tried.err))
			return err
		case s.tried.outcome != Written && s.tried.outcome != Unchanged:
			return nil // the next attempt may succeed; otherwise another Controller begins a trial
		}
		if counts, err := r.counters(ctx); err == nil {
			r.meter.Read(counts) // responses to requests before the change
			o.inForce, o.last, o.After = true, now, canary.Counts{}
		}
		return nil
	}
	if now.Sub(o.last) < r.c.Canary.interval() {
		return nil
	}
	counts, err := r.counters(ctx)
	if err == nil {
		o.After.Add(r.meter.Read(counts))
		o.Counted += now.Sub(o.last)
	}
	o.last = now
	o.Failing = nextFailures(o.Failing, r.probe(ctx), t.Failing)
	if ctx.Err() != nil {
		return nil // the probes were interrupted
	}
	switch verdict, cause := r.c.Canary.Policy.Decide(o.Observation); {
	case verdict == canary.Withdrawn:
		_, err := r.c.withdraw(ctx, s.state.Canary, cause)
		return err
	case verdict == canary.Approved && err == nil:
		return r.approve(ctx, s, now)
	}
	return err
}

func (r *trials) counters(ctx context.Context) (canary.Counts, error) {
	if r.c.Canary.Counters == nil {
		return nil, nil
	}
	return r.c.Canary.Counters(ctx)
}

// nextFailures returns the probes that fail now, sorted, with the number of rounds for which they have
// failed. The argument "last" is the result of the last round, and "failed" has the errors of this
// round. nextFailures leaves out the probes in "before", which failed before the trial.
func nextFailures(last []canary.Failure, failed map[string]error, before []string) (now []canary.Failure) {
	for probe, err := range failed {
		if slices.Contains(before, probe) {
			continue
		}
		f := canary.Failure{Probe: probe, Rounds: 1, Err: err.Error()}
		if i := slices.IndexFunc(last, func(f canary.Failure) bool { return f.Probe == probe }); i >= 0 {
			f.Rounds += last[i].Rounds
		}
		now = append(now, f)
	}
	slices.SortFunc(now, func(a, b canary.Failure) int { return cmp.Compare(a.Probe, b.Probe) })
	return now
}
