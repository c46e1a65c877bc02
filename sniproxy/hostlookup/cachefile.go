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

// A savedHost is one element of the JSON array in a cache file. A cache file is also a valid hosts
// file: ParseHosts ignores expires.
type savedHost struct {
	Endpoint
	Expires time.Time `json:"expires,omitzero"` // as in Entry; whole seconds
}

// Save writes the known hosts to a file, each with the time at which it expires. Load reads the
// file after the next start. Save replaces the file in one step, and only the file's owner can read
// it. ParseHosts can read the file too.
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

// A LoadResult counts the hosts that Load found in a file.
type LoadResult struct {
	Hosts   int // hosts that the cache has now because of the file
	LeftOut int // the others: malformed, too old, or known already
}

// Load adds the hosts of a file that Save wrote. Call Load before the first lookup. The TTL of a
// loaded host is over, as after SetAll: the cache asks its Source first, and serves the loaded host
// while the Source fails, until StaleFor after the host's expiry. If the file has no expiry for a
// host, the host expired when the file was last modified.
//
// If the file cannot be read or parsed, Load returns the error and loads nothing. If single hosts
// are malformed, Load loads the other hosts, and returns the first error.
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
