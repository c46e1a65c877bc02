package controller

import (
	"cmp"
	"time"
)

// maxRetryAfterChange is the longest time between a failed attempt and the next one if an input
// has changed since. The new input may fix the failure.
const maxRetryAfterChange = 5 * time.Second

// schedule decides when the next attempt is due. It reads no clock: its methods get the time.
type schedule struct {
	minInterval time.Duration // from the end of an attempt to the next attempt
	backoff     time.Duration // pause after the first failure; it doubles with each further failure
	maxBackoff  time.Duration // longest pause after a failure

	started   bool // every cluster has answered, or StartTimeout is over
	dirty     bool // something may have changed since the last attempt began
	last      time.Time
	notBefore time.Time
	failures  int // in a row
}

// due returns how long to wait until the next attempt, at least 0, and false if none is wanted.
func (s *schedule) due(now time.Time) (wait time.Duration, ok bool) {
	return max(0, s.notBefore.Sub(now)), s.started && s.dirty
}

// changed notes that an input has changed, and whether all clusters have answered by now.
func (s *schedule) changed(answered bool) {
	s.started = s.started || answered
	s.dirty = true
	if soon := s.last.Add(s.pause(maxRetryAfterChange)); soon.Before(s.notBefore) {
		s.notBefore = soon
	}
}

// startTimeoutOver notes that clusters that have not answered are not waited for any longer.
func (s *schedule) startTimeoutOver() {
	s.dirty = s.dirty || !s.started
	s.started = true
}

// recheck asks for an attempt without a change of input: nodes that are not ready are judged by
// the clock, and somebody else may have written to the directory.
func (s *schedule) recheck() { s.dirty = true }

// restart asks for an attempt at once and forgets failures: a term of leadership has begun.
func (s *schedule) restart() {
	s.dirty, s.notBefore, s.failures = true, time.Time{}, 0
}

// begin notes that an attempt begins, with the inputs of now.
func (s *schedule) begin() { s.dirty = false }

// succeeded notes that an attempt has ended, and that repeating it would change nothing.
func (s *schedule) succeeded(now time.Time) {
	s.failures = 0
	s.last, s.notBefore = now, now.Add(s.minInterval)
}

// failed notes that an attempt has failed, and asks for another one.
func (s *schedule) failed(now time.Time) {
	s.failures++
	s.dirty = true
	s.last, s.notBefore = now, now.Add(s.pause(s.maxBackoff))
}

// pause returns the time from the end of the last attempt to the next one, which is at most most
// after failures, and never shorter than minInterval.
func (s *schedule) pause(most time.Duration) time.Duration {
	if s.failures == 0 {
		return s.minInterval
	}
	return max(s.minInterval, min(s.backoff<<min(s.failures-1, 10), most))
}

// permit decides whether the change with this ID may be applied although it is larger than the
// limit.
type permit func(id string) bool

func never(string) bool { return false }

// startForce permits one change: the first one that needs a permit. It ends with the first attempt
// that does not fail.
type startForce struct {
	active bool
	id     string // of the change, empty until it is known
}

// extend returns a permit for the change of f and for what asked permits.
func (f *startForce) extend(asked permit) permit {
	if !f.active {
		return asked
	}
	return func(id string) bool {
		f.id = cmp.Or(f.id, id)
		return id == f.id || asked(id)
	}
}
