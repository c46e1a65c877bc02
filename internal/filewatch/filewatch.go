// Package filewatch follows files and directories.
//
// A [Watcher] gets events from the operating system, through fsnotify, and also calls stat for the
// files at intervals. The second way is slower. It finds changes that cause no event: on a network
// file system, behind a symbolic link to another directory, and if the operating system loses
// events or has no more watches. A Watcher reads no files, and holds one entry for each in memory.
package filewatch

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/headgate/headgate/internal/debounce"
)

// Watcher calls a function when files change.
type Watcher struct {
	// Paths are files and directories. For a directory the Watcher follows the files in it, but no
	// subdirectories. A path may be missing at times, and a rename may replace it. It may be a
	// symbolic link that moves, like the files of a mounted ConfigMap.
	Paths []string
	// Quiet is how long no file must change before Run calls its function: one write of a file
	// causes several events. 0 means 100 ms.
	Quiet time.Duration
	// MaxWait is how long a change waits at most while others follow it. 0 means 2 s.
	MaxWait time.Duration
	// Recheck is the interval of the stat calls, one for each file. 0 means 10 s.
	Recheck time.Duration

	noEvents bool // for tests: use no fsnotify
}

// hangup wakes all Watchers of the process.
var hangup = struct {
	mu   sync.Mutex
	next chan struct{} // closed by the next Refresh
}{next: make(chan struct{})}

// Refresh makes every Watcher of the process call its read function soon, also if no file has changed.
// A program calls it when an operator asks for it, with SIGHUP for example.
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

// Run calls read once at the start, because the files may have changed since the caller read them,
// and then after each change. If read fails, Run calls it again at each recheck until it succeeds.
// Run reports no errors itself. It returns when ctx ends. All calls come from the goroutine of Run.
//
// Run may call read when no content has changed. If that matters, read compares the content.
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

	refresh := nextRefresh()
	r.changed()
	failed := read() != nil
	touched := false // an event named one of the paths; call read even if stat shows no change
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
		case <-refresh:
			refresh = nextRefresh()
			r.changed()
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

// concerns reports whether an event names one of the paths or a file in it. Other events are about
// neighbours of a path in its directory, such as the link ..data of a ConfigMap.
func (w *watch) concerns(event fsnotify.Event) bool {
	name := filepath.Clean(event.Name)
	for _, path := range w.paths {
		if name == path || filepath.Dir(name) == path {
			return true
		}
	}
	return false
}

// changed reports whether the state of a file differs, or may differ, from the last call.
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
		entries, _ := os.ReadDir(path) // after an error all files count as missing
		for _, entry := range entries {
			look(filepath.Join(path, entry.Name()))
		}
	}
	changed = changed || len(state) != len(w.state)
	w.state = state
	return changed
}

// follow watches the directory that now has the name dir. If that fails, the next call tries again.
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
		_ = w.notify.Remove(dir) // fails if the old directory is gone, which ended its watch
		delete(w.watched, dir)
	}
	if err == nil && w.notify.Add(dir) == nil {
		w.watched[dir] = now
	}
}
