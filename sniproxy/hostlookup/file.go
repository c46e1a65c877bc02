package hostlookup

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// File is a Lookup of the hosts in a file; see ParseHosts for its form. It needs no
// Cache: its answers come from memory.
//
// The first use reads the file; Watch reads it again when it changes. All hosts change
// at one moment. A file that cannot be read or is no JSON array changes nothing: the
// last good state remains. Before there was one, lookups fail with the error.
//
// The fields are read at the first use and must not change afterwards. It is safe for
// concurrent use.
type File struct {
	// Path is the file. Required. It may be a link that moves.
	Path string

	// Interval is how often Watch looks whether the file has changed. 0 means 1 s.
	Interval time.Duration

	// MaxSize bounds the file in bytes. 0 means 64 MiB.
	MaxSize int64

	// Loaded, if not nil, is called after each reading: with the entries that were
	// left out, or with the error that kept the file from being used. It is not called
	// again for the same state of a file. Calls do not overlap.
	Loaded func(hosts *Hosts, problems []Problem, err error)

	hosts atomic.Pointer[Hosts]

	mu      sync.Mutex // one reading at a time
	seen    fileState
	content [sha256.Size]byte // of the last reading
	parsed  bool              // there was one
	bad     error             // what was wrong with it
	failing string            // the error on the way to the content, reported
}

// LookupHost implements Lookup.
func (f *File) LookupHost(ctx context.Context, host string) (Endpoint, error) {
	h := f.hosts.Load()
	if h == nil {
		if err := f.Load(); err != nil && f.hosts.Load() == nil {
			return Endpoint{}, err
		}
		h = f.hosts.Load()
	}
	return h.LookupHost(ctx, host)
}

// Load reads the file if it has changed since it was read. The error is that of a file
// that cannot be used; Loaded gets it too.
func (f *File) Load() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, err := stateOf(f.Path)
	if err == nil && f.failing == "" && f.seen.same(now) {
		return f.bad
	}
	var data []byte
	if err == nil {
		data, err = readFile(f.Path, cmp.Or(max(f.MaxSize, 0), 64<<20))
	}
	if err != nil {
		err = fmt.Errorf("hostlookup: %w", err)
		if f.failing != err.Error() {
			f.failing = err.Error()
			f.loaded(nil, nil, err)
		}
		return err
	}
	f.seen = now // it is older than data: what changes from now on is seen
	content := sha256.Sum256(data)
	if f.parsed && f.failing == "" && f.content == content {
		return f.bad
	}
	f.content, f.parsed, f.failing = content, true, ""
	hosts, problems, err := ParseHosts(f.Path, data)
	if f.bad = err; err == nil {
		f.hosts.Store(hosts)
	}
	f.loaded(hosts, problems, err)
	return err
}

func (f *File) loaded(hosts *Hosts, problems []Problem, err error) {
	if f.Loaded != nil {
		f.Loaded(hosts, problems, err)
	}
}

// Hosts returns the present state, nil before there was a good one.
func (f *File) Hosts() *Hosts { return f.hosts.Load() }

// Watch reads the file when it changes, until ctx ends, and returns ctx's error.
func (f *File) Watch(ctx context.Context) error {
	ticker := time.NewTicker(cmp.Or(max(f.Interval, 0), time.Second))
	defer ticker.Stop()
	for {
		_ = f.Load() // Loaded has the error
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}
