package manifest

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/headgate/headgate/internal/filewatch"
	"github.com/headgate/headgate/internal/inputfile"
	"github.com/headgate/headgate/nodeselect"
)

// MaxFileBytes is the largest size of a manifest file, 256 MiB. A file with 5,000 large nodes has
// about a quarter of this size.
const MaxFileBytes = 256 << 20

// ReadDir parses the files *.yaml, *.yml and *.json of a directory, in the order of their names;
// together they describe one cluster. It follows symbolic links, and ignores subdirectories and
// names that begin with a dot. If it cannot read a file, it returns a Problem. If it cannot read
// the directory, it returns an error.
func ReadDir(dir string) (nodeselect.Objects, []nodeselect.Problem, error) {
	batches, err := readDir(dir, nodesAndServices)
	if err != nil {
		return nodeselect.Objects{}, nil, err
	}
	objects, problems := collect(batches)
	return objects, problems, nil
}

// ReadEndpointSlices reads the files that ReadDir reads, and returns the EndpointSlices in them
// with their problems; see ParseEndpointSlices.
func ReadEndpointSlices(dir string) ([]*discoveryv1.EndpointSlice, []nodeselect.Problem, error) {
	batches, err := readDir(dir, endpointSlices)
	if err != nil {
		return nil, nil, err
	}
	list, problems := collectSlices(batches)
	return list, problems, nil
}

func readDir(dir string, want wanted) ([]batch, error) {
	names, err := manifestNames(dir)
	if err != nil {
		return nil, err
	}
	batches := make([]batch, len(names))
	for i, name := range names {
		path := filepath.Join(dir, name)
		if data, err := inputfile.Read(path, MaxFileBytes); err != nil {
			batches[i] = unreadable(path, err)
		} else {
			batches[i] = parseFile(path, data, want)
		}
	}
	return batches, nil
}

func unreadable(path string, err error) batch {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err // the problem names the path
	}
	return batch{problems: []nodeselect.Problem{{File: path, Message: "cannot be read: " + err.Error()}}}
}

// manifestNames returns the sorted names of the files that ReadDir reads.
func manifestNames(dir string) ([]string, error) {
	entries, err := inputfile.ReadDir(dir)
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

const (
	// watchMaxWait is the longest time for which WatchDir delays the call of its function after a
	// change, while further changes keep arriving.
	watchMaxWait = 2 * time.Second
	// watchRecheck is the time between two checks of the files' states. The checks find changes for
	// which the operating system sends no event: on a network file system, or in a file to which a
	// symbolic link in the directory points.
	watchRecheck = 30 * time.Second
)

// WatchDir reads a directory like ReadDir and calls f with the result, at the start and after each
// burst of changes of the content, until ctx ends. All calls come from the goroutine of the caller.
// Several calls receive the same objects, so f must not change them.
//
// A mistake or a half-written file must not look like a cluster without nodes. So while a file has
// problems or cannot be read, WatchDir adds the objects from earlier reads of this file. If the
// directory is missing, it keeps the objects of all files. It removes the objects of a removed
// file.
//
// WatchDir also notices a file that an editor replaces, a mounted ConfigMap, and a directory that
// somebody removes and creates again. Without events from the file system, it finds a change within
// half a minute.
//
// If the directory cannot be read at the start, WatchDir returns an error immediately. Otherwise it
// returns the error of ctx when ctx ends.
func WatchDir(ctx context.Context, dir string, f func(nodeselect.Objects, []nodeselect.Problem)) error {
	w := newDirWatch(dir)
	return w.run(ctx, f)
}

// WatchEndpointSlices follows the EndpointSlices in the files of a directory, as WatchDir follows
// the nodes and services: it calls f at the start and after each change, until ctx ends.
func WatchEndpointSlices(ctx context.Context, dir string, f func([]*discoveryv1.EndpointSlice, []nodeselect.Problem)) error {
	w := newDirWatch(dir)
	w.want = endpointSlices
	return w.follow(ctx, func() { f(w.slices()) })
}

func newDirWatch(dir string) dirWatch {
	return dirWatch{dir: filepath.Clean(dir), watch: filewatch.Watcher{MaxWait: watchMaxWait, Recheck: watchRecheck}}
}

// dirWatch is the state of one WatchDir.
type dirWatch struct {
	dir   string
	watch filewatch.Watcher
	want  wanted

	files map[string]file // by name
	err   error           // why the last read of the directory failed; nil if it succeeded
}

// file is the result of the last read of a file.
type file struct {
	content uint64 // hash
	err     error  // why the file could not be read
	batch   batch  // also has the objects that readAgain has kept from earlier reads
}

func (w *dirWatch) run(ctx context.Context, f func(nodeselect.Objects, []nodeselect.Problem)) error {
	return w.follow(ctx, func() { f(w.result()) })
}

// follow reads the directory at the start, and again after each change of the directory. It calls
// the function "report" after the first reading, and after each reading that has changed the
// result.
func (w *dirWatch) follow(ctx context.Context, report func()) error {
	if w.read(); w.err != nil {
		return w.err
	}
	report()
	w.watch.Paths = []string{w.dir}
	w.watch.Run(ctx, func() error {
		if w.read() {
			report()
		}
		return w.anyError()
	})
	return ctx.Err()
}

// anyError returns the error of the last read of the directory or of one of its files, or nil if
// all these reads have succeeded.
func (w *dirWatch) anyError() error {
	for _, file := range w.files {
		if file.err != nil {
			return file.err
		}
	}
	return w.err
}

// read reads the directory and reports whether the result has changed.
func (w *dirWatch) read() (changed bool) {
	names, err := manifestNames(w.dir)
	if err != nil {
		changed = !sameText(err, w.err)
		w.err = err
		return changed
	}
	changed = w.err != nil || w.files == nil
	w.err = nil
	files := make(map[string]file, len(names))
	for _, name := range names {
		before, known := w.files[name]
		now := readAgain(filepath.Join(w.dir, name), w.want, before)
		changed = changed || !known || now.content != before.content || !sameText(now.err, before.err)
		files[name] = now
	}
	changed = changed || len(files) != len(w.files)
	w.files = files
	return changed
}

func sameText(a, b error) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.Error() == b.Error()
}

