package controller_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/controller/canary"
	"github.com/headgate/headgate/haproxycfg/controller/fleet"
	"github.com/headgate/headgate/haproxycfg/controller/journal"
	"github.com/headgate/headgate/nodeselect"
)

// canaryWorld is a terminator that tries new routes. Its HAProxy answers 100 requests in each
// round, and a probe fails while probe is not nil.
type canaryWorld struct {
	*holdWorld

	mu      sync.Mutex
	probe   error
	failing bool // each response is 500
	away    error
	counted canary.Counters
}

const (
	oldRoutes = "- host: www.example.com\n  backends:\n  - {cluster: eu-1, namespace: shop, service: web, port: http}\n"
	probeName = "http://www.example.com/=200"
)

func newCanaryWorld(t *testing.T, name string, m *sharedMemory) *canaryWorld {
	w := &canaryWorld{holdWorld: newHoldWorld(t, oldRoutes)}
	w.loose.Store(true)
	if m != nil {
		w.join(m)
	}
	w.Canary = &controller.Canary{
		Name: name, Policy: canary.Policy{For: time.Minute},
		Probe: func(context.Context) map[string]error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.probe == nil {
				return nil
			}
			return map[string]error{probeName: w.probe}
		},
		Counters: func(context.Context) (canary.Counts, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.away != nil {
				return nil, w.away
			}
			w.counted.Responses += 100
			if w.failing {
				w.counted.Errors += 100
			}
			return canary.Counts{"web": w.counted}, nil
		},
	}
	return w
}

// again returns another process of the same terminator.
func (w *canaryWorld) again(t *testing.T, m *sharedMemory) *canaryWorld {
	next := newCanaryWorld(t, w.Canary.Name, m)
	next.Dir.Path, next.Journal.Path, next.routes.now = w.Dir.Path, w.Journal.Path, w.routes.now
	return next
}

func (w *canaryWorld) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// pass lets this time pass.
func pass(d time.Duration) { time.Sleep(d); synctest.Wait() }

// declareSoon declares the old route and one for each host, and waits only for the trial to begin.
func (w *canaryWorld) declareSoon(hosts ...string) {
	text := oldRoutes
	for _, host := range hosts {
		text += route(host, "web")
	}
	w.routes.now = w.routes.hosts(text)
	w.routes.next <- w.routes.now
	pass(7 * time.Second)
}

// canaries runs the terminators edge-1 and edge-2 of one fleet.
func canaries(t *testing.T, test func(t *testing.T, m *sharedMemory, a, b *canaryWorld)) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a, b := newCanaryWorld(t, "edge-1", m), newCanaryWorld(t, "edge-2", m)
		follow(t, a.Controller, func() {
			follow(t, b.Controller, func() {
				a.eu1.set(t, 30080, "10.0.0.1", "10.0.0.2")
				b.eu1.set(t, 30080, "10.0.0.1", "10.0.0.2")
				a.wait()
				require.True(t, a.serves(t, wwwRoute))
				require.NotNil(t, m.state().Canary, "the first routes are approved without a trial")
				require.Nil(t, m.state().Canary.Trial)
				test(t, m, a, b)
			})
		})
	})
}

func (m *sharedMemory) state() fleet.State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now.State
}

