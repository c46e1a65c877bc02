package hostlookup

import (
	"context"
	"iter"
	"math/rand/v2"
	"time"
)

// A Change says that the source may now give another answer for one host. Without a Host, it says
// this for all hosts.
type Change struct {
	// Host is the host that changed. A wildcard "*.example.com" means every name with one label in
	// place of the "*". "" means any host. A Feed reports "" when it has connected to its source
	// and cannot report each change since the last connection.
	Host string

	// Endpoint is the new endpoint of Host. An empty Addr means that the source of the changes does
	// not state the new endpoint, so the old one must be forgotten.
	Endpoint Endpoint
}

// A Feed is a source that can report each change of its hosts when the change happens.
type Feed interface {
	// Changes yields changes until ctx ends, or until it yields an error.
	Changes(ctx context.Context) iter.Seq2[Change, error]
}

// Apply applies one change to the cache. It calls Set for a change with an endpoint, and returns
// the error of Set. It calls Forget for a change with only a host, and Expire for a change without
// a host. Unlike Purge, Expire lets the cache serve the old endpoints while the source fails.
func (c *Cache) Apply(change Change) error {
	switch {
	case change.Host == "":
		c.Expire()
	case change.Endpoint.Addr != "":
		return c.Set(change.Host, change.Endpoint)
	default:
		c.Forget(change.Host)
	}
	return nil
}

// Follow applies the changes of a feed until ctx ends, and returns the error of ctx. When
// feed.Changes ends, Follow calls it again after a random pause of 0.5 to 1 s. If feed.Changes ends
// again without a change, the next pause is twice as long. The longest pause is 15 to 30 s. Follow
// calls the function "failed", if not nil, with each error of the feed and of Apply.
func (c *Cache) Follow(ctx context.Context, feed Feed, failed func(error)) error {
	const shortest, longest = time.Second, 30 * time.Second
	for wait := shortest; ; {
		for change, err := range feed.Changes(ctx) {
			if err == nil {
				if err = c.Apply(change); err == nil {
					wait = shortest
					continue
				}
				// The new endpoint is malformed, so Apply has not stored it. The old endpoint is
				// out of date: forget it.
				c.Forget(change.Host)
			}
			if failed != nil && ctx.Err() == nil {
				failed(err)
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait/2 + rand.N(wait/2)): // so that many caches do not connect at one moment
		}
		wait = min(2*wait, longest)
	}
}
