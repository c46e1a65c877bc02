// Package keyfiles reads the files of ECH keys in a directory for package ech, and reads them again
// when they change. Package ech describes the format of the files.
//
//	dir := &keyfiles.Dir{Path: "/etc/headgate-ech"}
//	if err := dir.Load(); err != nil {
//		…
//	}
//	go dir.Watch(ctx)
//	srv := &sniproxy.Server{ECHKeys: dir.Keys, …}
//
// The package ignores subdirectories and files whose names begin with a dot. It follows symbolic
// links, so it can read the directory of a mounted Secret.
package keyfiles

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/internal/filewatch"
	"github.com/headgate/headgate/internal/inputfile"
	"github.com/headgate/headgate/sniproxy/ech"
)

const (
	maxFiles = 256      // config_id has 256 values
	maxSize  = 64 << 10 // the largest size of a file in bytes; a file of one key has about 400
)

// Dir is a directory of key files. It is safe for concurrent use; set the fields before the first
// use. The methods Load and Watch read the directory; until then, it has no keys.
type Dir struct {
	// Path is the path of the directory. Required.
	Path string

	// Interval is the time after which Watch checks again whether a file has changed. 0 means 1 s.
	// Watch makes these checks because the operating system does not report every change.
	Interval time.Duration

	// Loaded, if not nil, is called after each reading that has changed the keys or the error.
	// keys are the keys in force. Calls do not overlap.
	Loaded func(keys *ech.Keys, err error)

	keys atomic.Pointer[ech.Keys]

	mu      sync.Mutex           // only one goroutine at a time reads the directory
	files   map[string][]ech.Key // the last good keys of each file; the keys are names
	outcome string               // a text that is the same if keys and error are the same
}

// Keys returns the keys in force. It is nil before the first Load or Watch.
func (d *Dir) Keys() *ech.Keys { return d.keys.Load() }

// Load reads the directory. Its keys are sorted by the names of their files.
//
// If the directory cannot be read, the old keys stay in force. If a file cannot be read or has no
// usable key, the last good keys of this file stay in force until the file is removed. The error
// contains an error for each such file.
func (d *Dir) Load() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	names, err := d.names()
	if err == nil {
		err = d.read(names)
	}
	if err != nil {
		err = fmt.Errorf("ech keys: %w", err)
	}
	if outcome := d.describe(err); outcome != d.outcome {
		d.outcome = outcome
		if d.Loaded != nil {
			d.Loaded(d.Keys(), err)
		}
	}
	return err
}

// Watch reads the directory now and after each change, until ctx ends. It returns the error of ctx.
// Watch passes errors of the directory to the function Dir.Loaded.
func (d *Dir) Watch(ctx context.Context) error {
	w := filewatch.Watcher{Paths: []string{d.Path}, Recheck: cmp.Or(max(d.Interval, 0), time.Second)}
	w.Run(ctx, d.Load)
	return context.Cause(ctx)
}

// names returns the names of the key files, sorted.
func (d *Dir) names() ([]string, error) {
	entries, err := inputfile.ReadDir(d.Path)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || e.IsDir() {
			continue
		}
		if info, err := inputfile.Stat(filepath.Join(d.Path, e.Name())); err == nil && info.IsDir() {
			continue // this is a symbolic link to a directory
		}
		names = append(names, e.Name())
	}
	if len(names) > maxFiles {
		return nil, fmt.Errorf("%s: more than %d files", d.Path, maxFiles)
	}
	return names, nil
}

// read reads the files, and sets the keys in force.
func (d *Dir) read(names []string) error {
	files := make(map[string][]ech.Key, len(names))
	var all []ech.Key
	var errs []error
	for _, name := range names {
		path := filepath.Join(d.Path, name)
		text, err := inputfile.Read(path, maxSize)
		var keys []ech.Key
		if err == nil {
			if keys, err = ech.ParseKey(text); err != nil {
				err = fmt.Errorf("%s: %w", path, err)
			}
		}
		if err != nil {
			errs = append(errs, err)
			keys = d.files[name]
		}
		files[name] = keys
		all = append(all, keys...)
	}
	d.files = files
	d.keys.Store(ech.NewKeys(all...))
	return errors.Join(errs...)
}

// describe returns a text of err and the public parts of the keys in force. Load compares two such
// texts to find out whether the keys or the error have changed.
func (d *Dir) describe(err error) string {
	text := fmt.Sprint(err)
	for _, c := range d.Keys().Configs() {
		text += string(c.Bytes())
	}
	return text
}

// Create makes a key with a config_id that no other key in the directory dir has, and writes its file.
// The name of the file begins with the time now in UTC, and only the owner can read the file. The other
// arguments are those of [ech.Generate].
//
// Create returns an error if a file in dir is no key file. Two calls for the same directory at the same
// time may choose the same config_id.
func Create(dir, publicName string, maxNameLength uint8, now time.Time) (path string, key ech.Key, err error) {
	d := Dir{Path: dir}
	if err := d.Load(); err != nil {
		return "", ech.Key{}, err
	}
	used := map[uint8]bool{}
	for _, c := range d.Keys().Configs() {
		used[c.ID] = true
	}
	// RFC 9849 section 4.1 asks for a random config_id, so that the ID says nothing about the router.
	for _, id := range rand.Perm(256) {
		if used[uint8(id)] {
			continue
		}
		if key, err = ech.Generate(publicName, uint8(id), maxNameLength); err != nil {
			return "", ech.Key{}, err
		}
		text, err := key.PEM()
		if err != nil {
			return "", ech.Key{}, err
		}
		path = filepath.Join(dir, fmt.Sprintf("%s-%02x.pem", now.UTC().Format("20060102T150405Z"), id))
		return path, key, atomicfile.Write(path, text, 0o600, nil)
	}
	return "", ech.Key{}, fmt.Errorf("ech keys: %s: all 256 config_ids are in use", dir)
}