// TestCanaryApproves: new routes come into force on the terminator that sees them first, and a minute
// later on the other one. Meanwhile, the other one follows the nodes.
func TestCanaryApproves(t *testing.T) {
	canaries(t, func(t *testing.T, m *sharedMemory, a, b *canaryWorld) {
		a.declareSoon(newRoute)
		require.True(t, a.serves(t, newRoute))
		require.True(t, a.Status().Canary.Serving)
		b.declareSoon(newRoute)
		b.eu1.set(t, 30080, "10.0.0.1", "10.0.0.2", "10.0.0.3")
		pass(20 * time.Second)
		require.False(t, b.serves(t, newRoute))
		require.Contains(t, config(t, b.Controller), "10.0.0.3:30080", "nodes do not wait")
		status := b.Status()
		require.NoError(t, status.Ready())
		require.Nil(t, status.Hold)
		require.False(t, status.Canary.Serving)
		require.False(t, status.Canary.Withdrawn())
		require.Contains(t, status.String(), "canary: edge-1 tries new routes since 2000-")
		require.Contains(t, status.String(), "; the declared routes of this terminator would change routes: 1 added (new.example.com/)")
		require.Equal(t, "edge-1", m.state().Canary.Trial.Terminator)
		require.NotZero(t, m.state().Canary.Trial.Responses)

		pass(time.Minute)
		require.Nil(t, m.state().Canary.Trial)
		for _, w := range []*canaryWorld{a, b} {
			require.True(t, w.serves(t, newRoute))
			require.Nil(t, w.Status().Canary)
			require.Empty(t, w.Status().String())
		}
		require.Contains(t, b.entries(t)[len(b.entries(t))-1].String(), "new.example.com/: added")
	})
}

// TestCanaryWithdraws: a probe fails after the change. The other terminator never applies the new
// routes.
func TestCanaryWithdraws(t *testing.T) {
	canaries(t, func(t *testing.T, m *sharedMemory, a, b *canaryWorld) {
		a.declareSoon(newRoute, "third.example.com", "fourth.example.com")
		b.declareSoon(newRoute, "third.example.com", "fourth.example.com")
		a.loose.Store(false) // the way back takes away more than the limit
		a.set(func() { a.probe = errors.New("the status is 503") })
		pass(30 * time.Second)
		cause := "the probe " + probeName + " failed 3 times in a row: the status is 503"
		require.Equal(t, cause, m.state().Canary.Trial.Cause)
		require.False(t, a.serves(t, newRoute))
		require.Equal(t, "applied applied applied", a.results(t))
		require.Contains(t, a.entries(t)[2].String(), cause, "the journal names the cause")
		require.Equal(t, "applied", b.results(t), "the other terminator has applied nothing")
		for _, w := range []*canaryWorld{a, b} {
			status := w.Status()
			require.NoError(t, status.Ready())
			require.True(t, status.Canary.Withdrawn())
			require.Contains(t, status.String(), "new routes, which edge-1 tried, are withdrawn since 2000-")
			require.Contains(t, status.String(), cause)
		}

		// The routes are not tried again, even by the other terminator and after a long time.
		a.set(func() { a.probe = nil })
		pass(time.Hour)
		require.Equal(t, cause, m.state().Canary.Trial.Cause)
		require.Equal(t, "applied applied applied", a.results(t))

		// Rollback without an ID does not return to the withdrawn routes.
		_, err := a.Rollback(t.Context(), controller.RollbackOrder{})
		require.ErrorIs(t, err, controller.ErrNoRollback)

		// Other routes get a trial of their own.
		a.loose.Store(true)
		b.declareSoon(newRoute)
		require.True(t, b.serves(t, newRoute))
		require.False(t, a.serves(t, newRoute))
		require.Equal(t, "edge-2", m.state().Canary.Trial.Terminator)
		a.declareSoon(newRoute)
		a.wait()
		require.True(t, a.serves(t, newRoute))
		require.Nil(t, m.state().Canary.Trial)
	})
}

func TestCanaryWithdrawsBecauseOfErrors(t *testing.T) {
	canaries(t, func(t *testing.T, m *sharedMemory, a, b *canaryWorld) {
		a.declareSoon(newRoute)
		a.set(func() { a.failing = true })
		pass(15 * time.Second)
		require.Contains(t, m.state().Canary.Trial.Cause, "backend web: ")
		require.Contains(t, m.state().Canary.Trial.Cause, "5xx responses")
		require.False(t, a.serves(t, newRoute))

		// An operator approves the routes in spite of the errors.
		_, err := a.Release(t.Context(), "ada")
		require.NoError(t, err)
		require.True(t, a.serves(t, newRoute))
		b.declareSoon(newRoute)
		require.True(t, b.serves(t, newRoute))
		_, err = a.Release(t.Context(), "ada")
		require.ErrorIs(t, err, controller.ErrNoHold)
	})
}

