package drain

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/agentcheck"
)

var (
	// ErrUndone is the error of Wait if somebody has undone the drain, or if there is no drain.
	ErrUndone = errors.New("drain: the drain was undone")
	// ErrStopping is the error of Undo after a call of Shutdown: the server is about to exit.
	ErrStopping = errors.New("drain: the server stops; its drain cannot be undone")
)

// ExpiredError is the error of a drain whose Timeout is over while requests or connections are
// still open.
type ExpiredError struct{ Progress Progress }

// Error returns text with the numbers of open connections and requests.
func (e *ExpiredError) Error() string { return "drain: " + e.Progress.String() }

// poll is the interval at which a waiting call counts the open connections and requests. A count at
// the end of each request would cost a busy server much more time.
const poll = 100 * time.Millisecond

// Drainer drains one program. The zero value is ready to use. Set the fields before the first call
// of a method, and do not copy a Drainer. Several goroutines may call the methods.
type Drainer struct {
	Settings
	// Count, if not nil, counts connections and requests that the Drainer does not see, for example
	// of a child process. The Drainer adds the result to its own counts. Several goroutines may
	// call Count, each about 10 times a second, so Count must answer from memory.
	Count func() Load
	// Changed, if not nil, receives the progress after a drain has begun, and after a drain has
	// been undone. The calls do not overlap, and the last call has the last state. Changed must not
	// call Begin, Undo or Shutdown.
	Changed func(Progress)

	draining  atomic.Bool // began is not zero
	reporting sync.Mutex  // held while Changed runs

	mu       sync.Mutex
	began    time.Time
	stopped  time.Time
	requests int // requests with a running handler
	conns    map[*connEntry]struct{}
	http     map[net.Conn]*connEntry // connections of http.Servers that do not use a listener of Drainer.Listener
	changed  chan struct{}           // Begin, Undo and Shutdown close it; nil if no call waits
}

// Progress returns the progress of the drain.
func (d *Drainer) Progress() Progress {
	var outside Load
	if d.Count != nil {
		outside = d.Count()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.progressLocked(outside)
}

func (d *Drainer) progressLocked(outside Load) Progress {
	now := time.Now()
	return d.Settings.Progress(d.began, d.stopped, now, d.loadLocked(now).add(outside))
}

// Begin begins a drain, unless a drain has begun already. The second result reports whether this
// call has begun the drain.
func (d *Drainer) Begin() (p Progress, first bool) { return d.begin(false) }

func (d *Drainer) begin(stop bool) (Progress, bool) {
	d.mu.Lock()
	now := time.Now()
	first := d.began.IsZero()
	if first {
		d.began = now
		d.draining.Store(true)
	}
	if stop && d.stopped.IsZero() {
		d.stopped = now
	}
	d.wakeLocked()
	d.mu.Unlock()
	p := d.Progress()
	if first {
		d.report()
	}
	return p, first
}

// report calls Changed.
func (d *Drainer) report() {
	if d.Changed == nil {
		return
	}
	d.reporting.Lock()
	defer d.reporting.Unlock()
	d.Changed(d.Progress())
}

// Undo ends the drain: readiness succeeds again, and running calls of Wait return ErrUndone. It
// returns the progress before the call, with the State Serving if there was no drain. After
// Shutdown, Undo changes nothing and returns ErrStopping.
func (d *Drainer) Undo() (before Progress, err error) {
	before = d.Progress()
	d.mu.Lock()
	if !d.stopped.IsZero() {
		d.mu.Unlock()
		return before, ErrStopping
	}
	undone := !d.began.IsZero()
	d.began = time.Time{}
	d.draining.Store(false)
	d.wakeLocked()
	d.mu.Unlock()
	if undone {
		d.report()
	}
	return before, nil
}

// Ready returns an error with the progress during a drain, and otherwise nil. Use it as the check
// of a readiness endpoint.
func (d *Drainer) Ready() error {
	if !d.draining.Load() {
		return nil
	}
	if p := d.Progress(); p.State != Serving {
		return errors.New(p.String())
	}
	return nil
}

// Wait waits until the drain is over. The error says how the wait has ended:
//
//   - nil: no connection or request is open any more
//   - an *ExpiredError: connections or requests are still open at the end of Timeout
//   - ErrUndone: there is no drain, or somebody has undone the drain during the wait
//   - the error of ctx: ctx has ended first
func (d *Drainer) Wait(ctx context.Context) (Progress, error) {
	return d.waitFor(ctx, func(p Progress) bool { return p.State.Over() })
}

func (d *Drainer) waitFor(ctx context.Context, reached func(Progress) bool) (Progress, error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var since time.Time
	for {
		var outside Load
		if d.Count != nil {
			outside = d.Count()
		}
		d.mu.Lock()
		p := d.progressLocked(outside)
		if d.changed == nil {
			d.changed = make(chan struct{})
		}
		changed := d.changed
		d.mu.Unlock()
		switch {
		case p.State == Serving, !since.IsZero() && !p.Since.Equal(since):
			return p, ErrUndone
		case !reached(p):
		case p.State == Expired:
			return p, &ExpiredError{p}
		default:
			return p, nil
		}
		since = p.Since
		pause := p.DelayLeft
		if p.State == Waiting {
			pause = min(p.Left, poll)
		}
		timer.Reset(pause)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			return d.Progress(), context.Cause(ctx)
		}
	}
}

// wakeLocked wakes all calls that wait for the drain, so that they look at its progress again. The
// caller holds the lock.
func (d *Drainer) wakeLocked() {
	if d.changed != nil {
		close(d.changed)
		d.changed = nil
	}
}

// Shutdown drains the program for the last time; Undo is no longer possible. It waits until Delay
// is over, calls closeListeners (may be nil), and then waits like Wait.
//
// If a drain has begun before the call, Delay counts from the beginning of this drain. Timeout
// begins at the end of Delay, or at the call of Shutdown if the call is later.
//
// If ctx ends, Shutdown calls closeListeners at once, and returns the error of ctx.
func (d *Drainer) Shutdown(ctx context.Context, closeListeners func()) (Progress, error) {
	d.begin(true)
	_, err := d.waitFor(ctx, func(p Progress) bool { return p.State != Draining })
	if closeListeners != nil {
		closeListeners()
	}
	if expired := (*ExpiredError)(nil); err != nil && !errors.As(err, &expired) {
		return d.Progress(), err
	}
	return d.Wait(ctx)
}

// ServeAgent implements agentcheck.Handler. During a drain, it answers "up drain" with the progress
// as the reason, and otherwise "up ready". Combine it with other handlers by
// agentcheck.MostRestrictive.
func (d *Drainer) ServeAgent(context.Context, *agentcheck.Request) agentcheck.Reply {
	if !d.draining.Load() {
		return agentcheck.Reply{State: agentcheck.Up, Admin: agentcheck.Ready}
	}
	return agentcheck.Reply{State: agentcheck.Up, Admin: agentcheck.Drain, Reason: d.Progress().String()}
}
