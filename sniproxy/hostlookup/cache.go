package hostlookup

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// Forever is a TTL that never ends.
	Forever = time.Duration(math.MaxInt64)

	// Revalidate is a TTL that ends at once, so each lookup asks the source. The lookup gets the
	// stored endpoint, with the Level Stale, only if the source fails or is slow.
	// StaleWhileRevalidate has no effect.
	Revalidate = time.Duration(1)
)

// A Cache stores the answers of a Source, and serves them as the package documentation describes.
// All methods are safe for concurrent use. Set the fields before the first use, and do not copy the
// Cache afterwards.
type Cache struct {
	// Source finds the hosts that the cache does not know. Required.
	//
	// The cache calls Source in its own goroutines, one at a time for each host. The context of a
	// call ends after Timeout or when the Cache is closed, and has no values from the contexts of
	// the lookups.
	Source Lookup

	// MaxHosts limits the number of known hosts, which are hosts with an endpoint. 0 means 100,000.
	// At the limit, each new host evicts the least recently used host. A known host needs about 300
	// bytes of memory plus its strings.
	//
	// An alias is a host whose endpoint has another name in the field Host: "a.example.com" with an
	// endpoint whose Host is "*.example.com". The cache stores up to MaxHosts aliases besides the
	// known hosts. So a flood of invented names below a wildcard evicts only aliases.
	MaxHosts int

	// MaxNegative limits the stored hosts without an endpoint, which the source did not find or for
	// which it failed; 0 means 10,000. They do not count for MaxHosts, so a flood of invented names
	// evicts no known host.
	MaxNegative int

	// TTL is how long the cache serves an endpoint before it asks the source again, unless the
	// source sets Endpoint.TTL. 0 means 30 s. If TTL is negative, the cache does not store
	// endpoints without an Endpoint.TTL.
	TTL time.Duration

	// NegativeTTL is how long the cache serves ErrNotFound before it asks the source again, unless
	// the source sets Error.TTL. 0 means 5 s. If NegativeTTL is negative, the cache does not store
	// ErrNotFound.
	NegativeTTL time.Duration

	// ErrorTTL is how long lookups of an unknown host get the same error after a failure of the
	// source. 0 means 1 s; negative means no time. A source can demand a longer time with
	// Error.TTL, up to 5 min.
	ErrorTTL time.Duration

	// Jitter is the largest random share, from 0 to 1, by which the cache shortens each TTL, so
	// that hosts stored at the same time expire at different times. 0 means 0.1; negative means no
	// jitter.
	Jitter float64

	// StaleFor is how long after its TTL the cache may serve an endpoint while the source fails or
	// is slow. 0 means 24 h; negative means not at all.
	StaleFor time.Duration

	// Recheck is how long, after a failure of the source, the cache serves a stale endpoint without
	// asking the source again. 0 means 30 s (RFC 8767 section 5); negative means that each lookup
	// asks the source.
	Recheck time.Duration

	// StaleWhileRevalidate is how long, after the end of a TTL, a lookup gets the stale endpoint
	// without waiting, while the cache asks the source in the background. 0 means no such time: the
	// first lookup after the TTL waits for the source.
	StaleWhileRevalidate time.Duration

	// StaleAfter is how long a lookup waits for a slow source before it gets the stale endpoint, if
	// there is one. Later lookups get the stale endpoint without waiting, until the source answers.
	// 0 means 500 ms; negative means that no lookup waits.
	StaleAfter time.Duration

	// Timeout limits the time of a call of the source. While MaxCalls calls are running, a new call
	// waits before it begins; Timeout limits this wait too. 0 and negative values mean 5 s.
	Timeout time.Duration

	// MaxCalls limits the calls of the source that run at the same time. 0 means 64.
	MaxCalls int

	// SourceFailed, if not nil, is called after each failed call of the source, even if the lookups
	// got a stale endpoint. ErrNotFound is not a failure. Calls may be concurrent. Close waits for
	// them.
	SourceFailed func(host string, err error)

	// Clock returns the present time, at every lookup. nil means the system's clock. A lookup that
	// the cache answers from memory then uses a time that is up to 10 ms old, so ages are exact to
	// about 10 ms. Timeout and StaleAfter always use the system's clock.
	Clock func() time.Time

	once sync.Once
	core atomic.Pointer[core]

	unread atomic.Pointer[string] // the file that Load could neither read nor rename
}

