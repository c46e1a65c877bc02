// Package filelock locks files against other processes, with flock.
//
//	unlock, err := filelock.TryLock("/run/front/lock")
//	if errors.Is(err, filelock.ErrLocked) { … } // another process works in /run/front
//	if err != nil { … }
//	defer unlock()
//
// A lock belongs to an open file, not to a process. So if a process already holds the lock of a
// file and locks the file again, TryLock fails, and Lock waits. The kernel releases the lock when
// the process ends, even if the process is killed. The child processes of a Go program do not
// inherit the lock.
//
// # What it does not do
//
// On systems without flock (Windows, AIX, Solaris), Lock and TryLock lock nothing. The package
// never removes a lock file. If it did, a process that already waits for the lock would get the
// lock of the removed file, and another process could lock a new file with the same name.
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

// Lock locks a file, and creates the file if it is missing. It waits until nobody else holds the
// lock, or until ctx ends. The error is an [*os.PathError].
func Lock(ctx context.Context, file string) (unlock func(), err error) {
	return lock(file, func(f *os.File) error {
		tick := time.Tick(retryInterval)
		for {
			err := File(f)
			if !errors.Is(err, ErrLocked) {
				return err
			}
			select {
			case <-tick:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
}

// TryLock locks a file, as [Lock] does, but does not wait. If somebody else holds the lock, the
// error wraps [ErrLocked].
func TryLock(file string) (unlock func(), err error) { return lock(file, File) }

func lock(file string, wait func(*os.File) error) (unlock func(), err error) {
	f, err := open(file)
	if err != nil {
		return nil, err
	}
	if err := wait(f); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		_ = f.Close()
		return nil, &os.PathError{Op: "lock", Path: file, Err: err}
	}
	return func() { _ = f.Close() }, nil
}
