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

// Forever is a TTL or age without end.
const Forever = time.Duration(math.MaxInt64)

// A Cache remembers what a source answered. See the package comment for what it
// promises. The fields are read at the first use and must not change afterwards;
// a Cache must not be copied. All methods are safe for concurrent use.
type Cache struct {
	// Source is asked for what the cache does not know. Required.
	//
	// It is called in goroutines of the cache, once at a time for one host, with
	// a context that ends after Timeout or with Close and has nothing of the
	// callers' contexts.
	Source Lookup

	// MaxHosts bounds the known hosts. 0 means 100,000. The one that was not
	// asked for longest goes first. A known host takes some 300 bytes and its strings.
	// Each name below a wildcard of the source is one.
	MaxHosts int

	// MaxNegative bounds the hosts remembered as not found or failed, apart from
	// MaxHosts: a flood of made-up names evicts only its like. 0 means 10,000.
	MaxNegative int

	// TTL is for how long an endpoint is believed if the source does not say.
	// 0 means 30 s, negative not to store it.
	TTL time.Duration

	// NegativeTTL is the same for ErrNotFound. 0 means 5 s.
	NegativeTTL time.Duration

	// ErrorTTL is for how long a failure of the source is repeated to those who
	// ask for a host of which nothing is known, before the source is asked again.
	// They get the error, never ErrNotFound. A source may ask for longer (see
	// Error), up to 5 minutes. 0 means 1 s, negative not at all.
	ErrorTTL time.Duration

	// Jitter shortens every TTL by a random part of up to this share, so that
	// hosts learned together do not expire together. 0 means 0.1, negative none.
	// The values are at most 1.
	Jitter float64

	// StaleFor is for how long after its TTL an endpoint may still be served when
	// the source fails: the longest age is TTL + StaleFor. 0 means 24 h, negative
	// not at all.
	StaleFor time.Duration

	// Recheck is for how long a stale endpoint is served after a failure before the
	// source is asked again. 0 means 30 s (RFC 8767 section 5), negative no time.
	Recheck time.Duration

	// StaleWhileRevalidate is for how long after its TTL an endpoint is served at
	// once while the source is asked in the background. 0 means not at all: whoever
	// asks first after the TTL waits for the source.
	StaleWhileRevalidate time.Duration

	// StaleAfter is for how long such a waiter waits before it gets the stale
	// endpoint instead, and others after it get that at once until the source has
	// answered. 0 means 500 ms, negative no wait at all.
	StaleAfter time.Duration

	// Timeout bounds a call of the source, and apart from that the wait for its
	// turn under MaxCalls. 0 and negative mean 5 s.
	Timeout time.Duration

	// MaxCalls bounds the source calls at one time. 0 means 64.
	MaxCalls int

	// SourceFailed, if not nil, is called after each source call that failed, also
	// when a stale endpoint hid that from the callers; not for ErrNotFound. Calls may
	// overlap. It is called in a goroutine that Close waits for.
	SourceFailed func(host string, err error)

	// Clock gives the time; it is called at every lookup. nil means the system's clock,
	// which while there are hits is read for all of them every 10 ms, so that ages
	// are exact to about that. Timeout and StaleAfter always run on the system's clock.
	Clock func() time.Time

	once sync.Once
	core atomic.Pointer[core]
}

var (
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("hostlookup: cache is closed")

	// ErrBusy is returned when a source call got no turn within Timeout, because
	// MaxCalls others were under way.
	ErrBusy = errors.New("hostlookup: too many lookups under way")
)

// init returns the core, made at the first use.
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

// Peek implements Peeker. It counts as a lookup if it has a result. It has none if LookupHost
// would ask the source first.
func (c *Cache) Peek(host string) (Answer, error) {
	e, level := c.init().hit(host)
	if e == nil {
		return Answer{}, ErrWouldWait
	}
	return Answer{e.Value.ep, level}, e.Value.err()
}

// An Entry is what a Cache holds of one host.
type Entry struct {
	// Endpoint is zero if Err is not.
	Endpoint Endpoint
	// Err is nil, or wraps ErrNotFound, or is a failure of the source.
	Err error
	// Level is what LookupHost would say: Miss if it would ask the source first.
	Level Level
	// Left is how long that remains so, 0 for Miss.
	Left time.Duration
	// Expires is when the TTL of what the source said last ends, or has ended:
	// its failures do not change it. An endpoint may stand in for Cache.StaleFor
	// from then on.
	Expires time.Time
}

// Entry returns what is held of host, without asking the source, counting, or
// making host more recently used.
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

// All goes through all that is held, in no order, as it was at one moment. It
// is how a status page lists hosts, and how the known ones are saved for a SetAll
// after the next start.
func (c *Cache) All() iter.Seq2[string, Entry] {
	return func(yield func(string, Entry) bool) {
		for _, e := range c.init().snapshot() {
			if !yield(e.host, e.entry) {
				return
			}
		}
	}
}

// Set stores an endpoint as if the source had just given it. Calls of the source
// under way for that host do not overwrite it. A negative TTL forgets the host. The
// error is that of a host that is empty or longer than 253 bytes, of ep.Validate, or
// ErrClosed.
func (c *Cache) Set(host string, ep Endpoint) error {
	return c.store(host, ep, func(k *core) { k.set(host, ep) })
}

// store checks what do is to store, and calls it with the lock held.
func (c *Cache) store(host string, ep Endpoint, do func(*core)) error {
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
	do(k)
	return nil
}

// SetAll begins with known hosts, such as All gave before a restart. Their TTL is
// over: the source is asked first (with StaleWhileRevalidate, meanwhile), and they stand
// in when it fails, until StaleFor after Entry.Expires, so that a restart makes nothing
// younger. An Expires that is zero or in the future counts as now; Level and Left do not
// count. Hosts that are too old, have an Err, or are known to the cache by now are left
// out.
//
// It goes on after errors and returns the first; they are those of Set.
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

// Forget drops what is held of host, found or not. "*.example.com" drops every
// name of one label before it, and itself. Calls of the source under way do
// not store their answers.
func (c *Cache) Forget(host string) {
	k := c.init()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.forget(host)
}

// Purge drops everything, as Forget does.
func (c *Cache) Purge() {
	k := c.init()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.purge()
}

// Expire ends all TTLs: the source is asked again about each host, and the known
// ones stand in when it fails.
func (c *Cache) Expire() {
	k := c.init()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.expire()
}

// Stats returns the counters. They are read one by one while others count.
func (c *Cache) Stats() Stats { return c.init().stats() }

// Close ends the source calls under way through their contexts, and returns when
// no goroutine of the cache is left; a source that ignores its context delays
// that. The waiting callers and all later ones get ErrClosed. It may be called
// again.
func (c *Cache) Close() error {
	c.init().close()
	return nil
}
