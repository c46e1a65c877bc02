// Package filelock locks files against other processes, with flock.
//
//	unlock, err := filelock.TryLock("/run/front/lock")
//	if errors.Is(err, filelock.ErrLocked) { … } // another process works in /run/front
//	if err != nil { … }
//	defer unlock()
//
// A lock belongs to an open file, not to a process: while a process holds the lock of a file, its
// own second TryLock fails, and Lock waits. The kernel releases the lock when the process ends. The
// child processes of a Go program do not inherit the lock.
//
// # What it does not do
//
// On systems without flock (Windows, AIX, Solaris), Lock and TryLock lock nothing. The lock file
// remains after the unlock.
package filelock

import (
	"context"
	"errors"
	"os"
	"time"
)

// ErrLocked means that another open file holds the lock.
var ErrLocked = errors.New("locked by another process")

// retryInterval is the time between two attempts of Lock to lock the file.
const retryInterval = 20 * time.Millisecond

// Lock locks a file, and creates it if it is missing. It waits until nobody else holds the lock, or
// until ctx ends. The error is an [*os.PathError].
//
// If this user may write to the directory but may not open the file, Lock replaces the file. This
// happens if root created the file before the directory got its present owner or group.
func Lock(ctx context.Context, file string) (unlock func(), err error) {
	tick := time.Tick(retryInterval)
	for {
		unlock, err := TryLock(file)
		if !errors.Is(err, ErrLocked) {
			return unlock, err
		}
		select {
		case <-tick:
		case <-ctx.Done():
			return nil, &os.PathError{Op: "lock", Path: file, Err: ctx.Err()}
		}
	}
}

// TryLock locks a file, as [Lock] does, but does not wait. If somebody else holds the lock, the
// error wraps [ErrLocked].
func TryLock(file string) (unlock func(), err error) { return tryLock(file) }
