package controller_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/deploy"
)

// fakeWorkers are the old workers of an HAProxy. Each reload leaves an old worker with three
// streams.
type fakeWorkers struct {
	mu    sync.Mutex
	began time.Time
	at    []time.Duration // of the reloads, since began
	old   []int
	ended []int
	stuck bool // no worker can be ended
}

func (f *fakeWorkers) reload(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = append(f.at, time.Since(f.began))
	f.old = append(f.old, len(f.at))
	return nil
}

func (f *fakeWorkers) Old(context.Context) ([]int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]int(nil), f.old...), nil
}

func (f *fakeWorkers) EndOldest(context.Context) (deploy.EndedWorker, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stuck {
		return deploy.EndedWorker{}, errors.New("stuck")
	}
	return deploy.EndedWorker{PID: f.leave(), Streams: 3}, nil
}

// leave ends the oldest worker, as if its last connection had ended.
func (f *fakeWorkers) leave() int {
	pid := f.old[0]
	f.old, f.ended = f.old[1:], append(f.ended, pid)
	return pid
}

// logText is a log that a test reads while a Controller writes it.
type logText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (f *fakeWorkers) reloads() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.at)
}

// reloadTest runs a Controller whose HAProxy is a fakeWorkers. The function "toggle" changes the
// node port of the service, so that HAProxy needs a reload, and then waits for the time in the
// argument "pause".
func reloadTest(t *testing.T, set func(*controller.Controller, *fakeWorkers), test func(t *testing.T, c *controller.Controller, f *fakeWorkers, log *logText, toggle func(pause time.Duration))) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		eu1 := newFakeCluster()
		c := newController(t, eu1)
		f := &fakeWorkers{began: time.Now()}
		log := &logText{}
		c.Logger = slog.New(slog.NewTextHandler(log, nil))
		c.Limit = controller.MaxShare(1)
		c.Dir.Reload, c.OldWorkers = f.reload, f
		c.MaxOldWorkers = -1
		if set != nil {
			set(c, f)
		}
		port := 31000
		follow(t, c, func() {
			test(t, c, f, log, func(pause time.Duration) {
				port++
				eu1.set(t, port, "192.0.2.1")
				time.Sleep(pause)
				synctest.Wait()
			})
		})
	})
}

// TestManyChangesCauseFewReloads: 100 changes in a minute cause five reloads, and the last change
// is in force at most MaxInterval later. After a quiet time, a change is in force immediately.
func TestManyChangesCauseFewReloads(t *testing.T) {
	reloadTest(t, nil, func(t *testing.T, c *controller.Controller, f *fakeWorkers, log *logText, toggle func(time.Duration)) {
		for range 100 {
			toggle(600 * time.Millisecond)
		}
		seconds := func() (at []float64) {
			f.mu.Lock()
			defer f.mu.Unlock()
			for _, d := range f.at {
				at = append(at, d.Round(100*time.Millisecond).Seconds())
			}
			return at
		}
		require.Equal(t, []float64{0, 1, 5, 21, 51}, seconds())
		require.NotNil(t, c.Status().Waiting)
		require.Zero(t, c.Status().Waiting.OldWorkers)
		require.Contains(t, c.Status().String(), "waiting: the reload waits until ")
		require.NoError(t, c.Status().Ready())
		require.Contains(t, log.String(), "the reload waits, because HAProxy has reloaded often")
		time.Sleep(30 * time.Second)
		synctest.Wait()
		require.Equal(t, []float64{0, 1, 5, 21, 51, 81}, seconds())
		require.Contains(t, config(t, c), "192.0.2.1:31100")
		require.Nil(t, c.Status().Waiting)
		time.Sleep(65 * time.Second)
		synctest.Wait()
		require.Equal(t, 6, f.reloads(), "nothing has changed since")
		toggle(0)
		require.Equal(t, 7, f.reloads(), "immediately")
		toggle(time.Second)
		require.Equal(t, 8, f.reloads(), "after MinInterval")
	})
}

