package lease

import (
	"context"
	"errors"
	"sync"
	"time"
)

// fencedLock is the lock of a Lease that knows whether this process still holds the Lease. It lives
// for one term.
//
// A candidate alone is not enough. It learns that another process holds the Lease at its next
// attempt, and it continues to try until its renew deadline. When the process or the machine was
// suspended, it does not notice, and tries to renew afterwards.
type fencedLock struct {
	lock
	identity string // of this process
	lost     func() // called once, when this process stops holding the Lease

	mu      sync.Mutex
	holder  string // identity of the last holder that was seen
	renewed time.Time
	expiry  *time.Timer // fires renewDeadline after renewed; nil unless this process holds the Lease
	over    bool        // lost was called
}

func newFencedLock(lock lock, identity string, lost func()) *fencedLock {
	return &fencedLock{lock: lock, identity: identity, lost: lost}
}

var (
	errHeldByAnother = errors.New("lease: another process holds the Lease")
	errExpired       = errors.New("lease: this process does not hold the Lease any more")
)

// Get implements lock.
func (f *fencedLock) Get(ctx context.Context) (record, error) {
	r, err := f.lock.Get(ctx)
	if err == nil {
		f.observe(r.holder, time.Time{})
	}
	return r, err
}

// Create implements lock.
func (f *fencedLock) Create(ctx context.Context, r record) error {
	return f.write(ctx, r, f.lock.Create)
}

// Update implements lock. It refuses to release a Lease of another process.
func (f *fencedLock) Update(ctx context.Context, r record) error {
	if r.holder == "" && !f.held() {
		return errHeldByAnother
	}
	return f.write(ctx, r, f.lock.Update)
}

func (f *fencedLock) write(ctx context.Context, r record, write func(context.Context, record) error) error {
	// Other processes measure LeaseDuration from when they see the write, which is later than this.
	now := time.Now()
	err := write(ctx, r)
	if err == nil {
		f.observe(r.holder, now)
	}
	return err
}

// observe notes who holds the Lease, and when this process renewed it; zero means that it did not.
func (f *fencedLock) observe(holder string, renewed time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.holder = holder
	switch {
	case holder != f.identity:
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

// end ends the term if this process holds the Lease. The caller holds f.mu.
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

// fresh reports whether the Lease was renewed less than renewDeadline ago, by the monotonic and by
// the wall clock: the monotonic clock stands still while the machine sleeps, and somebody may set
// the wall clock.
func (f *fencedLock) fresh(now time.Time) bool {
	return now.Sub(f.renewed) < renewDeadline && now.Round(0).Sub(f.renewed.Round(0)) < renewDeadline
}

// held reports whether this process is the last holder that was seen.
func (f *fencedLock) held() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.holder == f.identity
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

// guard returns nil while this process holds the Lease and has renewed it in time. It compares
// clocks itself instead of waiting for the timer: the timer of a process that was suspended fires
// late. After the first error guard never returns nil again, even if the Lease is renewed.
func (f *fencedLock) guard() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.over && f.expiry != nil && f.fresh(time.Now()) {
		return nil
	}
	f.end()
	return errExpired
}
