package hostlookup

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/atomicfile"
)

// A savedHost is an entry of a cache file. A cache file is also a hosts file: ParseHosts ignores
// Expires.
type savedHost struct {
	Endpoint
	Expires time.Time `json:"expires,omitzero"` // as in Entry; whole seconds
}

// Save writes the known hosts to a file, with the time at which each expires, for a Load after
// the next start. The file is replaced as a whole, and is readable by its owner only. ParseHosts
// can read the file too.
func (c *Cache) Save(path string) error {
	hosts := []savedHost{}
	for host, entry := range c.All() {
		if entry.Err == nil {
			ep := entry.Endpoint
			ep.Host = host
			hosts = append(hosts, savedHost{ep, entry.Expires.UTC().Truncate(time.Second)})
		}
	}
	slices.SortFunc(hosts, func(a, b savedHost) int { return strings.Compare(a.Host, b.Host) })
	data, err := json.Marshal(hosts)
	if err != nil {
		return err
	}
	_, err = atomicfile.Update(path, append(data, '\n'), 0o600)
	return err
}

// A LoadResult counts the hosts of a file that Load read.
type LoadResult struct {
	Hosts   int // hosts that the cache has now because of the file
	LeftOut int // the others: malformed, too old, or known already
}

// Load adds the hosts of a file that Save wrote. As with SetAll their TTL is over: the cache asks
// its Source first, and serves a loaded host while the Source fails, until StaleFor after the
// host's expiry. A host without that time expires when the file was last modified. Call Load
// before the first lookup.
//
// If the file cannot be read or parsed, Load returns the error and loads nothing. If some hosts in
// it are malformed, Load leaves them out, loads the others, and returns the first error.
func (c *Cache) Load(path string) (LoadResult, error) {
	hosts, err := readCacheFile(path)
	if err != nil {
		return LoadResult{}, err
	}
	before := c.Stats().Hosts
	err = c.SetAll(func(yield func(string, Entry) bool) {
		for _, h := range hosts {
			if !yield(h.Host, Entry{Endpoint: h.Endpoint, Expires: h.Expires}) {
				return
			}
		}
	})
	added := c.Stats().Hosts - before
	return LoadResult{Hosts: added, LeftOut: len(hosts) - added}, err
}

func readCacheFile(path string) ([]savedHost, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var hosts []savedHost
	if err := json.Unmarshal(data, &hosts); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for i := range hosts {
		if hosts[i].Expires.IsZero() {
			hosts[i].Expires = info.ModTime()
		}
	}
	return hosts, nil
}