var contentSeed = maphash.MakeSeed()

// readAgain reads a file. The argument "previous" is the result of the last read, or the zero file.
// If neither the content nor the error has changed, readAgain returns "previous". If the file now
// has problems, readAgain adds the objects of "previous" that are missing in the new result.
func readAgain(path string, want wanted, previous file) file {
	data, err := inputfile.Read(path, MaxFileBytes)
	if err != nil {
		if sameText(err, previous.err) {
			return previous
		}
		now := file{err: err, batch: unreadable(path, err)}
		now.batch.keep(path, previous.batch)
		return now
	}
	content := maphash.Bytes(contentSeed, data)
	if previous.err == nil && previous.content == content {
		return previous
	}
	now := file{content: content, batch: parseFile(path, data, want)}
	if len(now.batch.problems) > 0 {
		now.batch.keep(path, previous.batch)
	}
	return now
}

// The method "keep" is for a file of which only a part can be read now. b is the result of this
// read, and the argument "before" is the result of an earlier read. keep adds to b the objects of
// the earlier read that are missing in b, and a warning with their number.
func (b *batch) keep(path string, before batch) {
	has := make(map[string]bool, len(b.objects))
	for _, o := range b.objects {
		has[o.key()] = true
	}
	kept := 0
	for _, o := range before.objects {
		if !has[o.key()] {
			b.objects = append(b.objects, o)
			kept++
		}
	}
	if kept > 0 {
		b.problems = append(b.problems, nodeselect.Problem{
			File: path, Warning: true,
			Message: fmt.Sprintf("%d objects are kept as they were read before, until the file is without problems", kept),
		})
	}
}

// result merges the last results of all files.
func (w *dirWatch) result() (nodeselect.Objects, []nodeselect.Problem) {
	objects, problems := collect(w.batches())
	return objects, w.withError(problems)
}

// The method "slices" returns all EndpointSlices in the files, sorted by namespace and name, and
// the problems of all files.
func (w *dirWatch) slices() ([]*discoveryv1.EndpointSlice, []nodeselect.Problem) {
	list, problems := collectSlices(w.batches())
	return list, w.withError(problems)
}

// batches returns the last results of all files.
func (w *dirWatch) batches() []batch {
	var batches []batch
	for _, name := range slices.Sorted(maps.Keys(w.files)) {
		batches = append(batches, w.files[name].batch)
	}
	return batches
}

// withError adds a problem if the directory cannot be read.
func (w *dirWatch) withError(problems []nodeselect.Problem) []nodeselect.Problem {
	if w.err == nil {
		return problems
	}
	return append(problems, nodeselect.Problem{File: w.dir, Message: w.err.Error() + "; its objects are kept"})
}