// TestCanaryKeepsTheLimits: new routes that Limit refuses are withdrawn.
func TestCanaryKeepsTheLimits(t *testing.T) {
	canaries(t, func(t *testing.T, m *sharedMemory, a, b *canaryWorld) {
		a.loose.Store(false)
		a.routes.now = a.routes.hosts(route(newRoute, "api"))
		a.routes.next <- a.routes.now
		pass(10 * time.Second)
		require.Contains(t, m.state().Canary.Trial.Cause, "refused: ")
		require.True(t, a.serves(t, wwwRoute))
		require.Equal(t, journal.Refused, a.entries(t)[1].Result)
		require.ElementsMatch(t, []nodeselect.Ref{
			{Namespace: "shop", Service: "api", Port: "http"}, {Namespace: "shop", Service: "web", Port: "http"},
		}, a.eu1.refs, "the services of the approved routes are followed")
	})
}

// TestCanaryGoesOnAfterARestart: the trial and its cause survive a restart of each terminator.
func TestCanaryGoesOnAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a, b := newCanaryWorld(t, "edge-1", m), newCanaryWorld(t, "edge-2", m)
		for _, w := range []*canaryWorld{a, b} {
			follow(t, w.Controller, func() {
				w.eu1.set(t, 30080, "10.0.0.1")
				w.wait()
				if w == a {
					w.declareSoon(newRoute)
					require.True(t, w.serves(t, newRoute))
				}
			})
		}
		trial := m.state().Canary.Trial
		require.Equal(t, "edge-1", trial.Terminator)
		b.routes.now = a.routes.now
		a, b = a.again(t, m), b.again(t, m)
		follow(t, b.Controller, func() {
			b.eu1.set(t, 30080, "10.0.0.1")
			pass(30 * time.Second)
			require.False(t, b.serves(t, newRoute))
			follow(t, a.Controller, func() {
				a.eu1.set(t, 30080, "10.0.0.1")
				pass(10 * time.Second)
				require.True(t, a.serves(t, newRoute))
				require.True(t, trial.Is(m.state().Canary.Trial))
				a.set(func() { a.failing = true })
				pass(15 * time.Second)
				require.Contains(t, m.state().Canary.Trial.Cause, "all backends: ", "after a restart, only the sum before the change is known")
				require.False(t, a.serves(t, newRoute))
			})
			b = b.again(t, m)
		})
		follow(t, b.Controller, func() {
			b.eu1.set(t, 30080, "10.0.0.1")
			pass(time.Hour)
			require.False(t, b.serves(t, newRoute), "the withdrawal survives a restart too")
		})
	})
}

// TestCanaryDies: another terminator begins the trial anew when the first one does nothing.
func TestCanaryDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a, b := newCanaryWorld(t, "edge-1", m), newCanaryWorld(t, "edge-2", m)
		follow(t, b.Controller, func() {
			b.eu1.set(t, 30080, "10.0.0.1")
			follow(t, a.Controller, func() {
				a.eu1.set(t, 30080, "10.0.0.1")
				a.wait()
				a.declareSoon(newRoute)
			})
			b.declareSoon(newRoute)
			pass(2*time.Minute + 30*time.Second)
			require.Equal(t, "edge-1", m.state().Canary.Trial.Terminator)
			require.False(t, b.serves(t, newRoute))
			pass(time.Minute)
			require.Equal(t, "edge-2", m.state().Canary.Trial.Terminator)
			require.True(t, b.serves(t, newRoute))
			pass(time.Minute)
			require.Nil(t, m.state().Canary.Trial)
			require.True(t, b.serves(t, newRoute))
		})
	})
}

