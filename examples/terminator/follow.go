package main

import (
	"context"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	filesQuiet   = 100 * time.Millisecond // one write of a file is several events
	filesLongest = time.Second            // while events never cease
	filesPoll    = 10 * time.Second       // where a file system sends none
)

// followFiles calls changed after events in the directories of the files, and every
// now and then without any, until ctx ends. Directories are watched and not files:
// editors replace these, and Kubernetes switches links beside them.
func followFiles(ctx context.Context, files []string, changed func()) error {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer notify.Close()
	watch := func() {
		for _, file := range files { // adding one again does nothing
			_ = notify.Add(filepath.Dir(file)) // the poll is there for what cannot be watched
		}
	}
	watch()
	changed() // since the files were read, and before they were watched
	poll := time.NewTicker(filesPoll)
	defer poll.Stop()
	quiet := time.NewTimer(0)
	quiet.Stop()
	defer quiet.Stop()
	var latest time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-notify.Events:
		case <-notify.Errors: // events were lost
		case <-quiet.C:
			latest = time.Time{}
			changed()
			continue
		case <-poll.C:
			watch() // a directory that was away may be back
			changed()
			continue
		}
		now := time.Now()
		if latest.IsZero() {
			latest = now.Add(filesLongest)
		}
		quiet.Reset(min(filesQuiet, latest.Sub(now)))
	}
}
