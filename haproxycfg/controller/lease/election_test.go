package lease

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// apiServer keeps one Lease for several memoryLocks.
type apiServer struct {
	mu      sync.Mutex
	version int // 0 while the Lease is missing
	lease   record
}

func (s *apiServer) record() record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease
}

// memoryLock is the lock of one process. Its Update fails if another process has written the Lease.
type memoryLock struct {
	server  *apiServer
	version int

	mu  sync.Mutex
	err error // of every call, if not nil
}

func (l *memoryLock) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

func (l *memoryLock) do(f func() error) error {
	l.mu.Lock()
	err := l.err
	l.mu.Unlock()
	if err != nil {
		return err
	}
	l.server.mu.Lock()
	defer l.server.mu.Unlock()
	err = f()
	if err == nil {
		l.version = l.server.version
	}
	return err
}

var leases = coordinationv1.Resource("leases")

func (l *memoryLock) Get(context.Context) (r record, err error) {
	return r, l.do(func() error {
		if l.server.version == 0 {
			return apierrors.NewNotFound(leases, "terminator")
		}
		r = l.server.lease
		return nil
	})
}

func (l *memoryLock) Create(_ context.Context, r record) error {
	return l.do(func() error {
		if l.server.version != 0 {
			return apierrors.NewAlreadyExists(leases, "terminator")
		}
		l.server.lease, l.server.version = r, 1
		return nil
	})
}

func (l *memoryLock) Update(_ context.Context, r record) error {
	return l.do(func() error {
		if l.version != l.server.version {
			return apierrors.NewConflict(leases, "terminator", errors.New("written by another process"))
		}
		l.server.lease, l.server.version = r, l.server.version+1
		return nil
	})
}

// process is a candidate that runs.
type process struct {
	lock *memoryLock
	stop context.CancelFunc
	done chan struct{}

	mu      sync.Mutex
	term    context.Context
	leaders []string // that the candidate reported
}

func start(t *testing.T, server *apiServer, identity string) *process {
	ctx, stop := context.WithCancel(t.Context())
	p := &process{lock: &memoryLock{server: server}, stop: stop, done: make(chan struct{})}
	c := candidate{
		lock: p.lock, identity: identity, log: slog.New(slog.DiscardHandler),
		leader: func(name string) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.leaders = append(p.leaders, name)
		},
	}
	go func() {
		defer close(p.done)
		c.run(ctx, func(term context.Context) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.term = term
		})
	}()
	return p
}

func (p *process) leads() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.term != nil && p.term.Err() == nil
}

func electionTest(t *testing.T, test func(t *testing.T, server *apiServer)) {
	synctest.Test(t, func(t *testing.T) { test(t, &apiServer{}) })
}

func TestElectionOfOne(t *testing.T) {
	electionTest(t, func(t *testing.T, server *apiServer) {
		p := start(t, server, "one")
		after(0)
		require.True(t, p.leads(), "a missing Lease is created at once")
		first := server.record()
		require.Equal(t, record{holder: "one", duration: leaseDuration, acquired: first.acquired, renewed: first.acquired}, first)
		after(time.Minute)
		require.True(t, p.leads())
		last := server.record()
		require.Equal(t, first.acquired, last.acquired)
		require.LessOrEqual(t, time.Since(last.renewed), retryPeriod)
		require.Zero(t, last.transitions)
		p.stop()
		<-p.done
		released := server.record()
		require.Empty(t, released.holder)
		require.Equal(t, time.Second, released.duration)
		require.Equal(t, []string{"one"}, p.leaders)
	})
}

func TestElectionAfterARelease(t *testing.T) {
	electionTest(t, func(t *testing.T, server *apiServer) {
		first := start(t, server, "one")
		after(0)
		second := start(t, server, "two")
		after(time.Hour)
		require.True(t, first.leads())
		require.False(t, second.leads())
		first.stop()
		<-first.done
		after(retryPeriod * 22 / 10)
		require.True(t, second.leads())
		require.EqualValues(t, 1, server.record().transitions)
		require.Equal(t, []string{"one", "two"}, second.leaders)
		second.stop()
		<-second.done
	})
}

// TestElectionAfterACrash: the second process waits for leaseDuration, whatever the clock of the
// first said.
func TestElectionAfterACrash(t *testing.T) {
	for name, skew := range map[string]time.Duration{"same clock": 0, "behind": -time.Hour, "ahead": time.Hour} {
		t.Run(name, func(t *testing.T) {
			electionTest(t, func(t *testing.T, server *apiServer) {
				now := time.Now().Add(skew)
				server.lease, server.version = record{holder: "crashed", duration: leaseDuration, acquired: now, renewed: now}, 1
				p := start(t, server, "two")
				after(leaseDuration - time.Millisecond)
				require.False(t, p.leads())
				after(retryPeriod*22/10 + time.Millisecond)
				require.True(t, p.leads())
				p.stop()
				<-p.done
			})
		})
	}
}

func TestElectionWithoutAnAPIServer(t *testing.T) {
	electionTest(t, func(t *testing.T, server *apiServer) {
		p := start(t, server, "one")
		after(0)
		p.lock.fail(errors.New("no answer"))
		after(retryPeriod + renewDeadline - time.Millisecond)
		require.True(t, p.leads())
		after(time.Millisecond)
		<-p.done
		require.False(t, p.leads())
		require.Equal(t, "one", server.record().holder, "a release is not possible")
	})
}

// TestElectionThatAnotherProcessOverrides: the candidate neither writes the Lease of the other
// process nor releases it.
func TestElectionThatAnotherProcessOverrides(t *testing.T) {
	electionTest(t, func(t *testing.T, server *apiServer) {
		p := start(t, server, "one")
		after(0)
		other := record{holder: "other", duration: time.Hour}
		server.mu.Lock()
		server.lease, server.version = other, server.version+1
		server.mu.Unlock()
		after(retryPeriod)
		require.Equal(t, []string{"one", "other"}, p.leaders)
		after(renewDeadline)
		<-p.done
		require.False(t, p.leads())
		require.Equal(t, other, server.record())
	})
}
