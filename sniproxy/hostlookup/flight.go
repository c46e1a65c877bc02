package hostlookup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// maxRetryAfter bounds the wish of a source to be left alone after a failure
// (RFC 9520 section 3.2: failures are not cached for longer than 5 minutes).
const maxRetryAfter = 5 * time.Minute

// A PanicError is what everyone gets who waited for a source call that panicked.
type PanicError struct {
	Value any    // what panic was called with; nil if the source ended its goroutine
	Stack []byte // of the source, as runtime/debug prints it
}

func (e *PanicError) Error() string {
	if e.Value == nil {
		return "hostlookup: source ended its goroutine"
	}
	return fmt.Sprintf("hostlookup: source panicked: %v", e.Value)
}

// A flight is one call of the source, and those who wait for it. Its goroutine
// belongs to the core. It has nothing of its callers' contexts.
type flight struct {
	hash uint64
	host string
	quit chan struct{} // closed when nobody wants the flight before its turn came
	done chan struct{} // closed after answer was set

	answer answer

	// Guarded by core.mu.
	waiters  int
	wanted   bool  // even without waiters
	begun    bool  // it is its turn: the source is called
	finished bool  // answer is set
	stuck    error // why it is finished though the source has not returned, or nil
	cancel   context.CancelFunc
}

type answer struct {
	ep    Endpoint
	level Level
	err   error
}

// miss is the way of a lookup that the table alone could not answer.
func (k *core) miss(ctx context.Context, hash uint64, host string) answer {
	a := k.resolve(ctx, hash, host)
	k.counters.add(a.level)
	return a
}

func (k *core) resolve(ctx context.Context, hash uint64, host string) answer {
	if !nameFits(host) {
		return answer{err: ErrNotFound}
	}
	k.mu.Lock()
	f, a := k.join(ctx, hash, host)
	stale := f != nil && k.usable(hash, host, k.clock.now()) != nil
	k.mu.Unlock()
	if f == nil {
		return a
	}
	var patience <-chan time.Time
	if stale {
		timer := time.NewTimer(k.cfg.wait)
		defer timer.Stop()
		patience = timer.C
	}
	for {
		select {
		case <-f.done:
			return f.answer
		case <-patience:
			patience = nil
			if a, ok := k.insteadOf(f, true); ok {
				return a
			}
		case <-ctx.Done():
			if a, ok := k.insteadOf(f, false); ok {
				return a
			}
			return answer{err: fmt.Errorf("hostlookup: waiting for the source: %w", context.Cause(ctx))}
		}
	}
}

// join returns either an answer, or a flight that the caller now waits for.
func (k *core) join(ctx context.Context, hash uint64, host string) (*flight, answer) {
	if k.closed {
		return nil, answer{err: ErrClosed}
	}
	now := k.clock.now()
	e := k.find(hash, host)
	if e != nil {
		if until, level := unpackState(e.state.Load()); now < until {
			return nil, answer{e.ep, level, e.err()} // stored since the look without the lock
		}
		if now >= e.useless && e.positive() {
			k.remove(e)
			e = nil
		}
	}
	var stale *entry
	if e != nil && e.positive() {
		stale = e
	}
	f := k.flights[host]
	switch {
	case f != nil && f.stuck != nil:
		// The source is past its time-out and does not return. A second call would
		// only be stuck beside it.
		if stale == nil {
			return nil, answer{level: Failed, err: f.stuck}
		}
	case f == nil && stale == nil && ctx.Err() != nil:
		return nil, answer{err: fmt.Errorf("hostlookup: %w", context.Cause(ctx))}
	case f == nil:
		f = k.start(hash, host)
	}
	if stale == nil {
		f.waiters++
		return f, answer{}
	}
	// Otherwise the source comes first, each time: to serve stale endpoints while
	// it is well and knows better is the fault that caches are known for.
	if f.stuck != nil || k.cfg.wait == 0 || now < later(stale.expires, k.cfg.revalidate) {
		f.wanted = true
		k.lean(stale, now, k.cfg.recheck)
		return nil, answer{stale.ep, Stale, nil}
	}
	f.waiters++
	return f, answer{}
}

// insteadOf gives a waiter that leaves f the stale endpoint, if there is one. With
// slow, all that come after it get that too, until the source has answered.
func (k *core) insteadOf(f *flight, slow bool) (answer, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if f.finished {
		f.waiters--
		return f.answer, true
	}
	now := k.clock.now()
	if e := k.usable(f.hash, f.host, now); e != nil {
		f.waiters--
		f.wanted = true
		a := k.standIn(e, now)
		if slow && a.level == Stale {
			k.lean(e, now, k.cfg.recheck)
		}
		return a, true
	}
	if slow {
		return answer{}, false // forgotten while it waited: waits on
	}
	f.waiters--
	if f.waiters == 0 && !f.wanted && !f.begun {
		if k.flights[f.host] == f {
			delete(k.flights, f.host)
		}
		close(f.quit)
	}
	return answer{}, false
}

