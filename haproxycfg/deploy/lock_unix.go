//go:build unix && !aix && !illumos && !solaris

package deploy

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// lockFile locks the file. It waits until no other process holds the lock. The kernel releases the
// lock when the process ends, even if the process is killed.
func lockFile(ctx context.Context, file string) (unlock func(), err error) {
	f, err := openLock(file)
	if err != nil {
		return nil, err
	}
	tick := time.Tick(20 * time.Millisecond)
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = f.Close()
			return nil, &os.PathError{Op: "lock", Path: file, Err: err}
		}
		select {
		case <-tick:
		case <-ctx.Done():
			_ = f.Close()
			return nil, &os.PathError{Op: "lock", Path: file, Err: ctx.Err()}
		}
	}
}

// openLock opens the lock file, and creates it if it is missing. Every user who may write to the
// directory must be able to lock the file. So the file gets the group of the directory, and the
// directory's mode without the execute bits, whatever the umask is. If the mode of the directory
// changes later, openLock changes the mode of the file when the owner of the file or root calls it
// next.
func openLock(file string) (*os.File, error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, fs.ErrPermission) {
		return os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0) // flock needs no permission to write
	}
	if err != nil {
		return nil, err
	}
	dir, err := os.Stat(filepath.Dir(file))
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		// Ignore errors: the file may belong to another user, who has already set its mode.
		if group, ok := dir.Sys().(*syscall.Stat_t); ok && info.Sys().(*syscall.Stat_t).Gid != group.Gid {
			_ = f.Chown(-1, int(group.Gid))
		}
		if mode := dir.Mode().Perm() & 0o666; info.Mode().Perm() != mode {
			_ = f.Chmod(mode)
		}
	}
	return f, nil
}
