package nodeselect

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// A change is read when nothing has changed for watchQuiet: one write of a
	// file is several events, and one act of a user several files.
	watchQuiet = 100 * time.Millisecond
	// While changes never cease, they are read this long after the first.
	watchLongest = 2 * time.Second
	// Everything is read this often without any event, for what sends none:
	// network file systems, and links whose far ends change.
	watchPoll = 30 * time.Second
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
// WatchDir returns an error at once if the directory cannot be read or watched,
// and otherwise the error of ctx when that ends. The objects of one call may be
// in those of the next: f must not change them.
func WatchDir(ctx context.Context, dir string, f func(Objects, []Problem)) error {
	w := dirWatch{dir: filepath.Clean(dir), quiet: watchQuiet, longest: watchLongest, poll: watchPoll}
	return w.run(ctx, f)
}

// dirWatch is the state of one WatchDir.
type dirWatch struct {
	dir                  string
	quiet, longest, poll time.Duration

	files   map[string]watchedFile
	failure string      // why the directory could not be read the last time
	watched os.FileInfo // the directory that is watched; nil if it has to be again
}

// watchedFile is the last reading of a file.
type watchedFile struct {
	content uint64 // hash
	failure string // why it could not be read, "" if it was
	batch   batch  // with the objects that are kept from earlier readings
}

func (w *dirWatch) run(ctx context.Context, f func(Objects, []Problem)) error {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("nodeselect: watching %s: %w", w.dir, err)
	}
	defer notify.Close()
	// The parent tells when a directory that is gone is back. It may well be one
	// that cannot be watched; the poll is there for that.
	_ = notify.Add(filepath.Dir(w.dir))
	if err := w.follow(notify); err != nil {
		return fmt.Errorf("nodeselect: watching %s: %w", w.dir, err)
	}
	if w.read(); w.failure != "" {
		return errors.New(w.failure)
	}
	f(w.result())

	poll := time.NewTicker(w.poll)
	defer poll.Stop()
	quiet := time.NewTimer(0)
	quiet.Stop()
	defer quiet.Stop()
	var latest time.Time // when changes must be read; zero if there are none
	for {
		changed := false
		select {
		case <-ctx.Done():
			return ctx.Err()
		case event := <-notify.Events:
			changed = w.concerns(event)
		case <-notify.Errors: // events were lost
			changed = true
		case <-quiet.C:
			latest = time.Time{}
			w.update(notify, f)
		case <-poll.C:
			w.update(notify, f)
		}
		if changed {
			now := time.Now()
			if latest.IsZero() {
				latest = now.Add(w.longest)
			}
			quiet.Reset(min(w.quiet, latest.Sub(now)))
		}
	}
}

// concerns says whether an event is about the directory or what is in it.
func (w *dirWatch) concerns(event fsnotify.Event) bool {
	name := filepath.Clean(event.Name)
	if name == w.dir {
		w.watched = nil // it may be another directory by now
		return true
	}
	return filepath.Dir(name) == w.dir
}

func (w *dirWatch) update(notify *fsnotify.Watcher, f func(Objects, []Problem)) {
	_ = w.follow(notify) // if it fails, so will reading
	if w.read() {
		f(w.result())
	}
}

// follow watches the directory that has the name now.
func (w *dirWatch) follow(notify *fsnotify.Watcher) error {
	info, err := os.Stat(w.dir)
	if err != nil {
		w.watched = nil
		return err
	}
	if w.watched != nil && os.SameFile(info, w.watched) {
		return nil
	}
	_ = notify.Remove(w.dir)
	if err := notify.Add(w.dir); err != nil {
		return err
	}
	w.watched = info
	return nil
}

// read reads what has changed, and says whether anything has.
func (w *dirWatch) read() (changed bool) {
	names, err := manifestNames(w.dir)
	if err != nil {
		changed = w.failure != err.Error()
		w.failure = err.Error()
		return changed
	}
	changed = w.failure != "" || w.files == nil
	w.failure = ""
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
		b.problems = append(b.problems, Problem{
			File: path, Warning: true,
			Message: fmt.Sprintf("%d objects are kept as they were read before, until the file is without problems", kept),
		})
	}
}

// result merges the files.
func (w *dirWatch) result() (Objects, []Problem) {
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
	if w.failure != "" {
		problems = append(problems, Problem{File: w.dir, Message: w.failure + "; its objects are kept"})
	}
	return objects, problems
}