// TestCanaryFollowsItsDeclarations: the declarations change during a trial, and then return to the
// approved routes.
func TestCanaryFollowsItsDeclarations(t *testing.T) {
	canaries(t, func(t *testing.T, m *sharedMemory, a, _ *canaryWorld) {
		a.set(func() { a.probe = errors.New("the status is 503") })
		a.declareSoon(newRoute)
		first := m.state().Canary.Trial
		require.Equal(t, []string{probeName}, first.Failing, "a probe that failed before does not count")
		pass(20 * time.Second)
		a.declareSoon(newRoute, "third.example.com")
		require.True(t, a.serves(t, "third.example.com"))
		second := m.state().Canary.Trial
		require.NotEqual(t, first.Declarations, second.Declarations)
		require.Equal(t, first.Responses, second.Responses)
		require.Equal(t, first.Failing, second.Failing)
		a.declareSoon()
		require.Nil(t, m.state().Canary.Trial)
		require.False(t, a.serves(t, newRoute))
		require.Nil(t, a.Status().Canary)
		a.declareSoon(newRoute)
		pass(50 * time.Second)
		require.NotNil(t, m.state().Canary.Trial)
		pass(30 * time.Second)
		require.Nil(t, m.state().Canary.Trial)
	})
}

// TestCanaryOfOldFiles: the files of edge-2 change later than the files of edge-1. Meanwhile, edge-2
// serves the approved routes, and tries neither its old routes nor its withdrawn routes.
func TestCanaryOfOldFiles(t *testing.T) {
	canaries(t, func(t *testing.T, m *sharedMemory, a, b *canaryWorld) {
		const third, fourth = "third.example.com", "fourth.example.com"
		keepsApproved := func() {
			t.Helper()
			pass(2 * time.Minute)
			approved := m.state().Canary
			require.Nil(t, approved.Trial)
			pass(time.Hour)
			require.True(t, approved.Is(m.state().Canary))
			require.NotNil(t, b.Status().Canary)
		}
		a.declareSoon(newRoute)
		b.declareSoon(newRoute)
		pass(2 * time.Minute)
		a.declareSoon(newRoute, third)
		keepsApproved()
		require.True(t, b.serves(t, third))

		b.declareSoon(fourth)
		b.set(func() { b.probe = errors.New("the status is 503") })
		pass(time.Minute)
		require.False(t, m.state().Canary.Trial.Withdrawn.IsZero())
		b.set(func() { b.probe = nil })
		a.declareSoon(newRoute, third, "fifth.example.com")
		keepsApproved()
		require.False(t, b.serves(t, fourth))

		b.declareSoon(newRoute, third)
		require.Equal(t, "edge-2", m.state().Canary.Running().Terminator, "a change back to earlier routes is tried")
	})
}

// TestCanaryForgetsItsErrors: the errors of a trial that an operator has ended are not among the errors
// before the next trial.
func TestCanaryForgetsItsErrors(t *testing.T) {
	canaries(t, func(t *testing.T, m *sharedMemory, a, _ *canaryWorld) {
		a.routes.next <- a.routes.hosts(oldRoutes + route(newRoute, "web"))
		pass(3 * time.Second)
		require.NotNil(t, m.state().Canary.Running())
		a.set(func() { a.counted.Responses, a.counted.Errors = a.counted.Responses+500, a.counted.Errors+500 })
		_, err := a.Rollback(t.Context(), controller.RollbackOrder{})
		require.NoError(t, err)
		require.Equal(t, "rollback", m.state().Canary.Trial.Cause, "without a name and a reason")
		pass(time.Minute)
		a.declareSoon("third.example.com")
		require.Positive(t, m.state().Canary.Running().Responses)
		require.Zero(t, m.state().Canary.Running().Errors)
	})
}

