//go:build !windows

package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/google/renameio/v2"
)

// Write puts data in place of a file at once: into a temporary file beside it,
// which is synced and renamed over it, and then the directory is synced, since the
// rename itself is a change of the directory. beforeRename, if not nil, is called
// when the temporary file is written, and its error ends it.
func Write(file string, data []byte, mode fs.FileMode, beforeRename func() error) error {
	dir := filepath.Dir(file)
	t, err := renameio.NewPendingFile(file, renameio.WithTempDir(dir), renameio.WithStaticPermissions(mode))
	if err != nil {
		return named(file, err)
	}
	defer t.Cleanup() //nolint:errcheck // does nothing after the rename
	if _, err := t.Write(data); err != nil {
		return named(file, err)
	}
	if beforeRename != nil {
		if err := beforeRename(); err != nil {
			return err
		}
	}
	if err := t.CloseAtomicallyReplace(); err != nil {
		return named(file, err)
	}
	return SyncDir(dir)
}

// SyncDir makes the names in a directory last.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	// Some file systems know no sync of a directory.
	if err := f.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTSUP) {
		return err
	}
	return nil
}
