package atomicfile

import (
	"io/fs"
	"os"
	"path/filepath"
)

// Write is for tools that render on Windows; HAProxy does not run there. The rename
// replaces the file, but Windows does not promise that it is whole after a power
// failure.
func Write(file string, data []byte, mode fs.FileMode, beforeRename func() error) error {
	t, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"*")
	if err != nil {
		return named(file, err)
	}
	defer os.Remove(t.Name())
	_, err = t.Write(data)
	if err == nil {
		err = t.Sync()
	}
	if cerr := t.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Chmod(t.Name(), mode)
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
	return nil
}

// SyncDir does nothing: Windows has no sync of a directory.
func SyncDir(string) error { return nil }