// TestCanaryAndOrders: an operator ends a trial by a rollback, and a hold of earlier routes goes
// before any trial.
func TestCanaryAndOrders(t *testing.T) {
	canaries(t, func(t *testing.T, m *sharedMemory, a, b *canaryWorld) {
		a.declareSoon(newRoute)
		_, err := b.Rollback(t.Context(), controller.RollbackOrder{By: "ada", Reason: "too slow"})
		require.NoError(t, err)
		pass(5 * time.Second)
		require.Equal(t, "rollback by ada: too slow", m.state().Canary.Trial.Cause)
		require.Nil(t, m.state().Hold)
		require.False(t, a.serves(t, newRoute))

		// A change that is approved, and then rolled back.
		_, err = a.Release(t.Context(), "ada")
		require.NoError(t, err)
		_, err = a.Rollback(t.Context(), controller.RollbackOrder{})
		require.NoError(t, err)
		require.False(t, a.serves(t, newRoute))
		require.NotNil(t, a.Status().Hold)
		require.Nil(t, a.Status().Canary)
		a.declareSoon(newRoute, "third.example.com")
		pass(10 * time.Minute)
		require.False(t, a.serves(t, "third.example.com"))
		require.Nil(t, m.state().Canary.Trial, "no trial begins while routes are held")
		b.declareSoon(newRoute, "third.example.com")
		_, err = a.Release(t.Context(), "ada")
		require.NoError(t, err)
		pass(5 * time.Second)
		first, other := a, b
		if m.state().Canary.Trial.Terminator == "edge-2" {
			first, other = b, a
		}
		require.True(t, first.serves(t, "third.example.com"))
		require.False(t, other.serves(t, "third.example.com"))
		require.False(t, other.serves(t, newRoute), "the routes from before the rollback stay out of force")

		// A release puts routes into force that were in force before, without a trial.
		a.declareSoon(newRoute)
		b.declareSoon(newRoute)
		a.wait()
		require.True(t, b.serves(t, newRoute))
		_, err = a.Rollback(t.Context(), controller.RollbackOrder{})
		require.NoError(t, err)
		_, err = a.Release(t.Context(), "ada")
		require.NoError(t, err)
		require.True(t, a.serves(t, newRoute))
		require.Nil(t, m.state().Canary.Trial)
	})
}

// TestCanaryWhileTheFleetIsAway: no trial begins, but a running one is withdrawn in the HAProxy of
// its terminator.
func TestCanaryWhileTheFleetIsAway(t *testing.T) {
	canaries(t, func(t *testing.T, m *sharedMemory, a, b *canaryWorld) {
		a.declareSoon(newRoute)
		m.setAway(errAway)
		b.declareSoon("third.example.com")
		a.set(func() { a.failing = true })
		pass(time.Minute)
		require.False(t, a.serves(t, newRoute))
		require.True(t, a.Status().Canary.Withdrawn())
		first := m.state().Canary.Running()
		require.Equal(t, "edge-1", first.Terminator)
		require.False(t, b.serves(t, "third.example.com"))
		m.setAway(nil)
		pass(time.Minute)
		require.Contains(t, m.state().Canary.Earlier, first.Declarations, "these routes were withdrawn")
		require.Equal(t, "edge-2", m.state().Canary.Running().Terminator)
		require.False(t, a.serves(t, newRoute))
		require.True(t, b.serves(t, "third.example.com"))
	})
}

// TestCanaryWithdrawsLater: routes that were withdrawn while the fleet could not be written are
// withdrawn for the fleet afterwards, even if they do no harm any more.
func TestCanaryWithdrawsLater(t *testing.T) {
	canaries(t, func(t *testing.T, m *sharedMemory, a, b *canaryWorld) {
		for _, host := range []string{newRoute, "third.example.com"} {
			a.declareSoon(host)
			m.setAway(errAway)
			pass(10 * time.Second)
			cause := "rollback"
			if host != newRoute {
				_, err := b.Rollback(t.Context(), controller.RollbackOrder{})
				require.NoError(t, err)
			} else {
				cause = "backend web: "
				a.set(func() { a.failing = true })
				pass(time.Minute)
				require.True(t, a.Status().Canary.Withdrawn())
				a.set(func() { a.failing = false })
			}
			require.NotNil(t, m.state().Canary.Running())
			m.setAway(nil)
			pass(10 * time.Second)
			require.Contains(t, m.state().Canary.Trial.Cause, cause)
			require.False(t, a.serves(t, host))
		}
	})
}

