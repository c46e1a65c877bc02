package kubewatch

import (
	"context"
	"time"

	"k8s.io/utils/clock"
)

// runClock is the real clock, but that nobody waits on it when Run is to end: while a
// server refuses connections, the Reflector waits for the next attempt without regard
// to the context.
type runClock struct {
	clock.RealClock
	ctx context.Context // of the one Run that the clock is made for
}

func newClock(ctx context.Context) runClock { return runClock{ctx: ctx} }

// After fires after d, or when the context has ended.
func (c runClock) After(d time.Duration) <-chan time.Time {
	fired := make(chan time.Time, 1)
	fire := func() {
		select {
		case fired <- time.Now():
		default:
		}
	}
	stop := context.AfterFunc(c.ctx, fire)
	time.AfterFunc(d, func() {
		stop()
		fire()
	})
	return fired
}
