//go:build !unix || aix || illumos || solaris

package filelock

import (
	"errors"
	"os"
)

// File always returns [errors.ErrUnsupported]: on these systems, package syscall has no flock.
func File(*os.File) error { return errors.ErrUnsupported }

func tryLock(file string) (unlock func(), err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}
