package lease

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// fakeLock is a Lease without versions: every Update succeeds.
type fakeLock struct {
	resourcelock.Interface
	holder  string
	err     error
	updates int
}

func (l *fakeLock) Identity() string { return "self" }

func (l *fakeLock) Get(context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	return &resourcelock.LeaderElectionRecord{HolderIdentity: l.holder}, nil, l.err
}

func (l *fakeLock) Update(_ context.Context, r resourcelock.LeaderElectionRecord) error {
	if l.err == nil {
		l.holder = r.HolderIdentity
		l.updates++
	}
	return l.err
}

func (l *fakeLock) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return l.Update(ctx, r)
}

// lockTest runs a test with a fencedLock that holds the Lease. lost counts how often the fencedLock
// calls its function lost.
func lockTest(t *testing.T, test func(t *testing.T, lock *fakeLock, f *fencedLock, lost *atomic.Int32)) {
	synctest.Test(t, func(t *testing.T) {
		lock, lost := &fakeLock{}, &atomic.Int32{}
		f := newFencedLock(lock, func() { lost.Add(1) })
		defer f.close()
		require.NoError(t, f.Create(t.Context(), resourcelock.LeaderElectionRecord{HolderIdentity: "self"}))
		require.NoError(t, f.guard())
		test(t, lock, f, lost)
	})
}

var (
	selfHolds = resourcelock.LeaderElectionRecord{HolderIdentity: "self"}
	released  = resourcelock.LeaderElectionRecord{}
)

func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestGuardOfALeaseThatIsRenewed(t *testing.T) {
	lockTest(t, func(t *testing.T, _ *fakeLock, f *fencedLock, lost *atomic.Int32) {
		for range 100 {
			after(retryPeriod)
			require.NoError(t, f.Update(t.Context(), selfHolds))
			require.NoError(t, f.guard())
		}
		require.EqualValues(t, 0, lost.Load())
	})
}

func TestGuardOfALeaseThatCannotBeRenewed(t *testing.T) {
	lockTest(t, func(t *testing.T, lock *fakeLock, f *fencedLock, lost *atomic.Int32) {
		lock.err = errors.New("no answer")
		after(renewDeadline - time.Millisecond)
		require.Error(t, f.Update(t.Context(), selfHolds))
		require.NoError(t, f.guard())
		require.EqualValues(t, 0, lost.Load())
		after(time.Millisecond)
		require.EqualValues(t, 1, lost.Load(), "the timer ends the term without a call of guard")
		require.ErrorIs(t, f.guard(), errExpired)
		require.EqualValues(t, 1, lost.Load())
	})
}

// TestGuardOfAProcessThatWasSuspended: guard fails before any timer has fired.
func TestGuardOfAProcessThatWasSuspended(t *testing.T) {
	for name, since := range map[string]func(time.Time) time.Time{
		"the process":                func(now time.Time) time.Time { return now },
		"the machine, and its clock": func(now time.Time) time.Time { return now.Round(0) },
	} {
		t.Run(name, func(t *testing.T) {
			lockTest(t, func(t *testing.T, _ *fakeLock, f *fencedLock, lost *atomic.Int32) {
				f.mu.Lock()
				f.renewed = since(time.Now()).Add(-renewDeadline)
				f.mu.Unlock()
				require.ErrorIs(t, f.guard(), errExpired)
				// The caller of guard stops writing now, so the elector must stop leading as well,
				// although it may still renew a Lease that nobody else has taken.
				require.EqualValues(t, 1, lost.Load())
				require.NoError(t, f.Update(t.Context(), selfHolds))
				require.ErrorIs(t, f.guard(), errExpired, "the end of a term is final")
				require.EqualValues(t, 1, lost.Load())
			})
		})
	}
}

func TestGuardOfALeaseThatAnotherProcessHolds(t *testing.T) {
	lockTest(t, func(t *testing.T, lock *fakeLock, f *fencedLock, lost *atomic.Int32) {
		lock.holder = "other"
		_, _, err := f.Get(t.Context())
		require.NoError(t, err)
		require.ErrorIs(t, f.guard(), errExpired)
		require.EqualValues(t, 1, lost.Load())
		// This process does not release the Lease that it has lost.
		require.ErrorIs(t, f.Update(t.Context(), released), errHeldByAnother)
		require.Equal(t, "other", lock.holder)
		_, _, err = f.Get(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 1, lost.Load(), "once in a term")

		require.NoError(t, f.Update(t.Context(), selfHolds), "it may acquire the Lease again")
		require.NoError(t, f.Update(t.Context(), released))
		require.Equal(t, "", lock.holder)
		require.ErrorIs(t, f.guard(), errExpired)
	})
}
