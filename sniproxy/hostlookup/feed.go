package hostlookup

import (
	"context"
	"iter"
	"math/rand/v2"
	"time"
)

// A Change says that what a cache holds may be wrong.
type Change struct {
	// Host is the host that changed, or "*.example.com" for all names of one label
	// before it. "" means that any may have: a feed begins with that after it
	// (re)connected, unless it can make up for what it missed.
	Host string

	// Endpoint is the new answer, if the feed knows it: Addr is not empty.
	Endpoint Endpoint
}

// A Feed reports changes of a source as they happen.
type Feed interface {
	// Changes yields changes until ctx ends, or an error and then no more.
	Changes(ctx context.Context) iter.Seq2[Change, error]
}

// Apply makes c follow one change. A host with a new endpoint gets it, as by Set;
// one without is forgotten; the zero Change is Expire: as no host is known to be
// wrong, the old answers still stand in while the source fails. The error is that
// of Set.
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

// Follow applies what feed reports until ctx ends, and returns ctx's error. When the
// feed breaks off it begins anew, after a second at first, and up to 30 s when that
// keeps failing, both with jitter. broken, if not nil, gets the errors.
func (c *Cache) Follow(ctx context.Context, feed Feed, broken func(error)) error {
	const first, last = time.Second, 30 * time.Second
	for wait := first; ; {
		for change, err := range feed.Changes(ctx) {
			if err == nil {
				if err = c.Apply(change); err == nil {
					wait = first
					continue
				}
				// What the feed says of this host is useless; what is held is old.
				c.Forget(change.Host)
			}
			if broken != nil && ctx.Err() == nil {
				broken(err)
			}
		}
		timer := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
		wait = min(2*wait, last)
	}
}
