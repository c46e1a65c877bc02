//go:build unix && !aix && !illumos && !solaris

package atomicfile

import (
	"io/fs"
	"os"
	"syscall"
)

// flock locks the file f until f is closed. If somebody else has locked the file, flock returns
// EWOULDBLOCK. The kernel releases the lock when the process ends, even if the process is killed.
func flock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

// isMine reports whether the user of this process owns the file.
func isMine(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}
