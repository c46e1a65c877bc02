//go:build unix && !aix && !illumos && !solaris

package atomicfile

import (
	"io/fs"
	"os"
	"syscall"
)

// isMine reports whether the user of this process owns the file.
func isMine(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}