var (
	// ErrClosed is the error of LookupHost and Set after Close.
	ErrClosed = errors.New("hostlookup: cache is closed")

	// ErrBusy means that a call of the source did not begin within Timeout, because MaxCalls other
	// calls were running.
	ErrBusy = errors.New("hostlookup: too many lookups under way")
)

// init returns the core. The first call creates it.
func (c *Cache) init() *core {
	if k := c.core.Load(); k != nil {
		return k
	}
	return c.firstUse()
}

func (c *Cache) firstUse() *core {
	c.once.Do(func() { c.core.Store(newCore(c)) })
	return c.core.Load()
}

// LookupHost returns the endpoint of host, and the Level that says where the answer comes from. The
// error matches ErrNotFound, an error of the source, the error of ctx, ErrBusy, ErrClosed or a
// *PanicError. A host that is empty or longer than 253 bytes is not found.
//
// If ctx ends while the lookup waits for the source, LookupHost returns the stale endpoint of the
// host, or else the error of ctx. The call of the source continues.
func (c *Cache) LookupHost(ctx context.Context, host string) (a Answer, err error) {
	k := c.init()
	if e, level := k.hit(host); e != nil {
		a, err = Answer{e.Value.ep, level}, e.Value.err()
		k.lookups.Add(uint8(level)) // after the reads above: an atomic write delays reads after it
		return a, err
	}
	r := k.miss(ctx, host)
	return r.Answer, r.err
}

// Peek implements Peeker. If LookupHost would have to ask the source before it returns, Peek
// returns ErrWouldWait. Otherwise Peek returns the answer that LookupHost would return, and
// Cache.Stats counts the lookup.
func (c *Cache) Peek(host string) (Answer, error) {
	k := c.init()
	e, level := k.hit(host)
	if e == nil {
		return Answer{}, ErrWouldWait
	}
	a, err := Answer{e.Value.ep, level}, e.Value.err()
	k.lookups.Add(uint8(level))
	return a, err
}

// An Entry is what a Cache stores for one host.
type Entry struct {
	// Endpoint is zero if Err is not nil.
	Endpoint Endpoint
	// Err is nil if the host has an endpoint. Otherwise it is an error that wraps ErrNotFound, or
	// the failure of the source.
	Err error
	// Level is the Level that a lookup would return now. Miss means that a lookup would ask the
	// source first.
	Level Level
	// Left is how long the entry keeps this Level, if the cache does not replace the entry before.
	// It is 0 if Level is Miss.
	Left time.Duration
	// Expires is the time at which the TTL of the source's last answer ends or ended. A later
	// failure of the source does not change it. After Expires, an endpoint may still be served for
	// Cache.StaleFor.
	Expires time.Time
	// Answered is the time of the source's last answer with this endpoint or error, or the time at
	// which Set stored the endpoint. It is rounded down by up to a second. If the endpoint comes
	// from SetAll, Load or a wildcard, the time is unknown, and Answered is zero.
	Answered time.Time
}

// Entry returns what the cache stores for host, and false if it stores nothing. Entry is not a
// lookup: it does not ask the source, Stats does not count it, and it does not make the host more
// recently used.
func (c *Cache) Entry(host string) (Entry, bool) {
	k := c.init()
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.table.Get(host)
	if e == nil {
		return Entry{}, false
	}
	now, wall := k.clock.nowAndWall()
	return k.entry(e, now, wall)
}

// All returns all entries that the cache stores at one moment, by host, in no particular order. Use
// it for a status page, or for a SetAll after the next start. Save writes the known hosts to a
// file.
func (c *Cache) All() iter.Seq2[string, Entry] {
	return func(yield func(string, Entry) bool) {
		for _, e := range c.init().snapshot() {
			if !yield(e.host, e.entry) {
				return
			}
		}
	}
}

