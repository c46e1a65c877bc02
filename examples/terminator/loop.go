package main

import (
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
	// gained is told when a term of leadership begins.
	gained func()

	minInterval  time.Duration // between two attempts
	startTimeout time.Duration // to wait for all clusters
	recheck      time.Duration // time passes for nodes that are not ready, and others write
	backoff      time.Duration // after the first failure; doubled up to recheck
	force        bool          // permits the first apply

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
			allowed, l.force = func(string) bool { return true }, false
		}
		applying, done := graceful(ctx, lead.ctx)
		result, err := l.apply(applying, l.inbox.take(), time.Now(), allowed)
		done()
		last = time.Now()
		notBefore = last.Add(l.minInterval)
		failures++
		if result != failed {
			failures = 0
		} else if lead.ctx.Err() == nil {
			dirty = true
			notBefore = last.Add(max(l.minInterval, min(l.backoff<<min(failures-1, 10), l.recheck)))
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
			if soon := last.Add(l.minInterval); soon.Before(notBefore) {
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
				dirty, notBefore = true, time.Time{}
				l.gained()
			}
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

// stopGrace is for how long an attempt that has begun may go on when the terminator
// is told to stop: a reload whose outcome nobody hears of has to be made again.
const stopGrace = 5 * time.Second

// graceful returns a context that ends with the term, and stopGrace after ctx.
func graceful(ctx, term context.Context) (applying context.Context, done func()) {
	applying, cancel := context.WithCancel(context.WithoutCancel(ctx))
	lost := func() bool { return true }
	if term != ctx {
		lost = context.AfterFunc(term, cancel)
	}
	stopping := context.AfterFunc(ctx, func() {
		sleep(applying, stopGrace)
		cancel()
	})
	done = func() { lost(); stopping(); cancel() }
	if term == ctx {
		return applying, done
	}
	return withTerm{applying, term}, done
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
