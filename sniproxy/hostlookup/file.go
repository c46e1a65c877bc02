package hostlookup

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/internal/filewatch"
	"github.com/headgate/headgate/internal/inputfile"
)

// File is a Lookup of the hosts in a file; ParseHosts describes the format. It answers from memory,
// so it needs no Cache. It is safe for concurrent use; set the fields before the first use.
//
// The first lookup reads the file, unless Load or Watch has read it. Watch reads it again after
// each change. If the file is unreadable or not a JSON array, the File keeps the hosts of the last
// successful reading. If there was none, lookups return the error.
type File struct {
	// Path is the path of the file. Required. It may be a symbolic link that later points to
	// another file, as in a mounted ConfigMap.
	Path string

	// Interval is the time after which Watch checks again whether the file has changed. 0 means 1
	// s. Watch makes these checks because the operating system does not report every change.
	Interval time.Duration

	// MaxSize is the largest size of the file in bytes. 0 means 64 MiB.
	MaxSize int64

	// Loaded, if not nil, is called after each reading of the file that has changed the content or
	// the error. problems has one element for each entry that the File left out. If err is not nil,
	// the File keeps the old hosts. Calls do not overlap.
	Loaded func(hosts *Hosts, problems []Problem, err error)

	hosts atomic.Pointer[Hosts]

	mu      sync.Mutex        // only one goroutine at a time reads the file
	version filewatch.Version // the version of the file at the last reading
	read    bool              // the last reading returned the content
	outcome string            // the result of the last reading: the hash of the content, or the error
	err     error             // the error of the last reading
}

// LookupHost implements Lookup.
func (f *File) LookupHost(_ context.Context, host string) (Answer, error) {
	if h := f.hosts.Load(); h != nil {
		return h.Peek(host)
	}
	err := f.Load()
	h := f.hosts.Load()
	if h == nil {
		return Answer{}, err
	}
	return h.Peek(host)
}

// Peek implements Peeker. It returns ErrWouldWait until the file has been read successfully.
func (f *File) Peek(host string) (Answer, error) {
	if h := f.hosts.Load(); h != nil {
		return h.Peek(host)
	}
	return Answer{}, ErrWouldWait
}

// Load reads the file, unless it is certainly unchanged since the last reading. If Load returns an
// error, the old hosts remain. Load also passes this error to the function File.Loaded.
func (f *File) Load() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	// Get the version before the content. If the file changes between the two, the next Load finds
	// the change.
	version := filewatch.VersionOf(f.Path)
	if f.read && version.Same(f.version) {
		return f.err
	}
	data, err := inputfile.Read(f.Path, cmp.Or(max(f.MaxSize, 0), 64<<20))
	f.version, f.read = version, err == nil
	var outcome string
	if err != nil {
		err = fmt.Errorf("hostlookup: %w", err)
		outcome = err.Error()
	} else {
		sum := sha256.Sum256(data)
		outcome = hex.EncodeToString(sum[:])
	}
	if outcome == f.outcome {
		return f.err
	}
	var hosts *Hosts
	var problems []Problem
	if err == nil {
		if hosts, problems, err = ParseHosts(f.Path, data); err == nil {
			f.hosts.Store(hosts)
		}
	}
	f.outcome, f.err = outcome, err
	if f.Loaded != nil {
		f.Loaded(hosts, problems, err)
	}
	return err
}

// Hosts returns the last good hosts. It is nil before the file has been read successfully.
func (f *File) Hosts() *Hosts { return f.hosts.Load() }

// Watch reads the file now and after each change, until ctx ends. It returns the error of ctx.
// Watch passes errors of the file to the function File.Loaded.
func (f *File) Watch(ctx context.Context) error {
	w := filewatch.Watcher{Paths: []string{f.Path}, Recheck: cmp.Or(max(f.Interval, 0), time.Second)}
	w.Run(ctx, f.Load)
	return context.Cause(ctx)
}
