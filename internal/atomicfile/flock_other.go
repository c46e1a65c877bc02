//go:build !unix || aix || illumos || solaris

package atomicfile

import (
	"errors"
	"io/fs"
	"os"
)

// flock fails, because package syscall has no flock on these systems.
func flock(*os.File) error { return errors.ErrUnsupported }

func isMine(fs.FileInfo) bool { return true }
