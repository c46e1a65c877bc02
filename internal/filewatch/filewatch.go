// Package filewatch follows files and directories.
//
// A [Watcher] learns of changes from the operating system, through fsnotify, and also looks at the
// state of the files now and then. So a change is also found on a network file system, behind a
// symbolic link to another directory, and when the operating system has lost events or allows no
// more watches; it is found later then.
package filewatch

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/headgate/headgate/internal/debounce"
)

// Watcher calls a function when files change.
type Watcher struct {
	// Paths are files and directories. A directory stands for the files in it, without those of its
	// subdirectories. A path may be missing, may be replaced by a rename, and may be a symbolic link
	// that moves, like the files of a mounted ConfigMap.
	Paths []string
	// Quiet is how long nothing must change before the function is called: one write of a file is
	// several events. 0 means 100 ms.
	Quiet time.Duration
	// MaxWait is how long a change waits at most while others follow it. 0 means 2 s.
	MaxWait time.Duration
	// Recheck is the time between two looks at the state of the files, each of which costs one stat
	// call a file. 0 means 10 s.
	Recheck time.Duration

	noEvents bool // in tests: the operating system offers none
}

// Run calls read once, as the files may have changed since the caller read them, and then after
// each change. If read fails, Run calls it again at each recheck until it succeeds. Run reports
// no errors itself, and returns when ctx ends. All calls come from the goroutine of Run.
//
// Run may call read although the content is the same. The caller of Run compares the content if
// that matters.
func (w Watcher) Run(ctx context.Context, read func() error) {
	r := watch{state: map[string]Version{}, watched: map[string]os.FileInfo{}}
	for _, path := range w.Paths {
		r.paths = append(r.paths, filepath.Clean(path))
	}
	burst := debounce.New(cmp.Or(w.Quiet, 100*time.Millisecond), cmp.Or(w.MaxWait, 2*time.Second))
	defer burst.Stop()
	recheck := time.NewTicker(cmp.Or(w.Recheck, 10*time.Second))
	defer recheck.Stop()
	var events <-chan fsnotify.Event
	var lost <-chan error
	if !w.noEvents {
		if notify, err := fsnotify.NewWatcher(); err == nil { // otherwise rechecks find the changes
			defer notify.Close()
			r.notify, events, lost = notify, notify.Events, notify.Errors
		}
	}

	r.changed()
	failed := read() != nil
	touched := false // an event named one of the paths, so a change need not show in their state
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-events:
			touched = touched || r.concerns(event)
			burst.Notify()
			continue
		case <-lost:
			touched = true
			burst.Notify()
			continue
		case <-recheck.C:
			if !r.changed() && !failed {
				continue
			}
		case <-burst.C:
			changed := r.changed()
			if !changed && !touched {
				continue
			}
			touched = false
		}
		if ctx.Err() != nil {
			return
		}
		failed = read() != nil
	}
}

// watch is the state of one Run.
type watch struct {
	paths   []string
	state   map[string]Version // of each path, and of each file in the directories among them
	notify  *fsnotify.Watcher  // nil if the operating system offers none
	watched map[string]os.FileInfo
}

// concerns reports whether an event is about one of the paths or a file in it. Other events come
// from the rest of the directory that a path is in, such as the link ..data of a ConfigMap.
func (w *watch) concerns(event fsnotify.Event) bool {
	name := filepath.Clean(event.Name)
	for _, path := range w.paths {
		if name == path || filepath.Dir(name) == path {
			return true
		}
	}
	return false
}

// changed reports whether the state of a file differs from the last call, or may differ.
func (w *watch) changed() bool {
	state := make(map[string]Version, len(w.state))
	changed := false
	look := func(path string) Version {
		now := VersionOf(path)
		before, known := w.state[path]
		changed = changed || !known || !now.Same(before)
		state[path] = now
		return now
	}
	for _, path := range w.paths {
		w.follow(filepath.Dir(path)) // editors replace files, so the file itself is not watched
		if !look(path).IsDir() {
			continue
		}
		w.follow(path)
		entries, _ := os.ReadDir(path) // an error shows as files that are missing
		for _, entry := range entries {
			look(filepath.Join(path, entry.Name()))
		}
	}
	changed = changed || len(state) != len(w.state)
	w.state = state
	return changed
}

// follow watches the directory that has the name dir now. If that fails, the next call tries again.
func (w *watch) follow(dir string) {
	if w.notify == nil {
		return
	}
	before := w.watched[dir]
	now, err := os.Stat(dir)
	if err == nil && before != nil && os.SameFile(now, before) {
		return
	}
	if before != nil {
		_ = w.notify.Remove(dir) // the watch of a directory that is gone has ended already
		delete(w.watched, dir)
	}
	if err == nil && w.notify.Add(dir) == nil {
		w.watched[dir] = now
	}
}
