package controller_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/controller/fleet"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/shift"
)

// sharedMemory is the state that the memoryStores of several processes share.
type sharedMemory struct {
	mu      sync.Mutex
	now     fleet.Snapshot
	writes  int
	away    error
	readers map[*memoryStore]chan struct{}
}

func (m *sharedMemory) change(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
	for _, wake := range m.readers {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

func (m *sharedMemory) setAway(err error) { m.change(func() { m.away = err }) }

// memoryStore is the fleet.Store of one process.
type memoryStore struct {
	memory *sharedMemory

	mu      sync.Mutex
	publish func(fleet.Snapshot, error)
	raced   func() // called once, after the next Read
}

func (s *memoryStore) tell(now fleet.Snapshot, err error) {
	if s.publish != nil {
		s.publish(now, err)
	}
}

func (s *memoryStore) Read(context.Context) (fleet.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.memory.mu.Lock()
	now, err := s.memory.now, s.memory.away
	s.memory.mu.Unlock()
	if s.raced != nil {
		s.raced()
		s.raced = nil
	}
	if err == nil {
		s.tell(now, nil)
	}
	return now, err
}

func (s *memoryStore) Write(_ context.Context, state fleet.State, version string) (now fleet.Snapshot, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.memory.change(func() {
		m := s.memory
		switch {
		case m.away != nil:
			err = m.away
		case m.now.Version != version:
			err = fleet.ErrConflict
		default:
			m.writes++
			m.now = fleet.Snapshot{State: state, Version: strconv.Itoa(m.writes)}
			now = m.now
		}
	})
	if err == nil {
		s.tell(now, nil)
	}
	return now, err
}

func (s *memoryStore) Follow(ctx context.Context, publish func(fleet.Snapshot, error)) {
	wake := make(chan struct{}, 1)
	s.memory.change(func() { s.memory.readers[s] = wake })
	s.mu.Lock()
	s.publish = publish
	s.mu.Unlock()
	for {
		s.mu.Lock()
		s.memory.mu.Lock()
		now, err := s.memory.now, s.memory.away
		s.memory.mu.Unlock()
		s.tell(now, err)
		s.mu.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
			s.memory.change(func() { delete(s.memory.readers, s) })
			s.mu.Lock()
			s.publish = nil
			s.mu.Unlock()
			return
		}
	}
}

func newMemory() *sharedMemory { return &sharedMemory{readers: map[*memoryStore]chan struct{}{}} }

// The method "join" sets w.Fleet to a new memoryStore. All stores with the same sharedMemory have
// the same state.
func (w *holdWorld) join(m *sharedMemory) *memoryStore {
	s := &memoryStore{memory: m}
	w.Fleet = s
	return s
}

var errAway = errors.New("the API server is away")

const shiftable = "- host: www.example.com\n  shift: true\n  backends:\n" +
	"  - {cluster: eu-1, namespace: shop, service: web, port: http}\n  - {cluster: eu-2, namespace: shop, service: web, port: http, weight: 0}\n"

// newFleetWorld returns one terminator of a fleet, and its second cluster.
func newFleetWorld(t *testing.T, m *sharedMemory) (*holdWorld, *fakeCluster) {
	w := newHoldWorld(t, shiftable)
	w.loose.Store(true)
	eu2 := newFakeCluster()
	w.Clusters = append(w.Clusters, controller.Cluster{Name: "eu-2", Source: eu2})
	w.join(m)
	return w, eu2
}

func (w *holdWorld) share(t *testing.T) string {
	t.Helper()
	values, err := w.Dir.MapInForce(edge.ShiftMap)
	require.NoError(t, err)
	for _, v := range values {
		return v
	}
	return ""
}

// TestFleet: an order to one terminator of a fleet reaches the other one.
func TestFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a, aEU2 := newFleetWorld(t, m)
		b, bEU2 := newFleetWorld(t, m)
		order, err := shift.ParseOrder("www.example.com/", "eu-2:25")
		require.NoError(t, err)
		moved := shift.State{}.With(shift.Shift{Order: order, Status: shift.Done, Since: time.Now()})
		follow(t, a.Controller, func() {
			follow(t, b.Controller, func() {
				for _, c := range []*fakeCluster{a.eu1, aEU2, b.eu1, bEU2} {
					c.set(t, 30080, "10.0.0.1", "10.0.0.2")
				}
				a.wait()
				a.declare(shiftable + route(newRoute, "web"))
				b.declare(shiftable + route(newRoute, "web"))
				require.True(t, b.serves(t, newRoute))

				got, err := a.Rollback(t.Context(), controller.RollbackOrder{By: "ada"})
				require.NoError(t, err)
				require.Contains(t, []controller.Outcome{controller.Written, controller.Unchanged}, got.Outcome)
				require.False(t, a.serves(t, newRoute))
				time.Sleep(5 * time.Second)
				synctest.Wait()
				require.False(t, b.serves(t, newRoute))
				require.Equal(t, a.Status().Hold.Held, b.Status().Hold.Held)
				require.Equal(t, "1", b.Status().Fleet.Version)

				require.NoError(t, b.SetShifts(t.Context(), shift.State{}, moved))
				require.Equal(t, "100/eu-2", b.share(t))
				synctest.Wait()
				require.Equal(t, "100/eu-2", a.share(t), "even before the next attempt")
				require.ErrorIs(t, a.SetShifts(t.Context(), shift.State{}, moved), shift.ErrConflict)

				_, err = b.Release(t.Context(), "bob")
				require.NoError(t, err)
				time.Sleep(5 * time.Second)
				synctest.Wait()
				for _, w := range []*holdWorld{a, b} {
					require.True(t, w.serves(t, newRoute))
					require.Nil(t, w.Status().Hold)
					require.Equal(t, "100/eu-2", w.share(t), "a release does not end a shift")
				}
				_, err = a.Release(t.Context(), "ada")
				require.ErrorIs(t, err, controller.ErrNoHold)

				// Another terminator writes an order at the same time. Both orders stay.
				a.Fleet.(*memoryStore).raced = func() {
					m.change(func() {
						m.writes++
						m.now.State.Shifts.ClosePoints, m.now.Version = 7, strconv.Itoa(m.writes)
					})
				}
				_, err = a.Rollback(t.Context(), controller.RollbackOrder{})
				require.NoError(t, err)
				m.mu.Lock()
				defer m.mu.Unlock()
				require.Equal(t, 7, m.now.State.Shifts.ClosePoints)
				require.NotNil(t, m.now.State.Hold)
			})
		})
	})
}

