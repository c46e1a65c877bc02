package controller

import (
	"cmp"
	"time"
)

// maxRetryAfterChange is the longest pause after a failed attempt to apply a configuration, if
// routes or clusters have changed since the attempt. Such a change may remove the reason of the
// failure.
const maxRetryAfterChange = 5 * time.Second

// schedule decides when the next attempt to apply a configuration is due. It does not read the
// clock: callers pass the time.
type schedule struct {
	minInterval time.Duration // shortest pause after an attempt
	backoff     time.Duration // pause after the first failure; each further failure doubles it
	maxBackoff  time.Duration // longest pause after a failure

	started   bool      // every source has answered, or StartTimeout is over
	dirty     bool      // an attempt is wanted
	last      time.Time // end of the last attempt
	notBefore time.Time // earliest time of the next attempt
	failures  int       // number of failed attempts since the last attempt that did not fail
}

// due returns the time until the next attempt to apply a configuration; 0 means that the attempt is
// due now. ok is false if no attempt is wanted.
func (s *schedule) due(now time.Time) (wait time.Duration, ok bool) {
	return max(0, s.notBefore.Sub(now)), s.started && s.dirty
}

// The method "changed" records that an input of the configuration has changed. If "answered" is
// true, each source has answered at least once, and the first attempt no longer waits for sources.
// If the last attempt failed, the pause before the next one becomes shorter, because the new input
// may fix the failure.
func (s *schedule) changed(answered bool) {
	s.started = s.started || answered
	s.dirty = true
	if soon := s.last.Add(s.pause(maxRetryAfterChange)); soon.Before(s.notBefore) {
		s.notBefore = soon
	}
}

// startTimeoutOver is called after StartTimeout. From now on, the first attempt to apply a
// configuration no longer waits for sources that have not answered.
func (s *schedule) startTimeoutOver() {
	s.dirty = s.dirty || !s.started
	s.started = true
}

// recheck schedules an attempt to apply a configuration although no input has changed. The attempt
// may still find a change: a node may have become eligible because time has passed, and another
// program may have written to the directory.
func (s *schedule) recheck() { s.dirty = true }

// restart is called when the term of this process as the leader begins. It schedules an attempt to
// apply a configuration without a pause, and forgets earlier failures.
func (s *schedule) restart() {
	s.dirty, s.notBefore, s.failures = true, time.Time{}, 0
}

// begin is called when an attempt begins.
func (s *schedule) begin() { s.dirty = false }

// succeeded is called when an attempt to apply a configuration has ended with any outcome except
// Failed.
func (s *schedule) succeeded(now time.Time) {
	s.failures = 0
	s.last, s.notBefore = now, now.Add(s.minInterval)
}

// waiting is called at the end of an attempt to apply a change, if the change has to wait. The next
// attempt is due at the time in the argument "retry". If an input changes before that time, the
// next attempt is due earlier, but not before MinInterval has passed since this attempt.
func (s *schedule) waiting(now, retry time.Time) {
	s.failures, s.dirty = 0, true
	s.last, s.notBefore = now, retry
	if soon := now.Add(s.minInterval); soon.After(retry) {
		s.notBefore = soon
	}
}

// failed is called when an attempt to apply a configuration has failed. It schedules another
// attempt.
func (s *schedule) failed(now time.Time) {
	s.failures++
	s.dirty = true
	s.last, s.notBefore = now, now.Add(s.pause(s.maxBackoff))
}

// pause returns the length of the pause after the last attempt to apply a configuration:
// minInterval after a success, and "backoff" after the first failure. Each further failure doubles
// the pause, up to "longest". The pause is never shorter than minInterval.
func (s *schedule) pause(longest time.Duration) time.Duration {
	if s.failures == 0 {
		return s.minInterval
	}
	return max(s.minInterval, min(s.backoff<<min(s.failures-1, 10), longest))
}

// permit reports whether the change with the given ID may be applied although Limit rejects it.
type permit func(id string) bool

func never(string) bool { return false }

func always(string) bool { return true }

// startForce implements Controller.ForceFirst: it permits the first change that Limit rejects after
// the start, also while attempts to apply the change fail or wait. After the first attempt that
// neither fails nor waits, startForce permits nothing any more.
type startForce struct {
	active bool
	id     string // the ID of the permitted change; "" until Limit has rejected a change
}

// extend returns a function that decides whether a refused change may be applied: it permits the
// one change that ForceFirst permits, and each change that the argument "asked" permits.
func (f *startForce) extend(asked permit) permit {
	if !f.active {
		return asked
	}
	return func(id string) bool {
		f.id = cmp.Or(f.id, id)
		return id == f.id || asked(id)
	}
}
