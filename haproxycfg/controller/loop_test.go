package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/routes"
)

// fakeApply records the calls of its method "apply", and returns the result that the method "set"
// has stored.
type fakeApply struct {
	start   time.Time
	pending string // ID of the change, which Limit rejects

	mu     sync.Mutex
	called []call
	result Outcome
	err    error
	takes  time.Duration
}

type call struct {
	at      time.Duration // since the start
	routes  int
	allowed bool
}

func (f *fakeApply) apply(ctx context.Context, in inputs, now time.Time, allowed permit) Attempt {
	f.mu.Lock()
	f.called = append(f.called, call{now.Sub(f.start), len(in.routes.Table.Routes()), allowed(f.pending)})
	result, err, takes := f.result, f.err, f.takes
	f.mu.Unlock()
	sleep(ctx, takes)
	if ctx.Err() != nil {
		return Attempt{Outcome: Failed, Err: ctx.Err()}
	}
	return Attempt{Outcome: result, Err: err}
}

// set sets the result and the duration of later calls.
func (f *fakeApply) set(result Outcome, err error, takes time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.result, f.err, f.takes = result, err, takes
}

func (f *fakeApply) calls() []call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.called)
}

func (f *fakeApply) times() (at []time.Duration) {
	for _, c := range f.calls() {
		at = append(at, c.at)
	}
	return at
}

// loopTest runs a loop with clusters a and b in a bubble with its own time. If set is not nil, it
// calls the function "set" before the loop starts.
func loopTest(t *testing.T, set func(*loop, *fakeApply), test func(t *testing.T, l *loop, f *fakeApply, in *inbox)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		in := newInbox([]Cluster{{Name: "a"}, {Name: "b"}}, time.Now())
		f := &fakeApply{start: time.Now(), result: Written}
		l := newTestLoop(in, f)
		if set != nil {
			set(l, f)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); l.run(ctx) }()
		test(t, l, f, in)
		cancel()
		<-done
	})
}

func newTestLoop(in *inbox, f *fakeApply) *loop {
	return &loop{
		inbox: in, apply: f.apply, seen: func(inputs, bool) {}, applied: func(Attempt) {}, leads: func(bool) {},
		schedule:     schedule{minInterval: time.Second, backoff: time.Second, maxBackoff: time.Hour},
		startTimeout: 10 * time.Second, recheck: time.Hour,
		forced: make(chan forceRequest),
	}
}

// forceChange asks a running loop to apply the change with this ID, and returns its answer.
func (l *loop) forceChange(id string) Attempt {
	r := forceRequest{id, make(chan Attempt, 1)}
	l.forced <- r
	return <-r.reply
}

func (in *inbox) sync(clusters ...int) {
	for _, i := range clusters {
		in.setCluster(i, time.Now(), ClusterState{Synced: true})
	}
}

func (in *inbox) routesN(n int) {
	declared := make([]routes.Route, n)
	for i := range declared {
		declared[i] = routes.Route{
			Host:     fmt.Sprintf("h%d.example", i),
			Backends: []routes.Backend{{Ref: routes.Ref{Cluster: "c", Namespace: "n", Service: "s", Port: "80"}}},
		}
	}
	table, problems := routes.New(declared...)
	in.setRoutes(Declarations{Table: table, Problems: problems})
}

func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestLoopAppliesAtOnceAndThenOnceEachInterval(t *testing.T) {
	loopTest(t, nil, func(t *testing.T, _ *loop, f *fakeApply, in *inbox) {
		in.routesN(1)
		in.sync(0)
		after(3 * time.Second)
		require.Empty(t, f.calls(), "the loop waits for b")
		in.sync(1)
		synctest.Wait()
		require.Equal(t, []time.Duration{3 * time.Second}, f.times())
		for i := range 110 { // a storm
			in.routesN(i)
			after(20 * time.Millisecond)
		}
		require.Equal(t, []time.Duration{3 * time.Second, 4 * time.Second, 5 * time.Second}, f.times())
		after(time.Minute)
		require.Len(t, f.calls(), 4, "one attempt after the storm")
		require.Equal(t, 109, f.calls()[3].routes, "with the latest routes")
		in.routesN(1)
		synctest.Wait()
		require.Len(t, f.calls(), 5, "at once, since the last attempt is long ago")
	})
}

