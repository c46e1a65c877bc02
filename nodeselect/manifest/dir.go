package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/headgate/headgate/nodeselect"
)

// maxFile bounds what is read of one file. 5,000 large nodes are a quarter of it.
const maxFile = 256 << 20

// ReadDir parses the files *.yaml, *.yml and *.json of a directory in the order
// of their names, all of which are one cluster. Names that begin with a dot, and
// directories, are passed over; links are followed. A file that cannot be read
// is a problem like any other. The error is that of reading the directory.
func ReadDir(dir string) (nodeselect.Objects, []nodeselect.Problem, error) {
	names, err := manifestNames(dir)
	if err != nil {
		return nodeselect.Objects{}, nil, err
	}
	batches := make([]batch, len(names))
	for i, name := range names {
		batches[i] = parsePath(filepath.Join(dir, name))
	}
	objects, problems := collect(batches)
	return objects, problems, nil
}

func parsePath(path string) batch {
	data, err := readManifest(path)
	if err != nil {
		return unreadable(path, err)
	}
	return parseFile(path, data)
}

func unreadable(path string, err error) batch {
	return batch{problems: []nodeselect.Problem{{File: path, Message: "cannot be read: " + err.Error()}}}
}

// manifestNames lists the files of dir that are read, sorted.
func manifestNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("nodeselect/manifest: %w", err)
	}
	var names []string
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || e.IsDir() {
			continue
		}
		switch strings.ToLower(filepath.Ext(name)) {
		case ".yaml", ".yml", ".json":
			names = append(names, name)
		}
	}
	return names, nil
}

var errTooLarge = fmt.Errorf("larger than %d MiB", maxFile>>20)

// readManifest reads a regular file of bounded size.
func readManifest(path string) ([]byte, error) {
	info, err := os.Stat(path) // before opening, which would wait on a named pipe
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	if info.Size() > maxFile {
		return nil, errTooLarge
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var buf bytes.Buffer
	buf.Grow(int(min(info.Size(), maxFile)) + bytes.MinRead)
	if _, err := buf.ReadFrom(io.LimitReader(f, maxFile+1)); err != nil {
		return nil, err
	}
	if buf.Len() > maxFile {
		return nil, errTooLarge // it has grown meanwhile
	}
	return buf.Bytes(), nil
}