// TestReleaseOfUnreadRoutes: an operator cannot approve routes that have not been read completely.
func TestReleaseOfUnreadRoutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newCanaryWorld(t, "edge-1", nil)
		w.routes.now = w.routes.hosts(oldRoutes + route(newRoute, "web"))
		follow(t, w.Controller, func() {
			w.eu1.set(t, 30080, "10.0.0.1")
			w.wait()
		})
		w = w.again(t, nil)
		w.routes.now = w.routes.hosts(oldRoutes)
		w.routes.now.Unread = []string{"team.yaml"}
		follow(t, w.Controller, func() {
			w.eu1.set(t, 30080, "10.0.0.1")
			w.wait()
			_, err := w.Release(t.Context(), "ada")
			require.EqualError(t, err, "controller: nothing is approved: not read since the start: team.yaml")
			w.wait()
			require.True(t, w.serves(t, newRoute))
		})
	})
}

// oneTerm is an Elector that makes this process the leader until the channel is closed.
type oneTerm chan struct{}

func (e oneTerm) Run(ctx context.Context, begin func(controller.Term), leader func(string, bool)) {
	leader("edge-1", true)
	begin(controller.Term{Guard: func() error { return nil }, Done: e})
	select {
	case <-e:
		leader("edge-2", false)
		<-ctx.Done()
	case <-ctx.Done():
	}
}

// TestCanaryOfALeader: the terminator that stops leading leaves the trial to the next leader, and says
// nothing about it any more.
func TestCanaryOfALeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		w := newCanaryWorld(t, "the lease", m)
		term := make(oneTerm)
		w.Elector = term
		follow(t, w.Controller, func() {
			w.eu1.set(t, 30080, "10.0.0.1")
			w.wait()
			w.declareSoon(newRoute)
			require.True(t, w.Status().Canary.Serving)
			close(term)
			pass(time.Hour)
			require.Nil(t, w.Status().Canary)
			require.NotNil(t, m.state().Canary.Running())
		})
		w = w.again(t, m)
		follow(t, w.Controller, func() {
			w.eu1.set(t, 30080, "10.0.0.1")
			w.wait()
			require.Nil(t, m.state().Canary.Trial)
			require.True(t, w.serves(t, newRoute))
		})
	})
}

// TestHoldOfALeader: after the terminator has stopped leading, it says nothing about a hold, which the
// next leader may have ended.
func TestHoldOfALeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newHoldWorld(t, oldRoutes)
		w.loose.Store(true)
		term := make(oneTerm)
		w.Elector = term
		follow(t, w.Controller, func() {
			w.eu1.set(t, 30080, "10.0.0.1")
			w.wait()
			w.declare(oldRoutes + route(newRoute, "web"))
			_, err := w.Rollback(t.Context(), controller.RollbackOrder{})
			require.NoError(t, err)
			require.NotNil(t, w.Status().Hold)
			close(term)
			w.wait()
			require.False(t, w.Status().Leading)
			require.Nil(t, w.Status().Hold)
		})
	})
}

// TestCanaryAlone: a terminator without a fleet returns to its approved routes by itself. Without
// counters nothing is approved.
func TestCanaryAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newCanaryWorld(t, "edge-1", nil)
		follow(t, w.Controller, func() {
			w.eu1.set(t, 30080, "10.0.0.1")
			w.wait()
			w.declareSoon(newRoute)
			w.set(func() { w.away = errors.New("HAProxy does not answer") })
			pass(10 * time.Minute)
			require.True(t, w.Status().Canary.Serving, "undecided")
			require.Contains(t, w.log.String(), "HAProxy does not answer")
			w.set(func() { w.away, w.failing = nil, true })
			pass(15 * time.Second)
			require.True(t, w.Status().Canary.Withdrawn())
			require.False(t, w.serves(t, newRoute))
		})
		w = w.again(t, nil)
		follow(t, w.Controller, func() {
			w.eu1.set(t, 30080, "10.0.0.1")
			w.wait()
			require.False(t, w.serves(t, newRoute))
			require.True(t, w.Status().Canary.Withdrawn())
		})
	})
}
