package manifest

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"path/filepath"
	"slices"
	"time"

	"github.com/headgate/headgate/internal/filewatch"

	"github.com/headgate/headgate/nodeselect"
)

const (
	// watchMaxWait is how long a change waits at most while others follow it.
	watchMaxWait = 2 * time.Second
	// watchRecheck is the time between two looks at the state of the files. It finds changes that
	// cause no event: on network file systems, and of files that links in the directory point to.
	watchRecheck = 30 * time.Second
)

// WatchDir reads a directory as ReadDir does and calls f with the outcome, then
// again after every change of what is in it, until ctx ends. Changes that follow
// each other closely are one; files that are written again with the same content
// are none. Calls come one after another, from the goroutine of the caller.
//
// A file may be found half written, or with a mistake in it. Its problems are
// given to f, and those objects which the file's last reading had and this one
// lacks are kept until it can be read without problems: a slip must not look like
// a cluster without nodes. The same holds for a file that cannot be read, and for
// all files if the directory is gone. It is watched again when it is back. A file
// that is removed takes its objects with it. So f may use the objects at any
// time, and should show the problems to somebody.
//
// Editors that replace files, and the symbolic links by which Kubernetes switches
// a mounted ConfigMap, are followed. A file system without notifications is read
// every half minute.
//
// WatchDir returns an error at once if the directory cannot be read, and otherwise the error
// of ctx when that ends. The objects of one call may be in those of the next: f must not
// change them.
func WatchDir(ctx context.Context, dir string, f func(nodeselect.Objects, []nodeselect.Problem)) error {
	w := dirWatch{dir: filepath.Clean(dir), watch: filewatch.Watcher{MaxWait: watchMaxWait, Recheck: watchRecheck}}
	return w.run(ctx, f)
}

// dirWatch is the state of one WatchDir.
type dirWatch struct {
	dir   string
	watch filewatch.Watcher

	files   map[string]watchedFile
	failure error // why the directory could not be read the last time
}

// watchedFile is the last reading of a file.
type watchedFile struct {
	content uint64 // hash
	failure string // why it could not be read, "" if it was
	batch   batch  // with the objects that are kept from earlier readings
}

func (w *dirWatch) run(ctx context.Context, f func(nodeselect.Objects, []nodeselect.Problem)) error {
	if w.read(); w.failure != nil {
		return w.failure
	}
	f(w.result())
	w.watch.Paths = []string{w.dir}
	w.watch.Run(ctx, func() error {
		if w.read() {
			f(w.result())
		}
		return w.unread()
	})
	return ctx.Err()
}

// unread returns an error if the directory or a file in it could not be read the last time.
func (w *dirWatch) unread() error {
	for _, file := range w.files {
		if file.failure != "" {
			return errors.New(file.failure)
		}
	}
	return w.failure
}

// read reads what has changed, and says whether anything has.
func (w *dirWatch) read() (changed bool) {
	names, err := manifestNames(w.dir)
	if err != nil {
		changed = w.failure == nil || w.failure.Error() != err.Error()
		w.failure = err
		return changed
	}
	changed = w.failure != nil || w.files == nil
	w.failure = nil
	files := make(map[string]watchedFile, len(names))
	for _, name := range names {
		before, known := w.files[name]
		now := readAgain(filepath.Join(w.dir, name), before)
		if !known || now.content != before.content || now.failure != before.failure {
			changed = true
		}
		files[name] = now
	}
	changed = changed || len(files) != len(w.files)
	w.files = files
	return changed
}

var contentSeed = maphash.MakeSeed()

// readAgain reads a file whose last reading was before.
func readAgain(path string, before watchedFile) watchedFile {
	data, err := readManifest(path)
	if err != nil {
		if err.Error() == before.failure {
			return before
		}
		now := watchedFile{failure: err.Error(), batch: unreadable(path, err)}
		now.batch.keep(path, before.batch)
		return now
	}
	content := maphash.Bytes(contentSeed, data)
	if before.failure == "" && before.content == content {
		return before
	}
	now := watchedFile{content: content, batch: parseFile(path, data)}
	if len(now.batch.problems) > 0 {
		now.batch.keep(path, before.batch)
	}
	return now
}

// keep adds the objects of before that b lacks.
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

// result merges the files.
func (w *dirWatch) result() (nodeselect.Objects, []nodeselect.Problem) {
	names := make([]string, 0, len(w.files))
	for name := range w.files {
		names = append(names, name)
	}
	slices.Sort(names)
	batches := make([]batch, len(names))
	for i, name := range names {
		batches[i] = w.files[name].batch
	}
	objects, problems := collect(batches)
	if w.failure != nil {
		problems = append(problems, nodeselect.Problem{File: w.dir, Message: w.failure.Error() + "; its objects are kept"})
	}
	return objects, problems
}
