package hostlookup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"
)

// maxRetryAfter limits how long a source may ask not to be asked again after a failure: RFC 9520
// section 3.2 forbids to cache a failure for longer than 5 minutes.
const maxRetryAfter = 5 * time.Minute

// A PanicError reports that a call of the source panicked. Every lookup that waited for the call
// gets it.
type PanicError struct {
	Value any    // the value of the panic; nil if the source ended its goroutine with runtime.Goexit
	Stack []byte // of the source, as runtime/debug prints it
}

func (e *PanicError) Error() string {
	if e.Value == nil {
		return "hostlookup: source ended its goroutine"
	}
	return fmt.Sprintf("hostlookup: source panicked: %v", e.Value)
}

// A result is what LookupHost returns.
type result struct {
	Answer
	err error
}

func failed(err error) result { return result{err: err} }

// A call is one call of the source, with the lookups that wait for it. It runs in a goroutine of
// the core, and does not see the contexts of the lookups.
type call struct {
	host     string
	unwanted chan struct{} // closed if no lookup wants the call any more, and it has not begun
	done     chan struct{} // closed after result is set

	result result

	// Guarded by core.mu.
	waiters  int   // lookups that wait for done
	refresh  bool  // the call updates a stale endpoint, so it is wanted without waiters
	begun    bool  // the semaphore has let the call in
	finished bool  // result is set
	overdue  error // not nil: the call is finished by its timeout, and the source has not returned
	cancel   context.CancelFunc
}

// miss answers a lookup that hit could not answer.
func (k *core) miss(ctx context.Context, host string) result {
	r := k.resolve(ctx, host)
	k.lookups.Add(uint8(r.Level))
	return r
}

func (k *core) resolve(ctx context.Context, host string) result {
	if !isHost(host) {
		return failed(ErrNotFound)
	}
	k.mu.Lock()
	c, r := k.join(ctx, host)
	stale := c != nil && k.usable(host, k.clock.now()) != nil
	k.mu.Unlock()
	if c == nil {
		return r
	}
	var patience <-chan time.Time
	if stale {
		timer := time.NewTimer(k.cfg.staleAfter)
		defer timer.Stop()
		patience = timer.C
	}
	for {
		select {
		case <-c.done:
			return c.result
		case <-patience:
			patience = nil
			if r, ok := k.stopWaiting(c, true); ok {
				return r
			}
		case <-ctx.Done():
			if r, ok := k.stopWaiting(c, false); ok {
				return r
			}
			return failed(fmt.Errorf("hostlookup: waiting for the source: %w", context.Cause(ctx)))
		}
	}
}

// join returns the call that a lookup of host has to wait for, and counts the lookup as a waiter.
// If the lookup need not wait, join returns nil and the result of the lookup.
func (k *core) join(ctx context.Context, host string) (*call, result) {
	if k.closed {
		return nil, failed(ErrClosed)
	}
	now := k.clock.now()
	e := k.table.Get(host)
	if e != nil {
		if until, level := unpackState(e.Value.state.Load()); now < until {
			return nil, result{Answer{e.Value.ep, level}, e.Value.err()} // stored after hit looked
		}
		switch {
		case e.Value.failure != nil:
			e = nil
		case now >= k.staleUntil(e):
			k.remove(e)
			e = nil
		}
	}
	c := k.calls[host]
	switch {
	case c != nil && c.overdue != nil:
		// The source has not returned from this call, though its timeout is over. Do not start
		// another.
		if e == nil {
			return nil, result{Answer{Level: Failed}, c.overdue}
		}
	case c == nil && e == nil && ctx.Err() != nil:
		return nil, failed(fmt.Errorf("hostlookup: %w", context.Cause(ctx)))
	case c == nil:
		c = k.start(host)
	}
	// The source has precedence over a stale endpoint, because it may know a better one. A lookup
	// gets the stale endpoint at once in three cases only: the call is overdue, StaleAfter is
	// negative, or the endpoint is within StaleWhileRevalidate.
	if e != nil && (c.overdue != nil || k.cfg.staleAfter == 0 || now < later(e.Value.expires, k.cfg.revalidate)) {
		c.refresh = true
		k.extendStale(e, now, k.cfg.recheck)
		return nil, result{Answer{e.Value.ep, Stale}, nil}
	}
	c.waiters++
	return c, result{}
}

// stopWaiting ends the wait of one lookup for c. It returns the result of c or the stale endpoint,
// if there is one. With slow, the source is slow; later lookups then get the stale endpoint at
// once, until the source answers, and a lookup without a result continues to wait. Without slow,
// the lookup's context has ended.
func (k *core) stopWaiting(c *call, slow bool) (result, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if c.finished {
		c.waiters--
		return c.result, true
	}
	now := k.clock.now()
	if e := k.usable(c.host, now); e != nil {
		c.waiters--
		c.refresh = true
		r := k.staleAnswer(e, now)
		if slow && r.Level == Stale {
			k.extendStale(e, now, k.cfg.recheck)
		}
		return r, true
	}
	if slow {
		return result{}, false // the stale endpoint was forgotten during the wait
	}
	c.waiters--
	if c.waiters == 0 && !c.refresh && !c.begun {
		if k.calls[c.host] == c {
			delete(k.calls, c.host)
		}
		close(c.unwanted)
	}
	return result{}, false
}

