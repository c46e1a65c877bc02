//go:build unix && !aix && !illumos && !solaris

package filelock

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// File locks an open file until the file is closed. If somebody else holds the lock, File returns
// [ErrLocked]. On systems without flock, File returns [errors.ErrUnsupported].
func File(f *os.File) error { return flock(f, syscall.LOCK_EX) }

func flock(f *os.File, how int) error {
	for {
		switch err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); {
		case errors.Is(err, syscall.EWOULDBLOCK):
			return ErrLocked
		case !errors.Is(err, syscall.EINTR):
			return err
		}
	}
}

// A process that replaces the lock file locks the directory only for a moment. So a longer lock of
// the directory belongs to an unrelated program. Even a user who may not write to the directory can
// lock it, so tryLock does not wait for longer than these attempts.
const (
	dirAttempts = 10
	dirInterval = 10 * time.Millisecond
)

// tryLock locks the lock file, and then its directory with a shared lock, which several processes
// can hold. The function "replace" needs an exclusive lock of the directory. So no process replaces
// a lock file while a process holds its lock.
func tryLock(file string) (unlock func(), err error) {
	f, err := open(file)
	if errors.Is(err, fs.ErrPermission) {
		f, err = replace(file, err)
	}
	if err != nil {
		return nil, err
	}
	if err := File(f); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		_ = f.Close()
		return nil, &os.PathError{Op: "lock", Path: file, Err: err}
	}
	unlockDir := lockDir(filepath.Dir(file))
	unlock = func() {
		unlockDir()
		_ = f.Close()
	}
	opened, err := f.Stat()
	if err != nil {
		unlock()
		return nil, err
	}
	if there, err := os.Lstat(file); err != nil || !os.SameFile(opened, there) {
		unlock()
		return nil, &os.PathError{Op: "lock", Path: file, Err: ErrLocked} // another process has just replaced the file
	}
	return unlock, nil
}

// lockDir locks a directory with a shared lock, so that nobody replaces the lock file in it. If
// this user may not read the directory, or if another program keeps the directory locked, lockDir
// locks nothing.
func lockDir(path string) (unlock func()) {
	dir, err := os.Open(path)
	if err != nil {
		return func() {}
	}
	for range dirAttempts {
		if !errors.Is(flock(dir, syscall.LOCK_SH), ErrLocked) {
			break
		}
		time.Sleep(dirInterval)
	}
	return func() { _ = dir.Close() }
}

// replace replaces a lock file that this user may not open, because root created it before the
// directory got its present owner or group. If the user may not replace the file either, the error
// is the argument "cause". If another process holds the lock, the error is [ErrLocked].
func replace(file string, cause error) (*os.File, error) {
	const mayWrite = 2 // W_OK of access(2)
	if syscall.Access(filepath.Dir(file), mayWrite) != nil {
		return nil, cause
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return nil, cause
	}
	defer dir.Close()
	if err := flock(dir, syscall.LOCK_EX); errors.Is(err, ErrLocked) {
		return nil, &os.PathError{Op: "lock", Path: file, Err: ErrLocked}
	} else if err != nil {
		return nil, cause
	}
	if f, err := open(file); err == nil {
		return f, nil // another process has just replaced the file
	}
	if info, err := os.Lstat(file); err != nil || !info.Mode().IsRegular() || os.Remove(file) != nil {
		return nil, cause
	}
	return open(file)
}

// open opens the lock file, and creates it if it is missing. Every user who can open the file can
// also lock it. So the file gets the group of the directory, and a mode that depends only on the
// write bits of the directory's mode. If root calls open, the file also gets the owner of the
// directory.
//
// The owner, group or mode of the directory may change later. If root or the owner of the file then
// calls open, open adapts the file. For another user, tryLock replaces the file.
//
// open follows no symbolic link, because a user who may write to the directory could link to a file
// of somebody else.
func open(file string) (*os.File, error) {
	const flags = syscall.O_NONBLOCK | syscall.O_NOFOLLOW
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR|flags, 0o600)
	if errors.Is(err, fs.ErrPermission) {
		return os.OpenFile(file, os.O_RDONLY|flags, 0) // flock needs no permission to write
	}
	if err != nil {
		return nil, err
	}
	dir, err := os.Stat(filepath.Dir(file))
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	if info, err := f.Stat(); err == nil {
		share(f, info, dir)
	}
	return f, nil
}

// The function "share" changes the group and mode of the lock file, and as root its owner, as the
// comment of "open" describes. It does not change a file that is perhaps not the lock file: a file
// of another user, a file with several hard links, or a file with content. It ignores errors,
// because a user who can open the file now can still lock it.
func share(f *os.File, info, dir fs.FileInfo) {
	is, ok := info.Sys().(*syscall.Stat_t)
	want, alsoOK := dir.Sys().(*syscall.Stat_t)
	if !ok || !alsoOK || !info.Mode().IsRegular() || is.Nlink != 1 || info.Size() != 0 {
		return
	}
	user, owner := os.Geteuid(), -1 // -1 keeps the owner
	if user == 0 {
		owner = int(want.Uid)
	}
	if int(is.Uid) != user && int(is.Uid) != owner {
		return
	}
	if is.Gid != want.Gid {
		_ = f.Chown(-1, int(want.Gid))
	}
	write := dir.Mode().Perm() & 0o222
	if mode := 0o600 | write | write<<1; info.Mode().Perm() != mode {
		_ = f.Chmod(mode)
	}
	if owner >= 0 && int(is.Uid) != owner {
		_ = f.Chown(owner, -1)
	}
}
