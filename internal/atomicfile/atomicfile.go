// Package atomicfile replaces the whole content of a file in one step.
//
// If the process ends at any moment, or if the machine loses power, the file has either its whole
// old content or its whole new content. On Windows, this is not certain after a loss of power.
package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/headgate/headgate/internal/inputfile"
)

// Write replaces the content of a file: it writes a temporary file in the same directory, syncs it,
// renames it, and syncs the directory. The file gets exactly the given mode, whatever the umask is.
//
// If beforeRename, which may be nil, returns an error, Write returns this error, and the file keeps
// its old content. If the process dies, the temporary file remains until the next Write or Update;
// see [RemoveLeftovers].
func Write(file string, data []byte, mode fs.FileMode, beforeRename func() error) error {
	removeLeftovers(filepath.Dir(file), filepath.Base(file))
	return WriteKeepingLeftovers(file, data, mode, beforeRename)
}

// WriteKeepingLeftovers does the same as [Write], but does not look for temporary files of killed
// processes. Write reads the whole directory to find them, so many calls of Write in one directory
// are slow. A caller that writes many files calls [RemoveLeftovers] once instead.
func WriteKeepingLeftovers(file string, data []byte, mode fs.FileMode, beforeRename func() error) error {
	s, err := Stage(file, data, mode)
	if err != nil {
		return err
	}
	defer s.Discard()
	if err := s.Commit(beforeRename); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(file))
}

// Staged is the new content of a file, in a temporary file in the same directory. A caller that must
// act between the write and the rename calls Stage and then Commit, instead of [Write]. Stage writes
// the data, and fails if the disk is full. Commit makes the sync, which can take 10 ms and more, and
// the rename. Only one goroutine may use a Staged.
type Staged struct {
	file string // the name of the file whose content Commit replaces
	temp *os.File
}

// Stage writes data to a temporary file, without a sync. The caller must call Discard after Commit,
// or instead of Commit. Like [WriteKeepingLeftovers], Stage does not look for temporary files of
// killed processes.
func Stage(file string, data []byte, mode fs.FileMode) (*Staged, error) {
	dir, base := filepath.Split(file)
	t, err := createTemp(filepath.Clean(dir), base)
	if err != nil {
		return nil, named(file, err)
	}
	s := &Staged{file, t}
	_, err = t.Write(data)
	if err == nil {
		err = t.Chmod(mode)
	}
	if err != nil {
		s.Discard()
		return nil, named(file, err)
	}
	return s, nil
}

// Commit syncs the temporary file, calls beforeRename if it is not nil, and renames the temporary
// file to the file. If beforeRename returns an error, Commit returns this error and does not rename.
// Call Commit only once.
//
// The caller must then call [SyncDir]. Without it, the file may have its old content after a loss of
// power.
func (s *Staged) Commit(beforeRename func() error) error {
	err := s.temp.Sync()
	if runtime.GOOS == "windows" { // which does not rename an open file
		if closed := s.temp.Close(); err == nil {
			err = closed
		}
	}
	if err != nil {
		return named(s.file, err)
	}
	if beforeRename != nil {
		if err := beforeRename(); err != nil {
			return err
		}
	}
	if err := os.Rename(s.temp.Name(), s.file); err != nil {
		return named(s.file, err)
	}
	return nil
}

// Discard removes the temporary file. After Commit has renamed it, Discard only closes it.
func (s *Staged) Discard() {
	s.temp.Close()               // ends the lock on the temporary file
	_ = os.Remove(s.temp.Name()) // fails after the rename
}

// Update writes data to a file in the same way as [Write]. If the file already has this content,
// Update does not write. The result "changed" reports whether Update has written the file.
func Update(file string, data []byte, mode fs.FileMode) (changed bool, err error) {
	same, err := inputfile.Equal(file, data)
	if same {
		removeLeftovers(filepath.Dir(file), filepath.Base(file))
	}
	if same || err != nil {
		return false, err
	}
	return true, Write(file, data, mode, nil)
}

// SyncDir syncs a directory, so that new names in the directory survive a loss of power. On
// Windows, and on file systems that cannot sync a directory, it does nothing.
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

// named replaces the name of the temporary file in an error by the name of the file that the caller
// writes. Otherwise the text of the error would change at each attempt, and a caller that logs only
// new texts would log each one.
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