func TestReloadWaitsForOldWorkers(t *testing.T) {
	reloadTest(t, func(c *controller.Controller, _ *fakeWorkers) { c.MaxOldWorkers, c.MaxInterval = 3, 1 }, func(t *testing.T, c *controller.Controller, f *fakeWorkers, log *logText, toggle func(time.Duration)) {
		for range 3 {
			toggle(2 * time.Second)
		}
		require.Equal(t, 3, f.reloads())
		toggle(time.Minute)
		require.Equal(t, 3, f.reloads(), "three old workers run")
		toggle(8 * time.Minute)
		require.Equal(t, 3, f.reloads())
		require.ErrorContains(t, c.Status().Err, "the reload waits for the end of one of 3 old workers, until ")
		require.Equal(t, controller.ReloadCounts{OldWorkers: 3}, c.Status().Reloads)
		require.NoError(t, c.Status().Ready())
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 4, f.reloads(), "10 minutes after the first change that waited")
		f.mu.Lock()
		require.Equal(t, []int{1}, f.ended, "the oldest worker")
		f.mu.Unlock()
		require.Equal(t, controller.ReloadCounts{OldWorkers: 3, WorkersEnded: 1, StreamsCut: 3}, c.Status().Reloads)
		require.Contains(t, log.String(), `msg="the reload waits for old workers" old=3 limit=3 longest=10m0s`)
		require.Contains(t, log.String(), `msg="ended the oldest worker" pid=1 "streams cut"=3 old=2 limit=3 waited=10m`)
		require.Contains(t, config(t, c), "192.0.2.1:31005", "with the latest inputs")

		// The end of a worker lets the next reload begin, and nothing is cut.
		toggle(time.Minute)
		require.Equal(t, 4, f.reloads())
		f.mu.Lock()
		f.leave()
		f.mu.Unlock()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, 5, f.reloads())
		require.Equal(t, 3, c.Status().Reloads.StreamsCut)
	})
}

// TestReloadDoesNotWaitForever: even if the Controller cannot end an old worker, it still reloads
// HAProxy.
func TestReloadDoesNotWaitForever(t *testing.T) {
	reloadTest(t, func(c *controller.Controller, f *fakeWorkers) {
		c.MaxOldWorkers, c.MaxReloadWait, c.MaxInterval, f.stuck = 1, -1, 1, true
	}, func(t *testing.T, c *controller.Controller, f *fakeWorkers, log *logText, toggle func(time.Duration)) {
		for range 3 {
			toggle(2 * time.Second)
		}
		require.Equal(t, 3, f.reloads())
		require.Contains(t, log.String(), "no old worker can be ended, so HAProxy has more of them than the limit")
		require.Equal(t, controller.ReloadCounts{OldWorkers: 3}, c.Status().Reloads)
	})
}

// TestReloadKeepsWorkers: with KeepWorkers, a reload waits for MaxReloadWait, and ends no worker.
func TestReloadKeepsWorkers(t *testing.T) {
	reloadTest(t, func(c *controller.Controller, f *fakeWorkers) {
		c.MaxOldWorkers, c.MaxReloadWait, c.MaxInterval, c.KeepWorkers = 1, time.Minute, 1, true
	}, func(t *testing.T, c *controller.Controller, f *fakeWorkers, _ *logText, toggle func(time.Duration)) {
		for i := range 3 {
			toggle(2 * time.Minute)
			require.Equal(t, i+1, f.reloads())
		}
		require.Empty(t, f.ended)
		require.Equal(t, controller.ReloadCounts{OldWorkers: 3}, c.Status().Reloads)
	})
}

// TestForcedChangeWaitsForOldWorkers: Limit rejects a change, and somebody forces the change while
// it has to wait. The Controller applies the change when the wait is over. The permit is for this
// change only.
func TestForcedChangeWaitsForOldWorkers(t *testing.T) {
	reloadTest(t, func(c *controller.Controller, f *fakeWorkers) {
		c.MaxOldWorkers, c.MaxInterval, c.Limit = 1, 1, controller.MaxShare(0)
		f.old = []int{77}
	}, func(t *testing.T, c *controller.Controller, f *fakeWorkers, _ *logText, toggle func(time.Duration)) {
		toggle(11 * time.Minute)
		require.Equal(t, 1, f.reloads(), "the first configuration takes nothing away")
		toggle(time.Minute)
		require.Equal(t, controller.Refused, c.Status().Outcome)
		_, err := c.Force(t.Context(), c.Status().Refused.ID)
		var waiting *controller.Waiting
		require.ErrorAs(t, err, &waiting)
		require.Equal(t, 1, waiting.OldWorkers)
		require.Equal(t, 1, f.reloads())
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		require.Equal(t, 2, f.reloads())
		toggle(time.Minute)
		require.Equal(t, controller.Refused, c.Status().Outcome)
	})
}

