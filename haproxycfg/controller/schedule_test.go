package controller

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSchedule calls methods of a schedule at given seconds. The field "wait" is the wanted result
// of the method "due", in seconds; -1 means that the schedule wants no attempt.
func TestSchedule(t *testing.T) {
	begin := time.Unix(1000, 0)
	at := func(s float64) time.Time { return begin.Add(time.Duration(s * float64(time.Second))) }
	type step struct {
		at   float64
		do   func(*schedule, time.Time)
		wait float64
	}
	var (
		answered    = func(s *schedule, _ time.Time) { s.changed(true) }
		changed     = func(s *schedule, _ time.Time) { s.changed(false) }
		timeout     = func(s *schedule, _ time.Time) { s.startTimeoutOver() }
		recheck     = func(s *schedule, _ time.Time) { s.recheck() }
		termBegins  = func(s *schedule, _ time.Time) { s.restart() }
		begins      = func(s *schedule, _ time.Time) { s.begin() }
		succeeds    = func(s *schedule, now time.Time) { s.begin(); s.succeeded(now) }
		fails       = func(s *schedule, now time.Time) { s.begin(); s.failed(now) }
		timePasses  = func(*schedule, time.Time) {}
		failsAtLast = func(s *schedule, now time.Time) {
			for range 50 {
				s.failed(now)
			}
		}
	)
	tests := []struct {
		name  string
		steps []step
	}{
		{"nothing to do", []step{{0, timePasses, -1}}},
		{"a cluster has not answered", []step{{0, changed, -1}, {1, recheck, -1}, {2, answered, 0}}},
		{"StartTimeout without any input", []step{{10, timeout, 0}}},
		{"StartTimeout after an answer is no reason for an attempt", []step{{0, answered, 0}, {0, succeeds, -1}, {10, timeout, -1}}},
		{"MinInterval after the end of an attempt", []step{{0, answered, 0}, {0, begins, -1}, {5, succeeds, -1}, {5, changed, 1}, {5.5, changed, 0.5}, {7, timePasses, 0}}},
		{"a change during an attempt", []step{{0, answered, 0}, {0, begins, -1}, {1, changed, 0}}},
		{"a recheck respects MinInterval", []step{{0, answered, 0}, {0, succeeds, -1}, {0.5, recheck, 0.5}}},
		{"failures double the pause up to the longest", []step{
			{0, answered, 0}, {0, fails, 1}, {1, fails, 2}, {3, fails, 4}, {7, fails, 8}, {15, fails, 16}, {31, fails, 30}, {61, failsAtLast, 30},
		}},
		{"a change shortens the pause", []step{{0, answered, 0}, {0, failsAtLast, 30}, {1, changed, 4}, {2, changed, 3}, {10, changed, 0}}},
		{"a change does not lengthen the pause", []step{{0, answered, 0}, {0, fails, 1}, {0.5, changed, 0.5}}},
		{"a recheck does not shorten the pause", []step{{0, answered, 0}, {0, failsAtLast, 30}, {10, recheck, 20}}},
		{"success ends the failures", []step{{0, answered, 0}, {0, failsAtLast, 30}, {30, succeeds, -1}, {30, fails, 1}}},
		{"a term begins", []step{{0, answered, 0}, {0, failsAtLast, 30}, {1, termBegins, 0}, {1, fails, 1}}},
		{"a term begins before all clusters have answered", []step{{0, termBegins, -1}, {1, timeout, 0}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := schedule{minInterval: time.Second, backoff: time.Second, maxBackoff: 30 * time.Second}
			for i, step := range tt.steps {
				step.do(&s, at(step.at))
				wait, ok := s.due(at(step.at))
				got := wait.Seconds()
				if !ok {
					got = -1
				}
				require.InDelta(t, step.wait, got, 1e-9, "step %d", i)
			}
		})
	}
}

func TestSchedulePauseIsNotShorterThanMinInterval(t *testing.T) {
	s := schedule{minInterval: time.Minute, backoff: time.Second, maxBackoff: 30 * time.Second, started: true}
	now := time.Unix(1000, 0)
	s.failed(now)
	s.changed(true)
	wait, ok := s.due(now)
	require.True(t, ok)
	require.Equal(t, time.Minute, wait)
}
