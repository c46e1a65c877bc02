//go:build !unix || aix || illumos || solaris

package atomicfile

import (
	"errors"
	"io/fs"
	"os"
)

// flock always returns an error: on these systems, package syscall has no flock.
func flock(*os.File) error { return errors.ErrUnsupported }

func isMine(fs.FileInfo) bool { return true }