// TestFleetIsAway: while the store is away, a terminator keeps the last orders, even after a restart,
// and takes no new ones. It still pauses a shift because of errors.
func TestFleetIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		w, eu2 := newFleetWorld(t, m)
		order, err := shift.ParseOrder("www.example.com/", "eu-2:25")
		require.NoError(t, err)
		moving := shift.State{}.With(shift.Shift{Order: order, Status: shift.Moving, Step: 1, Since: time.Now()})
		paused := shift.State{}.With(shift.Shift{Order: order, Status: shift.Paused, Step: 0, Since: time.Now(), Reason: "errors"})
		follow(t, w.Controller, func() {
			w.eu1.set(t, 30080, "10.0.0.1", "10.0.0.2")
			eu2.set(t, 30080, "10.0.0.1", "10.0.0.2")
			w.wait()
			w.declare(shiftable + route(newRoute, "web"))
			_, err := w.Rollback(t.Context(), controller.RollbackOrder{})
			require.NoError(t, err)
			require.NoError(t, w.SetShifts(t.Context(), shift.State{}, moving))
			require.Equal(t, "500/eu-2", w.share(t))
			m.setAway(errAway)
			w.wait()
			require.NoError(t, w.Status().Ready())
			require.Contains(t, w.Status().String(), "the orders of the fleet: not read since ")
			_, err = w.Release(t.Context(), "ada")
			require.ErrorIs(t, err, errAway)
			require.NotNil(t, w.Status().Hold)
			require.ErrorIs(t, w.SetShifts(t.Context(), moving, shift.State{}), errAway)
		})
		next := w.again(t)
		next.loose.Store(true)
		eu2 = newFakeCluster()
		next.Clusters = append(next.Clusters, controller.Cluster{Name: "eu-2", Source: eu2})
		next.join(m)
		follow(t, next.Controller, func() {
			next.eu1.set(t, 30080, "10.0.0.1", "10.0.0.2", "10.0.0.3")
			eu2.set(t, 30080, "10.0.0.1", "10.0.0.2")
			next.wait()
			require.False(t, next.serves(t, newRoute), "the copy holds")
			require.Equal(t, "500/eu-2", next.share(t))
			require.Contains(t, config(t, next.Controller), "10.0.0.3:30080")

			now, err := next.Shifts()
			require.NoError(t, err)
			require.NoError(t, next.SetShifts(t.Context(), now, paused))
			require.Equal(t, "100/eu-2", next.share(t))
			next.wait()
			require.Equal(t, "100/eu-2", next.share(t), "no attempt undoes the pause")
			m.setAway(nil)
			next.wait()
			require.Equal(t, "500/eu-2", next.share(t), "the orders of the fleet count again")
			require.Empty(t, next.Status().Fleet.String())

			// Somebody deletes the object, or its store is empty: that does not end a hold.
			m.change(func() { m.now = fleet.Snapshot{} })
			next.wait()
			require.False(t, next.serves(t, newRoute))
			require.Contains(t, next.Status().String(), "there are none, so this terminator keeps the last known ones")
			_, err = next.Release(t.Context(), "ada")
			require.NoError(t, err)
			require.True(t, next.serves(t, newRoute))
			require.Equal(t, "500/eu-2", next.share(t))
		})
	})
}

