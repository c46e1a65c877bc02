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

// maxRetryAfter is the longest pause that a source can request after a failure. RFC 9520 section
// 3.2 forbids to cache a failure for longer than 5 minutes.
const maxRetryAfter = 5 * time.Minute

// A PanicError reports that the Source has panicked during a call. If several lookups waited for
// the answer of this call, each of them gets the PanicError.
type PanicError struct {
	Value any    // the value of the panic; nil if the source ended its goroutine with runtime.Goexit
	Stack []byte // the stack of the source, in the format of runtime/debug.Stack
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

// A call is one call of the source for one host, in a goroutine of the core. Any number of lookups
// may wait for its result. It does not use their contexts, so it continues even if all of them stop
// waiting.
type call struct {
	host     string
	unwanted chan struct{} // closed if no lookup waits any more before the call of the source begins
	done     chan struct{} // closed after result is set

	result result

	// Guarded by core.mu.
	waiters  int   // lookups that wait for done
	refresh  bool  // the call updates a stale endpoint, so it must run even if no lookup waits
	begun    bool  // the call holds the semaphore
	finished bool  // result is set
	overdue  error // between the timeout and the return of the source: the timeout error; otherwise nil
	cancel   context.CancelFunc
}

// The method "miss" answers a lookup that the method "hit" could not answer. miss calls the source,
// or waits for a call that runs already. If hit has only overlooked an entry, miss returns that
// entry.
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
		patience = time.After(k.cfg.staleAfter)
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

// The method "join" returns the call whose result a lookup of host has to wait for, and counts the
// lookup as a waiter of this call. If the lookup does not have to wait, join returns nil and the
// result of the lookup.
func (k *core) join(ctx context.Context, host string) (*call, result) {
	if k.closed {
		return nil, failed(ErrClosed)
	}
	now := k.clock.now()
	e := k.table.Get(host)
	if e != nil {
		if until, level := unpackState(e.Value.state.Load()); now < until {
			return nil, result{Answer{e.Value.ep, level}, e.Value.err()} // stored after hit had read the table
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
		// A call for this host has timed out, but the source still works on it. Do not start a
		// second call at the same time: this lookup fails with the error of the time-out.
		if e == nil {
			return nil, result{Answer{Level: Failed}, c.overdue}
		}
	case c == nil && e == nil && ctx.Err() != nil:
		return nil, failed(fmt.Errorf("hostlookup: %w", context.Cause(ctx)))
	case c == nil:
		c = k.start(host)
	}
	// A lookup waits for the source even if there is a stale endpoint, except in these cases:
	//
	//   - the running call has exceeded its timeout;
	//   - StaleAfter is negative;
	//   - the TTL is not Revalidate, and ended less than StaleWhileRevalidate ago.
	if e != nil && (c.overdue != nil || k.cfg.staleAfter == 0 || e.Value.ep.TTL != Revalidate && now < later(e.Value.expires, k.cfg.revalidate)) {
		c.refresh = true
		k.extendStale(e, now, k.cfg.recheck)
		return nil, result{Answer{e.Value.ep, Stale}, nil}
	}
	c.waiters++
	return c, result{}
}

// stopWaiting ends the wait of a lookup for the call c. If c has ended in the meantime, the lookup
// gets the result of c, and otherwise the stale endpoint of the host. If there is none, stopWaiting
// returns false.
//
// slow is true if StaleAfter has passed, and false if the context of the lookup has ended. If slow
// is true, later lookups get the stale endpoint immediately, until the source answers.
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
		return result{}, false // Forget has removed the stale endpoint during the wait
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

// staleAnswer returns the stored endpoint of e for a lookup whose call of the source has failed or
// takes too long. The endpoint is usually past its TTL, and the Level is then Stale. If Set has
// stored a new endpoint during the call, the Level is Hit.
func (k *core) staleAnswer(e *item, now int64) result {
	level := Stale
	if until, stored := unpackState(e.Value.state.Load()); now < until {
		level = stored
	}
	return result{Answer{e.Value.ep, level}, nil}
}

func (k *core) start(host string) *call {
	c := &call{
		host:     strings.Clone(host), // host may be a part of a large string, which the cache must not keep in memory
		unwanted: make(chan struct{}), done: make(chan struct{}),
		cancel: func() {},
	}
	k.calls[c.host] = c
	k.running[c] = struct{}{}
	k.wg.Go(func() { k.run(c) })
	return c
}

// run is the goroutine of a call. It waits until fewer than MaxCalls calls are running, calls the
// source, and stores the outcome.
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
	k.counted.Calls++
	k.mu.Unlock()
	if closed {
		cancel()
	}
	// At the timeout the lookups stop waiting, even if the source has not returned.
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

// acquire waits for a place in the semaphore, which limits the calls of the source to MaxCalls.
func (k *core) acquire(c *call) error {
	select {
	case k.semaphore <- struct{}{}:
		return nil
	default:
	}
	select {
	case k.semaphore <- struct{}{}:
		return nil
	case <-time.After(k.cfg.timeout):
		return ErrBusy
	case <-c.unwanted:
		return context.Canceled // no lookup gets this error
	case <-k.closing:
		return ErrClosed
	}
}

// askSource calls the source. It returns an error if the source panics, calls runtime.Goexit, or
// returns a malformed endpoint.
func (k *core) askSource(ctx context.Context, c *call) (ep Endpoint, err error) {
	returned := false
	defer func() {
		if !returned {
			e := &PanicError{Value: recover(), Stack: debug.Stack()}
			ep, err = Endpoint{}, e
			if e.Value == nil { // the source has called runtime.Goexit, which also ends this goroutine
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

// finish stores the outcome of a call of the source, and wakes the lookups that wait for it. It may
// run twice: at the timeout, and when the source returns (returned is true). It stores only the
// first outcome. A later lookup of the host can call the source again only after the source has
// returned.
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

// The method "settle" stores the outcome of a call of the source that has ended or timed out. If
// "detach" was called for this call, settle does not store the outcome. It returns the result for
// the waiting lookups, and whether the source itself has failed. The caller must hold core.mu.
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
			k.counted.Dropped++
		}
		return result{Answer: Answer{Endpoint: ep}}, false
	case errors.Is(err, ErrNotFound):
		k.counted.NotFound++
		if current {
			// The source does not know the host, so the source has no wildcard that covers the
			// host. If the cache has stored such a wildcard from an earlier answer, remove it.
			k.removeHost(wildcardOf(c.host))
			k.keepError(c.host, Negative, err, cmp.Or(errorTTL(err), k.cfg.negativeTTL), now)
		} else {
			k.counted.Dropped++
		}
		return failed(err), false
	}
	k.counted.Errors++
	retryAfter := min(errorTTL(err), maxRetryAfter)
	e := k.usable(c.host, now)
	if e == nil {
		e = k.inherit(c.host, now)
	}
	if e != nil {
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
