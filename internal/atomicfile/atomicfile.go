// Package atomicfile puts files in place whole or not at all.
//
// A process that ends at any moment, or a machine that loses its power, leaves
// the file as it was or as it was to be, never a part of it.
package atomicfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
)

// Update makes data the content of a file, and writes nothing if it is that
// already. changed tells whether it wrote.
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

// named makes an error of a temporary file one of the file that it is to replace: its
// own name is another each time, and who tells an error once compares the text.
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
