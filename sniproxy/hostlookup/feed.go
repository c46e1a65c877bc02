package hostlookup

import (
	"context"
	"iter"
	"math/rand/v2"
	"time"
)

// A Change reports that a stored answer may be wrong.
type Change struct {
	// Host is the host that changed. A wildcard "*.example.com" means every name with one label in
	// place of the "*". "" means that any host may have changed: a Feed reports that after it has
	// connected, unless it knows which changes it missed.
	Host string

	// Endpoint is the new endpoint. An empty Addr means that the Feed does not know it.
	Endpoint Endpoint
}

// A Feed reports changes of a source as they happen.
type Feed interface {
	// Changes yields changes until ctx ends, or until it yields an error.
	Changes(ctx context.Context) iter.Seq2[Change, error]
}

// Apply applies one change. A change with an endpoint is a Set, and returns its error. A change
// with a host only is a Forget. A change without a host is an Expire: it names no wrong answer, so
// the old endpoints may still be served as stale.
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

// Follow applies the changes of a feed until ctx ends, and returns ctx's error. When the feed ends,
// Follow calls Changes again after up to 1 s. While that fails, the longest wait doubles each time
// up to 30 s. failed, if not nil, is called with each error of the feed and of Apply.
func (c *Cache) Follow(ctx context.Context, feed Feed, failed func(error)) error {
	const shortest, longest = time.Second, 30 * time.Second
	for wait := shortest; ; {
		for change, err := range feed.Changes(ctx) {
			if err == nil {
				if err = c.Apply(change); err == nil {
					wait = shortest
					continue
				}
				// The new endpoint of the host is malformed, and the stored one is out of date.
				c.Forget(change.Host)
			}
			if failed != nil && ctx.Err() == nil {
				failed(err)
			}
		}
		timer := time.NewTimer(wait/2 + rand.N(wait/2)) // so that many caches do not connect at one moment
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
		wait = min(2*wait, longest)
	}
}
