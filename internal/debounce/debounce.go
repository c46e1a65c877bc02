// Package debounce turns a burst of events into one signal. Here reload runs 100 ms after the last
// event, and at the latest 1 s after the first event of the burst.
//
//	burst := debounce.New(100*time.Millisecond, time.Second)
//	defer burst.Stop()
//	for {
//		select {
//		case <-ctx.Done():
//			return ctx.Err()
//		case <-events:
//			burst.Notify()
//		case <-burst.C:
//			reload()
//		}
//	}
package debounce

import (
	"math"
	"sync"
	"time"
)

// Timer merges a burst of events into one signal. A burst ends when no event has arrived for the
// quiet time, or when the longest wait has passed since the first event of the burst. Any goroutine
// may call the methods.
type Timer struct {
	// C receives one value after each burst. It has room for one value. If nobody has read this
	// value when a later burst ends, C gets no second value.
	C <-chan struct{}

	signal         chan struct{}
	quiet, maxWait time.Duration

	mu       sync.Mutex
	timer    *time.Timer
	deadline time.Time // the latest end of the burst; zero between bursts
	end      time.Time // the end of the burst if no further event arrives
}

// New returns a Timer. The argument "quiet" is the quiet time of the Timer, and maxWait is its
// longest wait. If maxWait is not greater than quiet, each burst ends maxWait after its first
// event.
func New(quiet, maxWait time.Duration) *Timer {
	signal := make(chan struct{}, 1)
	t := &Timer{C: signal, signal: signal, quiet: quiet, maxWait: maxWait}
	t.timer = time.AfterFunc(math.MaxInt64, t.fire)
	return t
}

// Notify adds an event to the present burst, or begins a burst if none is open. The channel C
// receives a value when the burst ends.
func (t *Timer) Notify() {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.deadline.IsZero() {
		t.deadline = now.Add(t.maxWait)
	}
	wait := min(t.quiet, t.deadline.Sub(now))
	t.end = now.Add(wait)
	t.timer.Reset(wait)
}

// Stop drops the present burst. If C holds a value from an earlier burst, the value stays there.
func (t *Timer) Stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timer.Stop()
	t.deadline = time.Time{}
}

// fire ends the burst. If Stop or Notify changed the timer before fire could lock mu, fire does
// nothing: after Stop the burst is over, and after Notify the timer calls fire again at the new
// time.
func (t *Timer) fire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.deadline.IsZero() || time.Now().Before(t.end) {
		return
	}
	t.deadline = time.Time{}
	select {
	case t.signal <- struct{}{}:
	default:
	}
}