func TestLoopStartsWithoutAClusterThatDoesNotAnswer(t *testing.T) {
	loopTest(t, nil, func(t *testing.T, _ *loop, f *fakeApply, in *inbox) {
		in.sync(0)
		in.setCluster(1, time.Now(), ClusterState{Err: errors.New("refused")})
		after(time.Minute)
		require.Equal(t, []time.Duration{10 * time.Second}, f.times())
		in.sync(1)
		synctest.Wait()
		require.Equal(t, []time.Duration{10 * time.Second, 60 * time.Second}, f.times())
	})
}

func TestLoopRetries(t *testing.T) {
	loopTest(t, func(l *loop, _ *fakeApply) { l.recheck, l.schedule.maxBackoff = 8*time.Second, 8*time.Second }, func(t *testing.T, _ *loop, f *fakeApply, in *inbox) {
		f.set(Failed, errors.New("no"), 0)
		in.sync(0, 1)
		after(30 * time.Second)
		// The pauses are 1, 2 and 4 s, and then maxBackoff.
		require.Equal(t, []time.Duration{0, 1 * time.Second, 3 * time.Second, 7 * time.Second, 15 * time.Second, 23 * time.Second}, f.times())
		in.routesN(2)
		synctest.Wait()
		require.Len(t, f.calls(), 7, "a change causes an attempt at once if the last attempt is 5 s old")
		f.set(Written, nil, 0)
		in.routesN(3)
		after(maxRetryAfterChange)
		require.Len(t, f.calls(), 8, "a change after a failure waits for maxRetryAfterChange")
		after(8 * time.Second)
		require.Len(t, f.calls(), 9, "a recheck, and no retry")
	})
}

func TestLoopWaitsAfterTheEndOfAnAttempt(t *testing.T) {
	loopTest(t, nil, func(t *testing.T, _ *loop, f *fakeApply, in *inbox) {
		f.set(Written, nil, 5*time.Second)
		in.sync(0, 1)
		synctest.Wait()
		for i := range 100 {
			in.routesN(i)
		}
		after(time.Minute)
		require.Equal(t, []time.Duration{0, 6 * time.Second}, f.times(), "the interval begins at the end of an attempt, and changes during the attempt cause one more")
		require.Equal(t, 99, f.calls()[1].routes)
	})
}

func TestLoopForce(t *testing.T) {
	loopTest(t, func(_ *loop, f *fakeApply) { f.pending = "abc" }, func(t *testing.T, l *loop, f *fakeApply, in *inbox) {
		f.set(Refused, errors.New("too large"), 0)
		require.ErrorContains(t, l.forceChange("").Err, "not all clusters have answered")
		require.Empty(t, f.calls())
		in.sync(0, 1)
		synctest.Wait()
		require.Equal(t, []call{{}}, f.calls())
		require.Equal(t, Refused, l.forceChange("xyz").Outcome)
		require.False(t, f.calls()[1].allowed, "the ID of another change")
		f.set(Written, nil, 0)
		require.Equal(t, Attempt{Outcome: Written}, l.forceChange("abc"))
		require.True(t, f.calls()[2].allowed)
		l.forceChange("")
		require.False(t, f.calls()[3].allowed, "an empty ID permits nothing")
		in.routesN(1)
		after(time.Minute)
		require.False(t, f.calls()[4].allowed, "only once")
	})
}

func TestLoopForceAtTheStart(t *testing.T) {
	loopTest(t, func(l *loop, _ *fakeApply) { l.force.active = true }, func(t *testing.T, _ *loop, f *fakeApply, in *inbox) {
		in.sync(0, 1)
		synctest.Wait()
		in.routesN(1)
		after(time.Minute)
		require.Equal(t, []call{{allowed: true}, {at: time.Second, routes: 1}}, f.calls())
	})
}

