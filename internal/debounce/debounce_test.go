package debounce

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestTimer(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name           string
		quiet, maxWait time.Duration
		events         []time.Duration // since the start
		want           []time.Duration // times of the signals
	}{
		{"no event", 100 * ms, 250 * ms, nil, nil},
		{"one event", 100 * ms, 250 * ms, []time.Duration{0}, []time.Duration{100 * ms}},
		{"a burst", 100 * ms, 250 * ms, []time.Duration{0, 50 * ms, 90 * ms}, []time.Duration{190 * ms}},
		{
			"an event at the time of the signal begins a burst", 100 * ms, 250 * ms,
			[]time.Duration{0, 101 * ms},
			[]time.Duration{100 * ms, 201 * ms},
		},
		{
			"a burst that outlasts the longest wait", 100 * ms, 250 * ms,
			[]time.Duration{0, 90 * ms, 180 * ms, 240 * ms, 300 * ms},
			[]time.Duration{250 * ms, 400 * ms},
		},
		{
			"longest wait shorter than quiet time", 100 * ms, 50 * ms,
			[]time.Duration{0, 40 * ms, 60 * ms},
			[]time.Duration{50 * ms, 110 * ms},
		},
		{"no wait at all", 0, 0, []time.Duration{0, 10 * ms}, []time.Duration{0, 10 * ms}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				timer := New(c.quiet, c.maxWait)
				go func() {
					for _, at := range c.events {
						time.Sleep(time.Until(start.Add(at)))
						timer.Notify()
					}
				}()
				var got []time.Duration
				end := time.After(time.Hour)
				for open := true; open; {
					select {
					case <-timer.C:
						got = append(got, time.Since(start))
					case <-end:
						open = false
					}
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("signals at %v, want %v", got, c.want)
				}
			})
		})
	}
}

func TestSignalsMergeWhileNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		timer := New(time.Second, time.Minute)
		for range 3 {
			timer.Notify()
			time.Sleep(2 * time.Second)
		}
		<-timer.C
		time.Sleep(time.Hour)
		if len(timer.C) != 0 {
			t.Error("a second signal for bursts that ended before the first was read")
		}
		timer.Notify()
		<-timer.C
	})
}

func TestStopDropsTheBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		timer := New(time.Second, time.Minute)
		timer.Notify()
		timer.Stop()
		time.Sleep(time.Hour)
		if len(timer.C) != 0 {
			t.Error("a signal after Stop")
		}
		start := time.Now()
		timer.Notify() // a Timer can be used again
		if <-timer.C; time.Since(start) != time.Second {
			t.Errorf("signal after %v", time.Since(start))
		}
	})
}
