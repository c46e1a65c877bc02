package lease

import (
	"context"
	"errors"
	"sync"
	"time"

	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// fencedLock is a lock for client-go's elector. Its method guard tells at any time whether this
// process still holds the Lease. Each term needs a new fencedLock.
//
// The elector of client-go alone has three faults. After it learns that another process holds the
// Lease, it continues to lead until its renew deadline. After a suspension of the process or the
// machine, the elector does not notice that its time is over: it first tries to renew the Lease.
// When the elector stops, it releases a Lease that it once held, even if another process holds the
// Lease now.
type fencedLock struct {
	resourcelock.Interface
	lost func() // called once, when this process stops holding the Lease

	mu      sync.Mutex
	holder  string // of the Lease when it was last read or written
	renewed time.Time
	expiry  *time.Timer // fires renewDeadline after renewed; nil unless this process holds the Lease
	over    bool        // lost was called
}

func newFencedLock(lock resourcelock.Interface, lost func()) *fencedLock {
	return &fencedLock{Interface: lock, lost: lost}
}

var (
	errHeldByAnother = errors.New("lease: another process holds the Lease")
	errExpired       = errors.New("lease: this process does not hold the Lease any more")
)

// Get implements resourcelock.Interface.
func (f *fencedLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := f.Interface.Get(ctx)
	if err == nil {
		f.observe(record.HolderIdentity, time.Time{})
	}
	return record, raw, err
}

// Create implements resourcelock.Interface.
func (f *fencedLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return f.write(ctx, record, f.Interface.Create)
}

// Update implements resourcelock.Interface. It refuses to release a Lease that another process
// holds.
func (f *fencedLock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	if record.HolderIdentity == "" && !f.held() {
		return errHeldByAnother
	}
	return f.write(ctx, record, f.Interface.Update)
}

func (f *fencedLock) write(ctx context.Context, record resourcelock.LeaderElectionRecord, write func(context.Context, resourcelock.LeaderElectionRecord) error) error {
	// Take the time before the write. Other processes measure the age of the Lease from the moment
	// when they see the write, which is later.
	now := time.Now()
	err := write(ctx, record)
	if err == nil {
		f.observe(record.HolderIdentity, now)
	}
	return err
}

// observe stores which process holds the Lease. renewed is the time at which this process renewed
// the Lease. The zero time means that this process has only read the Lease.
func (f *fencedLock) observe(holder string, renewed time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.holder = holder
	switch {
	case holder != f.Identity():
		f.end()
	case !renewed.IsZero():
		f.renewed = renewed
		left := renewDeadline - time.Since(renewed)
		if f.expiry == nil {
			f.expiry = time.AfterFunc(left, f.expire)
		} else {
			f.expiry.Reset(left)
		}
	}
}

// end ends the term of this process, that is, the time during which this process holds the Lease.
// It calls lost, at most once in a term. If this process does not hold the Lease, end does nothing.
// The caller holds f.mu.
func (f *fencedLock) end() {
	if f.expiry == nil {
		return
	}
	f.expiry.Stop()
	f.expiry = nil
	if !f.over {
		f.over = true
		f.lost()
	}
}

func (f *fencedLock) expire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.fresh(time.Now()) { // the Lease may have been renewed since the timer fired
		f.end()
	}
}

// fresh reports whether the Lease was renewed less than renewDeadline ago. fresh returns true only
// if this is true by the monotonic clock and by the wall clock. The monotonic clock alone is not
// enough, because it stands still while the machine sleeps. The wall clock alone is not enough,
// because somebody may set it.
func (f *fencedLock) fresh(now time.Time) bool {
	return now.Sub(f.renewed) < renewDeadline && now.Round(0).Sub(f.renewed.Round(0)) < renewDeadline
}

// held reports whether this process held the Lease when the Lease was last read or written.
func (f *fencedLock) held() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.holder == f.Identity()
}

// close stops the timer.
func (f *fencedLock) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.expiry != nil {
		f.expiry.Stop()
		f.expiry = nil
	}
}

// guard returns nil while this process holds the Lease and has renewed it in time. guard does not
// rely on the timer, but reads the clocks itself: if the process was suspended, the timer fires
// late. After its first error, guard returns an error on every call, even if the Lease is renewed.
func (f *fencedLock) guard() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.over && f.expiry != nil && f.fresh(time.Now()) {
		return nil
	}
	f.end()
	return errExpired
}
