//go:build linux

package scenarios

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// fileWatch records the times at which a program replaces a file.
type fileWatch struct {
	path     string
	inotify  *os.File
	replaced chan time.Time
	ended    chan struct{}
}

// watchFile follows a file in an existing directory. The caller must close it.
func watchFile(path string) (*fileWatch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", path, err)
	}
	w := &fileWatch{
		path: path, inotify: os.NewFile(uintptr(fd), "inotify"),
		// The channel has room for many events. So the goroutine that reads inotify never waits for
		// a reader of the channel, and the recorded times are exact.
		replaced: make(chan time.Time, 1024), ended: make(chan struct{}),
	}
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), unix.IN_MOVED_TO|unix.IN_CLOSE_WRITE); err != nil {
		return nil, errors.Join(fmt.Errorf("watch %s: %w", path, err), w.inotify.Close())
	}
	go w.follow()
	return w, nil
}

func (w *fileWatch) follow() {
	defer close(w.ended)
	buffer := make([]byte, 64<<10)
	for {
		n, err := w.inotify.Read(buffer)
		now := time.Now()
		if err != nil {
			return
		}
		// Each event is a struct inotify_event: wd, mask, cookie, len, and then the name, padded
		// with zeros.
		for b := buffer[:n]; len(b) >= unix.SizeofInotifyEvent; {
			end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
			name := strings.TrimRight(string(b[unix.SizeofInotifyEvent:end]), "\x00")
			if b = b[end:]; name == filepath.Base(w.path) {
				w.replaced <- now
			}
		}
	}
}

func (w *fileWatch) Close() error {
	err := w.inotify.Close()
	for {
		select {
		case <-w.ended:
			return err
		case <-w.replaced:
		}
	}
}

// forget discards all replacements so far.
func (w *fileWatch) forget() {
	for len(w.replaced) > 0 {
		<-w.replaced
	}
}

// The method "until" waits for a replacement of the file after which the function "holds" returns
// true for the content of the file. It returns the time of this replacement.
func (w *fileWatch) until(ctx context.Context, what string, within time.Duration, holds func(content []byte) bool) (time.Time, error) {
	late := time.After(within)
	for {
		select {
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("waiting for %s in %s: %w", what, w.path, context.Cause(ctx))
		case <-late:
			return time.Time{}, fmt.Errorf("waited %s for %s in %s", within, what, w.path)
		case at := <-w.replaced:
			content, err := os.ReadFile(w.path)
			if err != nil {
				return time.Time{}, err
			}
			if holds(content) {
				// If the file was replaced once more before ReadFile, the content may come from the
				// later replacement. So return the time of the last replacement.
				for len(w.replaced) > 0 {
					at = <-w.replaced
				}
				return at, nil
			}
		}
	}
}