// TestLoopForceAtTheStartIsForOneChange: ForceFirst permits only the change of the first attempt.
// It still permits this change while HAProxy does not run yet and the attempts fail.
func TestLoopForceAtTheStartIsForOneChange(t *testing.T) {
	loopTest(t, func(l *loop, f *fakeApply) { l.force.active, f.pending = true, "abc" }, func(t *testing.T, _ *loop, f *fakeApply, in *inbox) {
		f.set(Failed, errors.New("no such socket"), 0)
		in.sync(0, 1)
		after(1500 * time.Millisecond)
		allowed := func() (all []bool) {
			for _, c := range f.calls() {
				all = append(all, c.allowed)
			}
			return all
		}
		require.Equal(t, []bool{true, true}, allowed(), "the attempt failed, so the change is still permitted")
		f.mu.Lock()
		f.pending = "def"
		f.mu.Unlock()
		after(2 * time.Second)
		require.Equal(t, []bool{true, true, false}, allowed(), "another change")
		f.mu.Lock()
		f.pending = "abc"
		f.mu.Unlock()
		f.set(Written, nil, 0)
		after(4 * time.Second)
		in.routesN(1)
		after(time.Minute)
		require.Equal(t, []bool{true, true, false, true, false}, allowed(), "nothing is permitted after the change was applied")
	})
}

func TestLoopWritesOnlyWhileItLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newInbox([]Cluster{{Name: "a"}}, time.Now())
		f := &fakeApply{start: time.Now(), result: Written}
		terms := make(chan Term)
		applied, led := 0, []bool(nil)
		l := newTestLoop(in, f)
		l.applied = func(Attempt) { applied++ }
		l.leads = func(now bool) { led = append(led, now) }
		l.recheck, l.schedule.maxBackoff = time.Second, time.Second
		l.terms = terms
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); l.run(ctx) }()
		in.sync(0)
		in.routesN(4)
		after(time.Minute)
		require.Empty(t, f.calls(), "another process leads")
		require.ErrorIs(t, l.forceChange("").Err, ErrNotLeading)

		over, end := newTerm(ctx)
		end()
		terms <- over // the term ends before the loop receives it
		after(time.Minute)
		require.Empty(t, f.calls())

		first, end := newTerm(ctx)
		terms <- first
		synctest.Wait()
		require.Equal(t, []call{{at: 2 * time.Minute, routes: 4}}, f.calls(), "at once, with the latest inputs")
		require.Equal(t, []bool{true}, led)

		f.set(Written, nil, time.Hour) // as if a reload hangs
		in.routesN(5)
		after(10 * time.Second)
		require.Len(t, f.calls(), 2)
		end() // this interrupts the attempt
		after(time.Minute)
		require.Len(t, f.calls(), 2, "there is no further attempt")
		require.Equal(t, 1, applied, "an attempt that was interrupted is not reported")
		require.Equal(t, []bool{true, false}, led)

		f.set(Written, nil, 0)
		second, end := newTerm(ctx)
		defer end()
		terms <- second
		synctest.Wait()
		require.Len(t, f.calls(), 3)
		require.Equal(t, []bool{true, false, true}, led)
		cancel()
		<-done
	})
}

// newTerm returns a Term that ends with the returned function.
func newTerm(ctx context.Context) (Term, context.CancelFunc) {
	ctx, end := context.WithCancel(ctx)
	return Term{Guard: ctx.Err, Done: ctx.Done()}, end
}

// TestLoopEndsATermWhoseGuardFails: the process was suspended, so Guard fails before Done is
// closed. The loop makes no further attempt.
func TestLoopEndsATermWhoseGuardFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newInbox([]Cluster{{Name: "a"}}, time.Now())
		f := &fakeApply{start: time.Now(), result: Written}
		terms := make(chan Term)
		led := []bool(nil)
		l := newTestLoop(in, f)
		l.leads = func(now bool) { led = append(led, now) }
		l.terms = terms
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); l.run(ctx) }()
		in.sync(0)
		var guard atomic.Value
		guard.Store(false)
		terms <- Term{Done: make(chan struct{}), Guard: func() error {
			if guard.Load().(bool) {
				return errors.New("expired")
			}
			return nil
		}}
		synctest.Wait()
		require.Len(t, f.calls(), 1)
		guard.Store(true)
		in.routesN(1)
		after(time.Minute)
		require.Len(t, f.calls(), 1)
		require.Equal(t, []bool{true, false}, led)
		require.ErrorIs(t, l.forceChange("").Err, ErrNotLeading)
		cancel()
		<-done
	})
}