// TestWaitingChangeRedirects: while a change waits, HAProxy sends no requests to servers that the
// change removes. If the routes and clusters return to their old state, these servers get requests
// again.
func TestWaitingChangeRedirects(t *testing.T) {
	var redirected []string
	reloadTest(t, func(c *controller.Controller, f *fakeWorkers) {
		c.MaxOldWorkers, c.MaxInterval = 1, 1
		c.Dir.Redirect = func(_ context.Context, config []byte) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			redirected = append(redirected, regexp.MustCompile(`192\.0\.2\.1:\d+`).FindString(string(config)))
			return nil
		}
	}, func(t *testing.T, c *controller.Controller, f *fakeWorkers, _ *logText, toggle func(time.Duration)) {
		toggle(time.Minute)
		require.Equal(t, 1, f.reloads())
		require.Empty(t, redirected, "a reload needs no redirection")
		toggle(time.Minute)
		require.Equal(t, controller.Waits, c.Status().Outcome)
		require.Equal(t, []string{"192.0.2.1:31002"}, redirected, "once, however often the change is attempted")
		toggle(time.Minute)
		require.Equal(t, []string{"192.0.2.1:31002", "192.0.2.1:31003"}, redirected)
		c.Clusters[0].Source.(*fakeCluster).set(t, 31001, "192.0.2.1")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, controller.Unchanged, c.Status().Outcome)
		require.Equal(t, "192.0.2.1:31001", redirected[len(redirected)-1], "back")
		require.Len(t, redirected, 3)
		require.Equal(t, 1, f.reloads())
	})
}

// TestRejectedChangeHasNoEffect: if HAProxy rejects a change, the Controller ends no worker and
// redirects nothing. If HAProxy accepts a change that has to wait, the Controller checks it once.
// If a redirection fails, the next attempt repeats it.
func TestRejectedChangeHasNoEffect(t *testing.T) {
	rejected, stuck := errors.New("rejected"), errors.New("stuck")
	checks, redirections := 0, 0
	var verdict, moved error
	reloadTest(t, func(c *controller.Controller, f *fakeWorkers) {
		c.MaxOldWorkers, c.MaxInterval = 1, 1
		c.Dir.Check = func(context.Context, haproxycfg.Valid) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			checks++
			return verdict
		}
		c.Dir.Redirect = func(context.Context, []byte) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			redirections++
			return moved
		}
	}, func(t *testing.T, c *controller.Controller, f *fakeWorkers, log *logText, toggle func(time.Duration)) {
		set := func(v, m error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			verdict, moved, checks, redirections = v, m, 0, 0
		}
		toggle(time.Minute)
		require.Equal(t, 1, f.reloads())
		require.Equal(t, 1, checks, "an attempt checks once")
		set(rejected, nil)
		toggle(time.Hour)
		require.ErrorIs(t, c.Status().Err, rejected)
		require.NotNil(t, c.Status().Refused)
		require.Empty(t, f.ended)
		require.Zero(t, redirections)
		set(nil, stuck)
		toggle(time.Minute)
		require.Equal(t, controller.Waits, c.Status().Outcome)
		require.Equal(t, 1, checks)
		require.Greater(t, redirections, 2)
		require.Equal(t, 1, strings.Count(log.String(), "may still get requests"))
		set(nil, nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 1, redirections)

		// The rejected change ends the wait. So the wait of the change after it begins at 0.
		set(rejected, nil)
		toggle(time.Hour)
		require.ErrorIs(t, c.Status().Err, rejected)
		require.Equal(t, 1, redirections, "taken back once")
		set(nil, nil)
		toggle(time.Minute)
		require.Equal(t, controller.Waits, c.Status().Outcome)
		require.Empty(t, f.ended)
	})
}

// TestApplyWaitsForOldWorkers: a Controller that applies one change also waits.
func TestApplyWaitsForOldWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		eu1 := newFakeCluster()
		eu1.set(t, 31000, "192.0.2.1")
		c := newController(t, eu1)
		f := &fakeWorkers{began: time.Now(), old: []int{5}}
		c.Dir.Reload, c.OldWorkers, c.MaxOldWorkers = f.reload, f, 1
		change, err := c.Plan(t.Context(), "test")
		require.NoError(t, err)
		outcome, err := c.Apply(t.Context(), change)
		require.NoError(t, err)
		require.Equal(t, controller.Written, outcome)
		require.Equal(t, []time.Duration{10 * time.Minute}, f.at)
		require.Equal(t, []int{5}, f.ended)

		eu1.set(t, 31001, "192.0.2.1")
		c.Limit = controller.MaxShare(1)
		change, err = c.Plan(t.Context(), "test")
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = c.Apply(ctx, change)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "one of 1 old workers")
		require.Equal(t, 1, f.reloads())
	})
}
