//go:build linux

package scenarios

import (
	"context"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// slowness is by how much longer work takes than it would if nothing else wanted the
// processors: 1 on an idle machine.
type slowness struct {
	stop func()
	seen []float64 // to be read when stopped
}

const (
	// sample is about the work that a terminator has with an event.
	sample      = 20 * time.Millisecond
	sampleEvery = 300 * time.Millisecond
)

// watchSlowness does a little work every now and then, until stop, and compares the time
// that passes with the processor's time that is used.
func watchSlowness(ctx context.Context) *slowness {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	s := &slowness{stop: func() { cancel(); <-done }}
	go func() {
		defer close(done)
		// The clock is that of a thread.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for pause(ctx, sampleEvery) == nil {
			start, used := time.Now(), threadTime()
			for threadTime()-used < sample {
			}
			s.seen = append(s.seen, float64(time.Since(start))/float64(threadTime()-used))
		}
	}()
	return s
}

func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic("e2e: " + err.Error()) // every Linux has it
	}
	return time.Duration(t.Nano())
}

// at returns what a share q of the samples did not exceed, 1 if there are none.
func (s *slowness) at(q float64) float64 {
	if len(s.seen) == 0 {
		return 1
	}
	return quantile(s.seen, q)
}
