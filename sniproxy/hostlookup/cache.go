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

// Forever is a TTL that never ends.
const Forever = time.Duration(math.MaxInt64)

// A Cache stores the answers of a Source. See the package documentation for what it promises. The
// first use reads the fields, and they must not change afterwards. A Cache must not be copied. All
// methods are safe for concurrent use.
type Cache struct {
	// Source answers for hosts that the cache does not know. Required for LookupHost.
	//
	// The cache calls Source in its own goroutines, once at a time for one host. The context ends
	// after Timeout or with Close, and has no values of the lookups' contexts.
	Source Lookup

	// MaxHosts limits the known hosts. 0 means 100,000. A further host evicts the least recently
	// used one. A known host takes some 300 bytes and its strings. Each name below a wildcard of
	// the source is a known host.
	MaxHosts int

	// MaxNegative limits the hosts that are stored as not found or failed. 0 means 10,000. They do
	// not count for MaxHosts, so that a flood of invented names evicts only other such names.
	MaxNegative int

	// TTL is how long an endpoint is served without asking the source, if the source does not
	// say. 0 means 30 s; negative means that such endpoints are not stored.
	TTL time.Duration

	// NegativeTTL is how long ErrNotFound is served without asking the source, if the source does
	// not say. 0 means 5 s; negative means that ErrNotFound is not stored.
	NegativeTTL time.Duration

	// ErrorTTL is how long lookups of an unknown host get the last failure of the source. After
	// that the cache asks again. 0 means 1 s; negative means not at all. The source may demand a
	// longer time with an Error, up to 5 minutes.
	ErrorTTL time.Duration

	// Jitter is the largest random share by which a TTL is shortened, up to 1, so that hosts that
	// were stored together do not expire together. 0 means 0.1; negative means none.
	Jitter float64

	// StaleFor is how long after its TTL an endpoint may still be served while the source fails or
	// is slow. So the largest age is TTL + StaleFor. 0 means 24 h; negative means not at all.
	StaleFor time.Duration

	// Recheck is how long a stale endpoint is served after a failure. After that the cache asks the
	// source again. 0 means 30 s (RFC 8767 section 5); negative means that each lookup asks.
	Recheck time.Duration

	// StaleWhileRevalidate is how long after its TTL an endpoint is served at once, while the cache
	// asks the source in the background. 0 means not at all: the first lookup after the TTL waits
	// for the source.
	StaleWhileRevalidate time.Duration

	// StaleAfter is how long a lookup waits for a slow source if there is a stale endpoint. After
	// that time the lookup gets the stale endpoint, and later lookups get it at once until the
	// source answers. 0 means 500 ms; negative means that no lookup waits.
	StaleAfter time.Duration

	// Timeout limits a call of the source. If the call first has to wait because of MaxCalls, that
	// wait has the same limit, counted separately. 0 and negative mean 5 s.
	Timeout time.Duration

	// MaxCalls limits the source calls at one time. 0 means 64.
	MaxCalls int

	// SourceFailed, if not nil, is called after each failed call of the source, even if the lookups
	// got a stale endpoint. ErrNotFound is no failure. Calls may overlap. Close waits for them.
	SourceFailed func(host string, err error)

	// Clock returns the time, and is called at every lookup. nil means the system's clock; while
	// there are hits it is read every 10 ms only, so ages are exact to about 10 ms. Timeout and
	// StaleAfter always use the system's clock.
	Clock func() time.Time

	once sync.Once
	core atomic.Pointer[core]
}

var (
	// ErrClosed is the error of a lookup or a Set after Close.
	ErrClosed = errors.New("hostlookup: cache is closed")

	// ErrBusy means that a call of the source could not begin within Timeout, because MaxCalls
	// others ran all the time.
	ErrBusy = errors.New("hostlookup: too many lookups under way")
)

// init returns the core, and makes it at the first use.
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

// LookupHost returns the endpoint of host and the Level that it comes from. The error is or wraps
// one of these: ErrNotFound, the source's error, ctx's error, ErrBusy, ErrClosed, a *PanicError. A
// host that is empty or longer than 253 bytes is not found.
//
// When ctx ends during a call of the source, only this caller stops waiting, and gets the stale
// endpoint if there is one. A stored answer is returned even if ctx has ended.
func (c *Cache) LookupHost(ctx context.Context, host string) (Answer, error) {
	k := c.init()
	if e, level := k.hit(host); e != nil {
		return Answer{e.Value.ep, level}, e.Value.err()
	}
	r := k.miss(ctx, host)
	return r.Answer, r.err
}