// TestFleetAtTheStart: a new terminator applies nothing before it has read the orders, for
// StartTimeout at most.
func TestFleetAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.away = errAway
		w := newHoldWorld(t, route(wwwRoute, "web"))
		w.join(m)
		packed, err := fleet.Pack(w.routes.now.Table.Routes())
		require.NoError(t, err)
		m.now = fleet.Snapshot{Version: "1", State: fleet.State{Hold: &fleet.Hold{ID: "abc", Applied: time.Now(), Since: time.Now(), Routes: packed}}}
		w.routes.now = w.routes.hosts(route(wwwRoute, "web") + route(newRoute, "web"))
		follow(t, w.Controller, func() {
			w.eu1.set(t, 30080, "10.0.0.1")
			time.Sleep(5 * time.Second)
			synctest.Wait()
			require.NoFileExists(t, filepath.Join(w.Dir.Path, "haproxy.cfg"))
			require.False(t, w.Status().Fleet.Read)
			m.setAway(nil)
			time.Sleep(time.Second)
			synctest.Wait()
			require.True(t, w.serves(t, wwwRoute))
			require.False(t, w.serves(t, newRoute))
			require.FileExists(t, filepath.Join(w.Dir.Path, controller.FleetFile))
			require.True(t, w.Status().Fleet.Read)
		})

		// "terminator -once" reads the store too, and otherwise uses the copy.
		once := w.again(t)
		once.join(m)
		for _, away := range []error{nil, errAway} {
			if away != nil {
				require.NoError(t, os.Remove(filepath.Join(w.Dir.Path, controller.FleetFile)))
			}
			m.setAway(away)
			once.eu1.set(t, 30080, "10.0.0.1")
			change, err := once.Plan(t.Context(), "test")
			require.NoError(t, err)
			require.Equal(t, away == nil, change.Report.Held != nil)
		}

		alone := newHoldWorld(t, route(wwwRoute, "web"))
		alone.join(m)
		follow(t, alone.Controller, func() {
			alone.eu1.set(t, 30080, "10.0.0.1")
			alone.wait()
			require.True(t, alone.serves(t, wwwRoute), "after StartTimeout, a terminator without orders serves")
		})
	})
}