// TestLoopFinishesAnAttemptBeforeItStops: an attempt may continue for stopGrace.
func TestLoopFinishesAnAttemptBeforeItStops(t *testing.T) {
	for _, tt := range []struct {
		takes, want time.Duration
		err         error
	}{
		{3 * time.Second, 3 * time.Second, nil},
		{time.Hour, stopGrace, context.Canceled},
	} {
		synctest.Test(t, func(t *testing.T) {
			in := newInbox([]Cluster{{Name: "a"}}, time.Now())
			f := &fakeApply{start: time.Now(), result: Written, takes: tt.takes}
			var got error
			l := newTestLoop(in, f)
			l.applied = func(a Attempt) { got = a.Err }
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); l.run(ctx) }()
			in.sync(0)
			synctest.Wait()
			require.Len(t, f.calls(), 1)
			cancel()
			stopped := time.Now()
			<-done
			require.Equal(t, tt.want, time.Since(stopped))
			require.ErrorIs(t, got, tt.err)
		})
	}
}

func TestInboxChangesSinceOnlyWhenAClusterStopsOrBeginsToAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		in := newInbox([]Cluster{{Name: "a"}}, begin)
		set := func(synced bool, err error) {
			time.Sleep(time.Second)
			in.setCluster(0, time.Now(), ClusterState{Synced: synced, Err: err})
		}
		since := func() time.Duration { return in.latest().clusters[0].since.Sub(begin) }
		set(false, errors.New("a"))
		require.Equal(t, time.Second, since())
		set(false, errors.New("b"))
		require.Equal(t, time.Second, since())
		set(true, nil)
		require.Equal(t, 3*time.Second, since())
		set(true, nil)
		require.Equal(t, 3*time.Second, since())
		set(true, errors.New("c"))
		require.Equal(t, 5*time.Second, since())

		taken := in.latest()
		set(true, nil)
		require.Error(t, taken.clusters[0].Err, "earlier inputs do not change")
	})
}

func TestInboxIgnoresAReasonThatIsKnown(t *testing.T) {
	in := newInbox([]Cluster{{Name: "a"}}, time.Now())
	awake := func() bool { return len(in.wake) > 0 }
	lost := func(why string) {
		in.setUnreachable(0, time.Now(), errors.New(why))
	}
	lost("no such file")
	require.True(t, awake())
	<-in.wake
	lost("no such file")
	require.False(t, awake(), "a kubeconfig that fails every second does not cause an attempt every second")
	lost("no such context")
	require.True(t, awake())
	require.EqualError(t, in.latest().clusters[0].Err, "no such context")
}

// TestLoopPausesAfterFailuresInAStorm: without a pause, each change in a storm of changes would run
// haproxy -c and a reload again.
func TestLoopPausesAfterFailuresInAStorm(t *testing.T) {
	loopTest(t, func(l *loop, _ *fakeApply) { l.recheck, l.schedule.maxBackoff = 30*time.Second, 30*time.Second }, func(t *testing.T, _ *loop, f *fakeApply, in *inbox) {
		f.set(Failed, errors.New("no"), 0)
		in.sync(0, 1)
		for i := range 60 * 10 {
			in.routesN(i)
			after(100 * time.Millisecond)
		}
		require.Equal(t, []time.Duration{0, 1 * time.Second, 3 * time.Second, 7 * time.Second, 12 * time.Second}, f.times()[:5])
		require.Len(t, f.calls(), 14, "every 5 s from then on")
		f.set(Written, nil, 0)
		after(5 * time.Second)
		in.routesN(1)
		after(time.Second)
		in.routesN(2)
		after(time.Second)
		require.Len(t, f.calls(), 17, "without a pause after an attempt that did not fail")
	})
}

// TestGracefulAfterTheEnd: an attempt that begins just when ctx ends has stopGrace to finish.
func TestGracefulAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stopped, stop := context.WithCancel(t.Context())
		stop()
		applying, done := graceful(stopped, nil)
		defer done()
		after(stopGrace - time.Millisecond)
		require.NoError(t, applying.Err(), "before stopGrace is over")
		after(time.Millisecond)
		require.ErrorIs(t, applying.Err(), context.Canceled)
	})
}
