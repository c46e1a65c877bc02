package main

import (
	"cmp"
	"context"
	"errors"
	"time"
)

// loop applies the latest state, never more often than it may. It owns the applier.
type loop struct {
	inbox *inbox
	apply func(ctx context.Context, in state, now time.Time, allowed permit) (outcome, error)
	// seen is told of each state before it may be applied, and whether all clusters
	// have been waited for; applied of each attempt.
	seen    func(in state, waited bool)
	applied func(outcome, error)
	// leads is told when a term of leadership begins and when it is over.
	leads func(bool)

	minInterval  time.Duration // between two attempts
	startTimeout time.Duration // to wait for all clusters
	recheck      time.Duration // time passes for nodes that are not ready, and others write
	backoff      time.Duration // after the first failure; doubled up to recheck
	force        bool          // permits what the first attempt would change, and nothing else

	// leadership is nil for one that always leads.
	leadership <-chan term
	forced     chan forceRequest
}

// term is a time of leadership. Its context ends with it; a nil one is that of
// others.
type term struct{ ctx context.Context }

// forceRequest asks to apply what is refused: the change with this ID, or whatever it
// is if that is empty. reply has room for one.
type forceRequest struct {
	id    string
	reply chan forceReply
}

type forceReply struct {
	outcome outcome
	err     error
}

var errNotLeading = errors.New("another terminator leads")

// run goes on until ctx ends.
func (l *loop) run(ctx context.Context) {
	var (
		started   = false // all clusters answered, or were waited for
		dirty     = false // something may be to apply
		lead      = term{ctx}
		last      time.Time // of the last attempt
		notBefore time.Time
		failures  int
		forcedID  string // of the change that force is for, once it is known
	)
	if l.leadership != nil {
		lead = term{}
	}
	start := time.NewTimer(l.startTimeout)
	defer start.Stop()
	due := time.NewTimer(0)
	defer due.Stop()
	recheck := time.NewTicker(l.recheck)
	defer recheck.Stop()

	attempt := func(allowed permit) (outcome, error) {
		dirty = false
		if l.force {
			asked := allowed
			allowed = func(id string) bool {
				forcedID = cmp.Or(forcedID, id)
				return id == forcedID || asked(id)
			}
		}
		applying, done := graceful(ctx, lead.ctx)
		result, err := l.apply(applying, l.inbox.take(), time.Now(), allowed)
		done()
		last = time.Now()
		notBefore = last.Add(l.minInterval)
		failures++
		if result != failed {
			failures, l.force = 0, false
		} else if lead.ctx.Err() != nil && ctx.Err() == nil {
			return result, err // cut off; the next leader does it
		} else if lead.ctx.Err() == nil {
			dirty = true
			notBefore = last.Add(l.pause(failures, l.recheck))
		}
		l.applied(result, err)
		return result, err
	}
	for {
		if dirty && started && lead.ctx != nil {
			if lead.ctx.Err() != nil { // over, though nobody has said so yet
				lead = term{}
				continue
			}
			if wait := time.Until(notBefore); wait > 0 {
				due.Reset(wait)
			} else {
				_, _ = attempt(never)
				continue
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-l.inbox.wake:
			in := l.inbox.take()
			started = started || in.answered()
			l.seen(in, started)
			dirty = true
			if soon := last.Add(l.pause(failures, hurry)); soon.Before(notBefore) {
				notBefore = soon // do not wait for a retry
			}
		case <-start.C:
			dirty = dirty || !started
			started = true
			l.seen(l.inbox.take(), true)
		case <-due.C:
		case <-recheck.C:
			dirty = true
		case lead = <-l.leadership:
			if lead.ctx != nil && lead.ctx.Err() != nil { // over already
				lead = term{}
			}
			if lead.ctx != nil {
				dirty, notBefore, failures = true, time.Time{}, 0
			}
			l.leads(lead.ctx != nil)
		case r := <-l.forced:
			switch {
			case lead.ctx == nil || lead.ctx.Err() != nil:
				r.reply <- forceReply{failed, errNotLeading}
			case !started:
				r.reply <- forceReply{failed, errors.New("not all clusters have been waited for")}
			default:
				result, err := attempt(func(id string) bool { return r.id == "" || r.id == id })
				r.reply <- forceReply{result, err}
			}
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// hurry is for how long a change waits, at most, after attempts that failed: it may be
// what they lacked.
const hurry = 5 * time.Second

// pause is the time between two attempts after so many failures.
func (l *loop) pause(failures int, most time.Duration) time.Duration {
	if failures == 0 {
		return l.minInterval
	}
	return max(l.minInterval, min(l.backoff<<min(failures-1, 10), most))
}

// stopGrace is for how long an attempt that has begun may go on when the terminator
// is told to stop: a reload whose outcome nobody hears of has to be made again.
const stopGrace = 5 * time.Second

// graceful returns a context that ends with the term, and stopGrace after ctx.
func graceful(ctx, term context.Context) (applying context.Context, done func()) {
	attempt, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stopping := context.AfterFunc(ctx, func() {
		sleep(attempt, stopGrace)
		cancel()
	})
	if term == ctx {
		return attempt, func() { stopping(); cancel() }
	}
	lost := context.AfterFunc(term, cancel)
	return withTerm{attempt, term}, func() { lost(); stopping(); cancel() }
}

// withTerm is a context that is over when the term is, at the very moment.
type withTerm struct {
	context.Context
	term context.Context
}

// Err implements context.Context.
func (c withTerm) Err() error {
	if err := c.Context.Err(); err != nil {
		return err
	}
	return c.term.Err()
}