// Peek implements Peeker. It returns ErrWouldWait if LookupHost would ask the source first.
// Otherwise it counts as a lookup.
func (c *Cache) Peek(host string) (Answer, error) {
	e, level := c.init().hit(host)
	if e == nil {
		return Answer{}, ErrWouldWait
	}
	return Answer{e.Value.ep, level}, e.Value.err()
}

// An Entry is what a Cache holds for one host.
type Entry struct {
	// Endpoint is zero if Err is not nil.
	Endpoint Endpoint
	// Err is nil, or wraps ErrNotFound, or is a failure of the source.
	Err error
	// Level is the Level of a lookup at this moment. Miss means that the lookup would ask the
	// source first.
	Level Level
	// Left is how long the entry keeps this Level if nothing replaces it. It is 0 for Miss.
	Left time.Duration
	// Expires is when the TTL of the source's last answer ends or has ended. Later failures of the
	// source do not change it. From then on, an endpoint may be served as stale for
	// Cache.StaleFor.
	Expires time.Time
}

// Entry returns what the cache holds for host. It does not ask the source, does not count as a
// lookup, and does not make the host more recently used.
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

// All returns everything that the cache holds at one moment, in no order: for a status page, or for
// a SetAll after the next start. See Save for a file.
func (c *Cache) All() iter.Seq2[string, Entry] {
	return func(yield func(string, Entry) bool) {
		for _, e := range c.init().snapshot() {
			if !yield(e.host, e.entry) {
				return
			}
		}
	}
}

// Set stores an endpoint as if the source had just returned it. A call of the source that runs for
// that host does not overwrite it. A negative TTL forgets the host. Set returns an error if the
// host is empty or longer than 253 bytes, if ep.Validate fails, or ErrClosed.
func (c *Cache) Set(host string, ep Endpoint) error {
	return c.store(host, ep, func(k *core) { k.set(host, ep) })
}

// store checks a host and its endpoint, then calls put, which stores them, with the lock held.
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

// SetAll stores hosts as stale, normally the hosts that All returned before a restart. The cache
// asks its source before it serves one of them, or while it serves one within StaleWhileRevalidate.
// It serves them at most until StaleFor after Entry.Expires, so a restart makes no answer younger.
// An Expires that is zero or in the future counts as now. Level and Left are ignored.
//
// SetAll leaves out hosts that are too old, that have an Err, or that the cache knows already. A
// malformed host does not stop it; the error is the first one that Set would return.
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

// Forget drops what the cache holds for host. "*.example.com" drops every name with one label in
// place of the "*", and the wildcard itself. Calls of the source that run for these hosts do not
// store their answers.
func (c *Cache) Forget(host string) {
	k := c.init()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.forget(host)
}

// Purge drops everything, like a Forget of each host.
func (c *Cache) Purge() {
	k := c.init()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.purge()
}

// Expire ends all TTLs: the next lookup of each host asks the source, and gets the stale endpoint
// if the source fails.
func (c *Cache) Expire() {
	k := c.init()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.expire()
}

// Stats returns the figures of the cache. Lookups during the call may be in some figures and
// missing in others.
func (c *Cache) Stats() Stats { return c.init().stats() }

// Close cancels the contexts of the running source calls, and returns when all goroutines of the
// cache have ended. A source that ignores its context delays Close. Waiting and later lookups get
// ErrClosed. Close may be called more than once; it returns nil.
func (c *Cache) Close() error {
	c.init().close()
	return nil
}

// Stats are the figures of a Cache since its first use.
type Stats struct {
	// Lookups by the Level of their answer. Misses includes the lookups that ended with an error
	// of the source or of their context.
	Hits, Misses, Negatives, Stales, Failures uint64

	Calls    uint64 // calls of the source that began
	NotFound uint64 // calls that ended with ErrNotFound
	Errors   uint64 // calls that ended with another error, panicked, or could not begin within Timeout
	Dropped  uint64 // calls whose answer was not stored, because the host changed meanwhile

	Evicted         uint64 // known hosts that made room for others
	EvictedNegative uint64 // hosts not found or failed that made room for others

	// Figures of this moment.
	Hosts    int // known hosts
	Negative int // hosts that are stored as not found or failed
	InFlight int // source calls that run or wait for MaxCalls
}