// Set stores an endpoint as if the source had just returned it. If a call of the source for the
// host is running, its answer does not replace this endpoint. If ep.TTL is negative, the cache
// forgets the host. If host is a wildcard, lookups get the endpoint only while the source fails.
//
// Set returns an error if the Cache is closed (ErrClosed), if the host is empty or longer than 253
// bytes, or if ep.Validate returns an error.
func (c *Cache) Set(host string, ep Endpoint) error {
	return c.store(host, ep, func(k *core) { k.set(host, ep) })
}

// store checks a host and its endpoint. If both are valid, store locks the core and calls the
// function "put", which stores the endpoint.
func (c *Cache) store(host string, ep Endpoint, put func(*core)) error {
	if !isHost(host) {
		return fmt.Errorf("hostlookup: set %s: not the name of a host", quote(host))
	}
	if err := ep.Validate(); err != nil {
		return fmt.Errorf("%w (of host %q)", err, host)
	}
	k := c.init()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return ErrClosed
	}
	put(k)
	return nil
}

// SetAll stores hosts, usually those that All returned before a restart. The next lookup of each
// host asks the source, even if Entry.Expires is in the future. While the source fails, the cache
// serves a host at most for StaleFor. This time begins at Entry.Expires, or now if Entry.Expires is
// in the future. SetAll ignores Level, Left and Answered.
//
// SetAll skips a host in these cases:
//
//   - The entry has an Err.
//   - The cache already knows the host.
//   - StaleFor has passed since Entry.Expires.
//   - The host or its endpoint is malformed. SetAll returns the error of Set for the first of these
//     hosts.
func (c *Cache) SetAll(entries iter.Seq2[string, Entry]) error {
	var first error
	for host, entry := range entries {
		if entry.Err != nil {
			continue
		}
		err := c.store(host, entry.Endpoint, func(k *core) { k.restore(host, entry.Endpoint, entry.Expires) })
		if first == nil {
			first = err
		}
	}
	return first
}

// Forget removes what the cache stores for host. "*.example.com" removes the wildcard itself and
// every name that has one label in place of the "*". If a call of the source for such a host is
// running, the cache does not store the answer of this call.
func (c *Cache) Forget(host string) {
	k := c.init()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.forget(host)
}

// Purge forgets every host.
func (c *Cache) Purge() {
	k := c.init()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.purge()
}

// Expire ends the TTL of every endpoint. So the next lookup of each host asks the source. This
// lookup gets the stored endpoint only if the source fails or is slow.
func (c *Cache) Expire() {
	k := c.init()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.expire()
}

// Stats returns the figures of the cache. It does not stop lookups, so a lookup that runs at the
// same time may be in some of the figures and not in others.
func (c *Cache) Stats() Stats { return c.init().stats() }

// Close cancels the calls of the source, and waits until all goroutines of the cache have ended. A
// source that ignores its context delays Close. After Close, lookups get ErrClosed. Close may be
// called more than once, and always returns nil.
func (c *Cache) Close() error {
	c.init().close()
	return nil
}

// Stats are the figures of a Cache since its first use.
type Stats struct {
	// Hits, Misses, Negatives, Stales and Failures count lookups by the Level of their answer.
	// Misses also counts the lookups that ended with an error of the source or of their context.
	Hits, Misses, Negatives, Stales, Failures uint64

	Calls    uint64 // calls of the source that began
	NotFound uint64 // calls that ended with ErrNotFound
	Errors   uint64 // calls that ended with another error, panicked, or could not begin within Timeout
	Dropped  uint64 // calls whose answer was not stored, because the host changed meanwhile

	Evicted         uint64 // known hosts that made room for others
	EvictedAliases  uint64 // aliases that made room for others
	EvictedNegative uint64 // hosts not found or failed that made room for others

	// The figures below describe the present moment.
	Hosts    int // known hosts, without aliases
	Aliases  int // hosts that share the endpoint of another name, such as a wildcard; see MaxHosts
	Negative int // hosts that are stored as not found or failed
	InFlight int // source calls that run or wait for MaxCalls
}
