// Package filewatch follows files and directories.
//
// A [Watcher] gets events from fsnotify, and also calls stat for each file at intervals. stat finds
// changes that cause no event: on a network file system, behind a symbolic link to another
// directory, and if the operating system loses events or has no more watches. A Watcher does not
// read the content of files.
package filewatch

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/headgate/headgate/internal/debounce"
	"github.com/headgate/headgate/internal/inputfile"
)

// Watcher calls a function when files change.
type Watcher struct {
	// Paths are the files and directories to follow; a directory means the files in it, without its
	// subdirectories. A path may be missing for a time, be replaced by a rename, or be a symbolic
	// link whose target changes, as in a mounted ConfigMap.
	Paths []string
	// Quiet is the time without a change after which Run calls the function "read", because one
	// write of a file causes several events. 0 means 100 ms.
	//
	// After a rename, the new content is complete. So Run does not wait if a rename replaces the
	// only path, or if it replaces a symbolic link through which all paths lead, as kubelet does
	// for a ConfigMap. But Run calls "read" at most every 100 ms.
	Quiet time.Duration
	// MaxWait is the longest time from a change to the call of the function "read", if other
	// changes keep coming. 0 means 2 s.
	MaxWait time.Duration
	// Recheck is the time between two calls of stat for the same file. 0 means 10 s.
	Recheck time.Duration

	noEvents bool // for tests: use no fsnotify
}

// hangup lets Refresh wake all running Watchers of the process.
var hangup = struct {
	mu   sync.Mutex
	next chan struct{} // closed by the next Refresh
}{next: make(chan struct{})}

// Refresh makes every running Watcher of the process call its read function soon, even if no file
// has changed. A program calls it when an operator requests this, for example with SIGHUP.
func Refresh() {
	hangup.mu.Lock()
	defer hangup.mu.Unlock()
	close(hangup.next)
	hangup.next = make(chan struct{})
}

func nextRefresh() <-chan struct{} {
	hangup.mu.Lock()
	defer hangup.mu.Unlock()
	return hangup.next
}

// Run calls "read" at the start, after each change, and after each Refresh. If "read" returns an
// error, Run calls it again at each recheck until it returns nil. Run returns when ctx ends. All
// calls come from the goroutine of Run.
//
// Run may call "read" although the content of all files is the same.
func (w Watcher) Run(ctx context.Context, read func() error) {
	r := watch{state: map[string]Version{}, watched: map[string]os.FileInfo{}}
	for _, path := range w.Paths {
		r.paths = append(r.paths, filepath.Clean(path))
	}
	burst := debounce.New(cmp.Or(w.Quiet, 100*time.Millisecond), cmp.Or(w.MaxWait, 2*time.Second))
	defer burst.Stop()
	recheck := time.Tick(cmp.Or(w.Recheck, 10*time.Second))
	var events <-chan fsnotify.Event
	var lost <-chan error
	if !w.noEvents {
		if notify, err := fsnotify.NewWatcher(); err == nil { // otherwise rechecks find the changes
			defer notify.Close()
			r.notify, events, lost = notify, notify.Events, notify.Errors
		}
	}

	refresh := nextRefresh()
	r.changed()
	failed, last := read() != nil, time.Now() // the time of the last call of read
	var previous fsnotify.Event
	touched := false // an event named one of the paths; call the function "read" even if stat shows no change
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-events:
			touched = touched || r.concerns(event)
			burst.Notify()
			complete := r.replacedBy(previous, event)
			previous = event
			if !complete || time.Since(last) < rest || !r.changed() {
				continue
			}
			touched = false // the end of the burst needs no call, unless there are further changes
		case <-lost:
			touched = true
			burst.Notify()
			continue
		case <-refresh:
			refresh = nextRefresh()
			r.changed()
		case <-recheck:
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
		failed, last = read() != nil, time.Now()
	}
}

// After a rename that replaces all files at once, Run calls the function "read" immediately (see
// Watcher.Quiet). But if the last call was less than 100 ms ago (the constant "rest"), Run waits for
// the end of the burst.
const rest = 100 * time.Millisecond

// watch is the state of one Run.
type watch struct {
	paths   []string
	state   map[string]Version // the version of each path, and of each file in a path that is a directory
	notify  *fsnotify.Watcher  // nil if the operating system offers none
	watched map[string]os.FileInfo
}

// concerns reports whether an event is about one of the paths, or about a file in a path that is a
// directory. If a path is a file, the operating system also sends events about other files in the
// directory of this file, such as the link ..data of a ConfigMap. For such an event, concerns
// returns false.
func (w *watch) concerns(event fsnotify.Event) bool {
	name := filepath.Clean(event.Name)
	for _, path := range w.paths {
		if name == path || filepath.Dir(name) == path {
			return true
		}
	}
	return false
}

// replacedBy reports whether two consecutive events show that a rename within the directory has
// replaced all paths at once. The first event must contain the old name, and the second event the
// new name. The new name must be the only path, or a symbolic link through which all paths lead.
func (w *watch) replacedBy(previous, event fsnotify.Event) bool {
	name := filepath.Clean(event.Name)
	if !previous.Has(fsnotify.Rename) || !event.Has(fsnotify.Create) || filepath.Dir(previous.Name) != filepath.Dir(name) || filepath.Clean(previous.Name) == name {
		return false
	}
	if len(w.paths) == 1 && name == w.paths[0] {
		return !w.state[name].IsDir()
	}
	for _, path := range w.paths {
		target, err := os.Readlink(path)
		if err != nil || filepath.Dir(path) != filepath.Dir(name) || !strings.HasPrefix(target, filepath.Base(name)+string(filepath.Separator)) {
			return false
		}
	}
	return true
}

// changed calls stat for all files. It reports whether a file has changed, or may have changed,
// since the last call.
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
		w.follow(filepath.Dir(path)) // not the file itself, which an editor may replace
		if !look(path).IsDir() {
			continue
		}
		w.follow(path)
		entries, _ := inputfile.ReadDir(path) // after an error all files count as missing
		for _, entry := range entries {
			look(filepath.Join(path, entry.Name()))
		}
	}
	changed = changed || len(state) != len(w.state)
	w.state = state
	return changed
}

// follow asks the operating system for the events of the directory dir. If dir is a symbolic link
// whose target has changed, follow replaces the old watch. If follow cannot set the new watch, the
// next call of follow tries again.
func (w *watch) follow(dir string) {
	if w.notify == nil {
		return
	}
	before := w.watched[dir]
	now, err := inputfile.Stat(dir)
	if err == nil && before != nil && os.SameFile(now, before) {
		return
	}
	if before != nil {
		_ = w.notify.Remove(dir) // fails if the old directory is gone, which ended its watch
		delete(w.watched, dir)
	}
	if err == nil && w.notify.Add(dir) == nil {
		w.watched[dir] = now
	}
}
