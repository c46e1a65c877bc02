package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/headgate/headgate/internal/filelock"
	"github.com/headgate/headgate/internal/inputfile"
)

// maxDigits is the largest number of digits with which the name of a temporary file ends.
// os.CreateTemp appends a number of 32 bits, which has at most 10 digits.
const maxDigits = 10

// RemoveLeftovers removes the temporary files that killed processes have left in a directory:
// regular files with the name "." + target + up to ten digits, where isTarget returns true for the
// target.
//
// While a process writes, it holds a lock on its temporary file. RemoveLeftovers keeps locked
// files, and files that it cannot lock or remove. On a system without flock, it keeps all files.
func RemoveLeftovers(dir string, isTarget func(name string) bool) {
	entries, _ := inputfile.ReadDir(dir) // without a directory there is nothing to remove
	for _, e := range entries {
		if e.Type().IsRegular() && isTemp(e.Name(), isTarget) {
			removeUnlocked(filepath.Join(dir, e.Name()), os.O_RDWR, os.Remove)
		}
	}
}

func removeLeftovers(dir, base string) {
	RemoveLeftovers(dir, func(name string) bool { return name == base })
}

// isTemp reports whether name consists of a dot, the name of a target file (for which isTarget
// returns true), and up to ten digits. The name of the target may itself end with digits, so isTemp
// tries each number of digits.
func isTemp(name string, isTarget func(string) bool) bool {
	rest, hidden := strings.CutPrefix(name, ".")
	for end := len(rest) - 1; hidden && end > 0 && len(rest)-end <= maxDigits; end-- {
		if rest[end] < '0' || rest[end] > '9' {
			return false
		}
		if isTarget(rest[:end]) {
			return true
		}
	}
	return false
}

// createTemp creates and locks a temporary file for the file dir/base. Before the temporary file is
// locked, RemoveLeftovers in another process may remove it. In that case, createTemp tries again.
func createTemp(dir, base string) (t *os.File, err error) {
	err = retry(filepath.Join(dir, base), func() (bool, error) {
		t, err = os.CreateTemp(dir, "."+base+"*")
		if err != nil || lockNew(t) {
			return true, err
		}
		_ = os.Remove(t.Name())
		t.Close()
		return false, nil
	})
	return t, err
}

// maxTries limits the temporary files that one call of createTemp or MkdirTemp creates. A call
// needs a second file only if another process has removed the first one before the call could lock
// it. This is rare. But on some file systems, stat of an open file and stat of its path differ, so
// every new file seems to be removed.
const maxTries = 100

// retry calls the function "try" until its result "done" is true, and then returns its result
// "err". After maxTries calls, retry returns an error with the path.
func retry(path string, try func() (done bool, err error)) error {
	for range maxTries {
		if done, err := try(); done {
			return err
		}
	}
	return &fs.PathError{Op: "lock a temporary file", Path: path, Err: errors.New("each new one is gone at once")}
}

// lockNew locks a file or directory that this process has created. It returns false if another
// process has removed the file, or is about to remove it. On a system without locks, lockNew locks
// nothing and returns true.
func lockNew(f *os.File) bool {
	return !errors.Is(filelock.File(f), filelock.ErrLocked) && isAt(f, f.Name())
}

// isAt reports whether path is the path of the open file f.
func isAt(f *os.File, path string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(path)
	return err == nil && os.SameFile(opened, there)
}

// removeUnlocked calls the function "remove" for a path, unless another process has locked the file
// at this path.
func removeUnlocked(path string, flags int, remove func(string) error) {
	f, err := os.OpenFile(path, flags|syscall.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if filelock.File(f) == nil && isAt(f, path) {
		_ = remove(path) // if this fails, a later call tries again
	}
}

// MkdirTemp creates a temporary directory parent/prefix+digits, and returns a function that removes
// it.
//
// MkdirTemp also removes directories with such names that killed processes of this user have left.
// The new directory is locked until the caller calls the returned function, so MkdirTemp in another
// process does not remove it.
func MkdirTemp(parent, prefix string) (dir string, remove func(), err error) {
	entries, _ := inputfile.ReadDir(parent)
	for _, e := range entries {
		isPrefix := func(name string) bool { return name == prefix }
		if info, err := e.Info(); err == nil && info.IsDir() && isTemp("."+e.Name(), isPrefix) && isMine(info) {
			removeUnlocked(filepath.Join(parent, e.Name()), os.O_RDONLY, os.RemoveAll)
		}
	}
	var f *os.File
	err = retry(filepath.Join(parent, prefix), func() (bool, error) {
		if dir, err = os.MkdirTemp(parent, prefix); err != nil {
			return true, err
		}
		f, err = os.Open(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil // a MkdirTemp of another process has removed it
		}
		if err != nil {
			return true, errors.Join(err, os.Remove(dir))
		}
		if lockNew(f) {
			return true, nil
		}
		_ = os.Remove(dir)
		f.Close()
		return false, nil
	})
	if err != nil {
		return "", nil, err
	}
	return dir, func() { _ = os.RemoveAll(dir); f.Close() }, nil
}