// staleAnswer returns the endpoint of a usable entry, in place of the result of a call. The Level
// is not Stale if a Set has refreshed the entry during the call.
func (k *core) staleAnswer(e *item, now int64) result {
	level := Stale
	if until, stored := unpackState(e.Value.state.Load()); now < until {
		level = stored
	}
	return result{Answer{e.Value.ep, level}, nil}
}

func (k *core) start(host string) *call {
	c := &call{
		host:     strings.Clone(host), // host may be a part of a large string
		unwanted: make(chan struct{}), done: make(chan struct{}),
		cancel: func() {},
	}
	k.calls[c.host] = c
	k.running[c] = struct{}{}
	k.wg.Go(func() { k.run(c) })
	return c
}

// run is the goroutine of a call: it waits for the semaphore, calls the source, and stores the
// outcome.
func (k *core) run(c *call) {
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.running, c)
	}()
	if err := k.acquire(c); err != nil {
		k.finish(c, Endpoint{}, err, true)
		return
	}
	defer func() { <-k.semaphore }()

	ctx, cancel := context.WithTimeout(context.Background(), k.cfg.timeout)
	defer cancel()
	k.mu.Lock()
	closed := k.closed
	c.begun = true
	c.cancel = cancel
	k.tally.calls++
	k.mu.Unlock()
	if closed {
		cancel()
	}
	// The lookups stop waiting at the timeout, even if the source does not return then.
	late := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(late)
		k.finish(c, Endpoint{}, fmt.Errorf("hostlookup: source: %w", ctx.Err()), false)
	})
	defer func() {
		if !stop() {
			<-late
		}
	}()
	ep, err := k.askSource(ctx, c)
	k.finish(c, ep, err, true)
}

// acquire waits until fewer than MaxCalls calls run.
func (k *core) acquire(c *call) error {
	select {
	case k.semaphore <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(k.cfg.timeout)
	defer timer.Stop()
	select {
	case k.semaphore <- struct{}{}:
		return nil
	case <-timer.C:
		return ErrBusy
	case <-c.unwanted:
		return context.Canceled // no lookup gets this error
	case <-k.closing:
		return ErrClosed
	}
}

// askSource calls the source. It turns a panic, an early end of the goroutine and a malformed
// endpoint into errors.
func (k *core) askSource(ctx context.Context, c *call) (ep Endpoint, err error) {
	returned := false
	defer func() {
		if !returned {
			e := &PanicError{Value: recover(), Stack: debug.Stack()}
			ep, err = Endpoint{}, e
			if e.Value == nil { // runtime.Goexit, which ends the caller too
				k.finish(c, ep, err, true)
			}
		}
	}()
	answer, err := k.cfg.source.LookupHost(ctx, c.host)
	returned = true
	if err == nil {
		err = answer.Validate()
	}
	return answer.Endpoint, err
}

// finish stores the outcome of a call and wakes the waiters. Only the first finish of a call does
// that: the timeout may come before the source returns. After the source has returned, a lookup
// of the host starts another call.
func (k *core) finish(c *call, ep Endpoint, err error, returned bool) {
	k.mu.Lock()
	first := !c.finished
	sourceFailed := false
	if first {
		c.finished = true
		c.result, sourceFailed = k.settle(c, ep, err)
		c.overdue = err
	}
	if returned {
		c.overdue = nil
		if k.calls[c.host] == c {
			delete(k.calls, c.host)
		}
	}
	k.mu.Unlock()
	if first {
		close(c.done)
	}
	if sourceFailed && k.cfg.sourceFailed != nil {
		k.cfg.sourceFailed(c.host, err)
	}
}

// settle stores the outcome of a call, and returns the result for its waiters. The caller holds
// core.mu.
func (k *core) settle(c *call, ep Endpoint, err error) (r result, sourceFailed bool) {
	now := k.clock.now()
	current := k.calls[c.host] == c
	switch {
	case k.closed:
		return failed(ErrClosed), false
	case !c.begun && !current && c.waiters == 0: // unwanted
		return failed(err), false
	case err == nil:
		if current {
			k.keep(c.host, ep, now)
		} else {
			k.tally.dropped++
		}
		return result{Answer: Answer{Endpoint: ep}}, false
	case errors.Is(err, ErrNotFound):
		k.tally.notFound++
		if current {
			k.keepError(c.host, Negative, err, cmp.Or(errorTTL(err), k.cfg.negativeTTL), now)
		} else {
			k.tally.dropped++
		}
		return failed(err), false
	}
	k.tally.errors++
	retryAfter := min(errorTTL(err), maxRetryAfter)
	if e := k.usable(c.host, now); e != nil {
		r = k.staleAnswer(e, now)
		if r.Level == Stale && current {
			k.extendStale(e, now, max(k.cfg.recheck, retryAfter))
		}
		return r, true
	}
	if current && k.cfg.errorTTL > 0 {
		k.keepError(c.host, Failed, err, max(k.cfg.errorTTL, retryAfter), now)
	} else if current {
		k.removeHost(c.host)
	}
	return failed(err), true
}
