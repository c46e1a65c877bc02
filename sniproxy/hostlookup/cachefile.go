package hostlookup

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/internal/exactjson"
	"github.com/headgate/headgate/internal/hostname"
	"github.com/headgate/headgate/internal/inputfile"
)

// A savedHost is one element of the JSON array in a cache file. A cache file is also a valid hosts
// file, because ParseHosts ignores the member "expires".
type savedHost struct {
	Endpoint
	Expires time.Time `json:"expires,omitzero"` // Entry.Expires, rounded to seconds
}

// maxCacheFile is the largest size of a cache file in bytes. A file with 1,000,000 hosts has about
// half of this size.
const maxCacheFile = 256 << 20

// Save writes the known hosts, each with the end of its TTL, to a file for Load after the next
// start; ParseHosts can read it too. For hosts with the endpoint of a known wildcard, it writes
// only the wildcard. It replaces the file in one step, and only the owner can read it.
func (c *Cache) Save(path string) error {
	if unread := c.unread.Load(); unread != nil && *unread == path {
		return fmt.Errorf("hostlookup: %s could not be read, and is not overwritten", path)
	}
	hosts := []savedHost{}
	all := maps.Collect(c.All())
	for host, entry := range all {
		if _, ok := all[entry.Endpoint.Host]; ok && hostname.Covers(entry.Endpoint.Host, host) {
			continue
		}
		if entry.Err == nil {
			ep := entry.Endpoint
			ep.Host = host
			// Load and Save compute this time from two readings of the clock, so it can be some
			// microseconds too early. Truncate would then subtract a second at each restart.
			hosts = append(hosts, savedHost{ep, entry.Expires.UTC().Round(time.Second)})
		}
	}
	slices.SortFunc(hosts, func(a, b savedHost) int { return strings.Compare(a.Host, b.Host) })
	data, err := json.Marshal(hosts)
	if err != nil {
		return err
	}
	if len(data) >= maxCacheFile {
		return fmt.Errorf("hostlookup: %s would have %d bytes, and Load reads at most %d", path, len(data)+1, maxCacheFile)
	}
	_, err = atomicfile.Update(path, append(data, '\n'), 0o600)
	return err
}

// A LoadResult counts the hosts that Load found in a file.
type LoadResult struct {
	Hosts   int // hosts that the cache has now because of the file
	LeftOut int // the others: malformed, too old, or known already
}

// Load adds the hosts of a file that Save wrote. Call Load before the first lookup. The TTL of a
// loaded host is over, as after SetAll. While the Source fails, the cache serves the host at most
// for StaleFor after the end of the TTL in the file. If an entry has no such time, StaleFor begins
// when the file was last modified.
//
// Load leaves out malformed entries, stops at a syntax error, and returns the first error. If the
// file does not exist, the error matches fs.ErrNotExist. A file of more than 256 MiB is an error.
//
// After any other error, Load adds ".unread" to the name of a regular file, so that a Save does not
// overwrite entries that Load could not read. If Load cannot rename the file, each Save to path
// fails.
func (c *Cache) Load(path string) (LoadResult, error) {
	hosts, leftOut, err := readCacheFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return LoadResult{}, err
	}
	known := func() int { s := c.Stats(); return s.Hosts + s.Aliases }
	before := known()
	setErr := c.SetAll(func(yield func(string, Entry) bool) {
		for _, h := range hosts {
			if !yield(h.Host, Entry{Endpoint: h.Endpoint, Expires: h.Expires}) {
				return
			}
		}
	})
	added := known() - before
	if err = cmp.Or(err, setErr); err != nil {
		if asideErr := keepAside(path); asideErr != nil {
			c.unread.Store(&path)
			err = fmt.Errorf("%w; the file is not kept aside: %w", err, asideErr)
		} else {
			err = fmt.Errorf("%w; the file is kept as %s", err, path+".unread")
		}
	}
	return LoadResult{Hosts: added, LeftOut: leftOut + len(hosts) - added}, err
}

// keepAside adds ".unread" to the name of the file at path. It does not rename a directory or a
// device, because such a path is a mistake of the user.
func keepAside(path string) error {
	info, err := inputfile.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	return os.Rename(path, path+".unread")
}

// readCacheFile returns the hosts of a file, the number of entries that it could not read, and the
// first error. A syntax error ends the reading. After an entry of the wrong form, readCacheFile
// continues.
func readCacheFile(path string) (hosts []savedHost, leftOut int, err error) {
	info, err := inputfile.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	data, err := inputfile.Read(path, maxCacheFile)
	if err != nil {
		return nil, 0, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if token, err := dec.Token(); err != nil || token != json.Delim('[') {
		return nil, 0, fmt.Errorf("%s: not a JSON array", path)
	}
	var first error
	for index := 0; dec.More(); index++ {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return hosts, leftOut + 1, cmp.Or(first, fmt.Errorf("%s: entry %d: %w", path, index, err))
		}
		h := savedHost{}
		err := exactjson.Object(raw, exactjson.Fields{"app": &h.App, "host": &h.Host, "endpoint": &h.Addr, "expires": &h.Expires})
		if err != nil {
			leftOut++
			first = cmp.Or(first, fmt.Errorf("%s: entry %d: %w", path, index, err))
			continue
		}
		if h.Expires.IsZero() {
			h.Expires = info.ModTime()
		}
		hosts = append(hosts, h)
	}
	var whole json.RawMessage
	if err := json.Unmarshal(data, &whole); err != nil { // the array has no end, or other text follows it
		first = cmp.Or(first, fmt.Errorf("%s: %w", path, err))
	}
	return hosts, leftOut, first
}
