package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// fence is the lock of a Lease, which knows whether this process still holds it.
//
// client-go's elector alone does not see to that. After it has learnt that another
// holds the Lease it goes on to lead for as long as it would try to renew. It does not
// notice that it was stopped for a while, with its process or its machine, and begins
// to try anew when that is over. And when it ends, it gives back a Lease that it had,
// even if another has it now.
type fence struct {
	resourcelock.Interface
	lost func() // is told when a Lease that was held is not any more

	mu      sync.Mutex
	holder  string // as last seen
	renewed time.Time
	expiry  *time.Timer // not nil while this process holds the Lease
}

func newFence(lock resourcelock.Interface, lost func()) *fence {
	return &fence{Interface: lock, lost: lost}
}

var errHeldByAnother = errors.New("another holds the lease")

// Get implements resourcelock.Interface.
func (f *fence) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := f.Interface.Get(ctx)
	if err == nil {
		f.see(record.HolderIdentity, time.Time{})
	}
	return record, raw, err
}

// Create implements resourcelock.Interface.
func (f *fence) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return f.write(ctx, record, f.Interface.Create)
}

// Update implements resourcelock.Interface.
func (f *fence) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	if record.HolderIdentity == "" && !f.held() {
		return errHeldByAnother
	}
	return f.write(ctx, record, f.Interface.Update)
}

func (f *fence) write(ctx context.Context, record resourcelock.LeaderElectionRecord, write func(context.Context, resourcelock.LeaderElectionRecord) error) error {
	// Others count from when they see it, which is not before this.
	now := time.Now()
	err := write(ctx, record)
	if err == nil {
		f.see(record.HolderIdentity, now)
	}
	return err
}

// see notes who holds the Lease, and when this process renewed it unless that is zero.
func (f *fence) see(holder string, renewed time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.holder = holder
	switch {
	case holder != f.Identity():
		f.drop()
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

// drop ends the term, if there is one. The caller holds the lock.
func (f *fence) drop() {
	if f.expiry != nil {
		f.expiry.Stop()
		f.expiry = nil
		f.lost()
	}
}

func (f *fence) expire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.fresh(time.Now()) { // it may have been renewed just now
		f.drop()
	}
}

// fresh tells whether the Lease was renewed lately, by both clocks: one stands still
// while the machine sleeps, the other may be set.
func (f *fence) fresh(now time.Time) bool {
	return now.Sub(f.renewed) < renewDeadline && now.Round(0).Sub(f.renewed.Round(0)) < renewDeadline
}

// held tells whether this process was the last that was seen to hold the Lease.
func (f *fence) held() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.holder == f.Identity()
}

func (f *fence) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.expiry != nil {
		f.expiry.Stop()
		f.expiry = nil
	}
}

// fenced returns the context of a term that is over at the very moment when the Lease
// was not renewed for too long, and not only when a timer has said so.
func (f *fence) fenced(term context.Context) context.Context { return fencedContext{term, f} }

type fencedContext struct {
	context.Context
	fence *fence
}

// Err implements context.Context.
func (c fencedContext) Err() error {
	if err := c.Context.Err(); err != nil {
		return err
	}
	c.fence.mu.Lock()
	defer c.fence.mu.Unlock()
	if c.fence.expiry != nil && c.fence.fresh(time.Now()) {
		return nil
	}
	// For good: nobody who has seen it end expects that it goes on, as it would if the
	// Lease were renewed now.
	c.fence.drop()
	return context.Canceled
}