// standIn is the answer of a usable entry in place of a call that gave none.
func (k *core) standIn(e *entry, now int64) answer {
	a := answer{ep: e.ep, level: Stale}
	if until, level := unpackState(e.state.Load()); now < until {
		a.level = level // somebody Set it meanwhile
	}
	return a
}

// detach makes sure that a call under way for host, which may have seen an older
// state of the world, does not store its answer. Whoever waits gets it; whoever
// comes later has another call.
func (k *core) detach(host string) { delete(k.flights, host) }

func (k *core) start(hash uint64, host string) *flight {
	f := &flight{
		hash: hash, host: string([]byte(host)), // the caller's may be a piece of something big
		quit: make(chan struct{}), done: make(chan struct{}),
		cancel: func() {},
	}
	k.flights[f.host] = f
	k.running[f] = struct{}{}
	k.wg.Go(func() { k.fly(f) })
	return f
}

// fly is the goroutine of a flight.
func (k *core) fly(f *flight) {
	defer k.land(f)
	if err := k.takeTurn(f); err != nil {
		k.finish(f, Endpoint{}, err, true)
		return
	}
	defer func() { <-k.turns }()

	ctx, cancel := context.WithTimeout(context.Background(), k.cfg.timeout)
	defer cancel()
	k.mu.Lock()
	closed := k.closed
	f.begun = true
	f.cancel = cancel
	k.tally.calls++
	k.mu.Unlock()
	if closed {
		cancel()
	}
	// Nobody waits for a source that does not return when it should.
	late := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(late)
		k.finish(f, Endpoint{}, fmt.Errorf("hostlookup: source: %w", ctx.Err()), false)
	})
	defer func() {
		if !stop() {
			<-late
		}
	}()
	ep, err := k.call(ctx, f)
	k.finish(f, ep, err, true)
}

// takeTurn waits until fewer than MaxCalls calls are under way.
func (k *core) takeTurn(f *flight) error {
	select {
	case k.turns <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(k.cfg.timeout)
	defer timer.Stop()
	select {
	case k.turns <- struct{}{}:
		return nil
	case <-timer.C:
		return ErrBusy
	case <-f.quit:
		return context.Canceled // nobody sees it
	case <-k.closing:
		return ErrClosed
	}
}

// call asks the source, and turns whatever it does into an answer.
func (k *core) call(ctx context.Context, f *flight) (ep Endpoint, err error) {
	returned := false
	defer func() {
		if !returned {
			// recover is nil after runtime.Goexit, which goes on afterwards.
			e := &PanicError{Value: recover(), Stack: debug.Stack()}
			ep, err = Endpoint{}, e
			if e.Value == nil {
				k.finish(f, ep, err, true)
			}
		}
	}()
	answer, err := k.cfg.source.LookupHost(ctx, f.host)
	returned = true
	if err == nil {
		err = answer.Validate()
	}
	return answer.Endpoint, err
}

// finish stores what came of the call, and tells those who wait. Only the first
// finish of a flight does. From the moment the source has returned, whoever asks
// for the host begins another flight.
func (k *core) finish(f *flight, ep Endpoint, err error, returned bool) {
	k.mu.Lock()
	first := !f.finished
	failed := false
	if first {
		f.finished = true
		f.answer, failed = k.settle(f, ep, err)
		f.stuck = err
	}
	if returned {
		f.stuck = nil
		if k.flights[f.host] == f {
			delete(k.flights, f.host)
		}
	}
	k.mu.Unlock()
	if first {
		close(f.done)
	}
	if failed && k.cfg.failed != nil {
		k.cfg.failed(f.host, err)
	}
}

// settle decides what the outcome of a call means for the cache and the waiters.
func (k *core) settle(f *flight, ep Endpoint, err error) (a answer, failed bool) {
	now := k.clock.now()
	current := k.flights[f.host] == f
	switch {
	case k.closed:
		return answer{err: ErrClosed}, false
	case !f.begun && !current && f.waiters == 0:
		return answer{err: err}, false // given up before it began
	case err == nil:
		if current {
			k.keep(f.hash, f.host, ep, now)
		} else {
			k.tally.dropped++
		}
		return answer{ep: ep}, false
	case errors.Is(err, ErrNotFound):
		k.tally.notFound++
		if current {
			k.keepError(f.hash, f.host, Negative, err, cmp.Or(errorTTL(err), k.cfg.negativeTTL), now)
		} else {
			k.tally.dropped++
		}
		return answer{err: err}, false
	}
	k.tally.errors++
	wish := min(errorTTL(err), maxRetryAfter)
	if e := k.usable(f.hash, f.host, now); e != nil {
		a := k.standIn(e, now)
		if a.level == Stale && current {
			k.lean(e, now, max(k.cfg.recheck, wish))
		}
		return a, true
	}
	if current && k.cfg.errorTTL > 0 {
		k.keepError(f.hash, f.host, Failed, err, max(k.cfg.errorTTL, wish), now)
	} else if current {
		k.remove(k.find(f.hash, f.host))
	}
	return answer{err: err}, true
}

// land is the end of a flight's goroutine.
func (k *core) land(f *flight) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.running, f)
}
