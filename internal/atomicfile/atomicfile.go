// Package atomicfile replaces files whole or not at all.
//
// If the process ends at any moment, or the machine loses power, the file has either its old
// content or the new one. Windows does not promise that after a loss of power.
package atomicfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// Write replaces the content of a file. It writes a temporary file in the same directory, syncs it,
// renames it and syncs the directory, which the rename has changed. The mode ignores the umask.
//
// beforeRename, if not nil, is called after the temporary file is written. If it returns an error,
// Write returns that error and the file stays as it was. The name of the temporary file is ".", the
// name of the file and some digits; it remains if the process ends too early.
func Write(file string, data []byte, mode fs.FileMode, beforeRename func() error) error {
	dir := filepath.Dir(file)
	t, err := os.CreateTemp(dir, "."+filepath.Base(file)+"*")
	if err != nil {
		return named(file, err)
	}
	defer os.Remove(t.Name()) // fails after the rename
	_, err = t.Write(data)
	if err == nil {
		err = t.Chmod(mode)
	}
	if err == nil {
		err = t.Sync()
	}
	if closed := t.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return named(file, err)
	}
	if beforeRename != nil {
		if err := beforeRename(); err != nil {
			return err
		}
	}
	if err := os.Rename(t.Name(), file); err != nil {
		return named(file, err)
	}
	return SyncDir(dir)
}

// Update writes data to a file as [Write] does, unless the file has that content already. changed
// reports whether it wrote.
func Update(file string, data []byte, mode fs.FileMode) (changed bool, err error) {
	now, err := os.ReadFile(file)
	switch {
	case err == nil && bytes.Equal(now, data):
		return false, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	return true, Write(file, data, mode, nil)
}

// SyncDir syncs a directory, so that new names in it survive a loss of power. It does nothing on
// Windows and on file systems that cannot do that.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// named returns an error about the temporary file as an error about file. The temporary file has
// another name each time, and callers that log the same error only once compare its text.
func named(file string, err error) error {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return &fs.PathError{Op: path.Op, Path: file, Err: path.Err}
	case errors.As(err, &link):
		return &fs.PathError{Op: link.Op, Path: file, Err: link.Err}
	}
	return err
}
