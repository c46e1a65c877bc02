package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// fakeLock is a Lease of which every version may be replaced.
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

// fenceTest runs a test with a term of a fence, and how often it was told to be lost.
func fenceTest(t *testing.T, test func(t *testing.T, lock *fakeLock, f *fence, term context.Context, lost *int)) {
	synctest.Test(t, func(t *testing.T) {
		lock, lost := &fakeLock{}, 0
		f := newFence(lock, func() { lost++ })
		defer f.close()
		require.NoError(t, f.Create(t.Context(), resourcelock.LeaderElectionRecord{HolderIdentity: "self"}))
		term := f.fenced(t.Context())
		require.NoError(t, term.Err())
		test(t, lock, f, term, &lost)
	})
}

var (
	selfHolds = resourcelock.LeaderElectionRecord{HolderIdentity: "self"}
	released  = resourcelock.LeaderElectionRecord{}
)

func TestFenceOfALeaseThatIsRenewed(t *testing.T) {
	fenceTest(t, func(t *testing.T, _ *fakeLock, f *fence, term context.Context, lost *int) {
		for range 100 {
			after(leaseRetry)
			require.NoError(t, f.Update(t.Context(), selfHolds))
			require.NoError(t, term.Err())
		}
		require.Equal(t, 0, *lost)
	})
}

func TestFenceOfALeaseThatCannotBeRenewed(t *testing.T) {
	fenceTest(t, func(t *testing.T, lock *fakeLock, f *fence, term context.Context, lost *int) {
		lock.err = errors.New("no answer")
		after(renewDeadline - time.Millisecond)
		require.Error(t, f.Update(t.Context(), selfHolds))
		require.NoError(t, term.Err())
		after(time.Millisecond)
		require.ErrorIs(t, term.Err(), context.Canceled)
		require.Equal(t, 1, *lost)
	})
}

// A process that was stopped finds that its term is over before any timer of it has
// had a chance to say so.
func TestFenceOfAProcessThatWasStopped(t *testing.T) {
	for name, since := range map[string]func(time.Time) time.Time{
		"a process":                func(now time.Time) time.Time { return now },
		"a machine, and its clock": func(now time.Time) time.Time { return now.Round(0) },
	} {
		t.Run(name, func(t *testing.T) {
			fenceTest(t, func(t *testing.T, _ *fakeLock, f *fence, term context.Context, lost *int) {
				f.mu.Lock()
				f.renewed = since(time.Now()).Add(-renewDeadline)
				f.mu.Unlock()
				require.ErrorIs(t, term.Err(), context.Canceled)
				// Who has heard that does not lead any more. So it must be over for the
				// elector too, though it may well renew a lease that nobody else took.
				require.Equal(t, 1, *lost)
			})
		})
	}
}

func TestFenceOfALeaseThatAnotherHolds(t *testing.T) {
	fenceTest(t, func(t *testing.T, lock *fakeLock, f *fence, term context.Context, lost *int) {
		lock.holder = "other"
		_, _, err := f.Get(t.Context())
		require.NoError(t, err)
		require.ErrorIs(t, term.Err(), context.Canceled)
		require.Equal(t, 1, *lost)
		// It is not given back by who has lost it.
		require.ErrorIs(t, f.Update(t.Context(), released), errHeldByAnother)
		require.Equal(t, "other", lock.holder)
		_, _, err = f.Get(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, *lost, "once a term")

		require.NoError(t, f.Update(t.Context(), selfHolds), "it may be taken again")
		require.NoError(t, f.Update(t.Context(), released))
		require.Equal(t, "", lock.holder)
		require.ErrorIs(t, term.Err(), context.Canceled)
	})
}
