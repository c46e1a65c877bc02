package hostlookup

import (
	"cmp"
	"hash/maphash"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/headgate/headgate/internal/hostname"
)

// A core is the state of a Cache after its first use, with all defaults resolved.
//
// Hits take no lock: they read table, an entry's state, and the clock. All else
// holds mu. It is one lock because a miss costs a call of the source, against which
// it is nothing; and because an answer moves between the two LRUs at one moment.
type core struct {
	cfg   config
	seed  maphash.Seed // attackers choose names, so they must not know the hash
	clock clock
	table atomic.Pointer[table]

	counters counters

	mu       sync.Mutex
	known    *lru // entries with an endpoint
	negative *lru // the others
	flights  map[string]*flight
	running  map[*flight]struct{} // those in flights, and those made obsolete
	tally    tally
	keeping  bool // clock.keepTime runs
	closed   bool

	turns   chan struct{} // holds one for each source call under way
	closing chan struct{}
	wg      sync.WaitGroup // flights and keepTime
}

// golang-lru keeps the order and the capacity. The key is the entry itself: the
// table finds it by name, so that names need not be hashed twice.
type lru = simplelru.LRU[*entry, struct{}]

// config is a Cache's settings without zeros that mean something else. Times that
// mean "not at all" are 0.
type config struct {
	source                              Lookup
	ttl, negativeTTL, errorTTL          time.Duration
	staleFor, recheck, revalidate, wait time.Duration
	timeout                             time.Duration
	jitter                              float64
	maxHosts, maxNegative, maxCalls     int
	failed                              func(host string, err error)
}

// tally counts what happens under mu.
type tally struct {
	calls, notFound, errors, dropped, evicted, evictedNegative uint64
}

func newCore(c *Cache) *core {
	orOff := func(d, zero time.Duration) time.Duration { return max(cmp.Or(d, zero), 0) }
	k := &core{
		cfg: config{
			source:      c.Source,
			ttl:         cmp.Or(c.TTL, 30*time.Second),
			negativeTTL: cmp.Or(c.NegativeTTL, 5*time.Second),
			errorTTL:    orOff(c.ErrorTTL, time.Second),
			staleFor:    orOff(c.StaleFor, 24*time.Hour),
			recheck:     orOff(c.Recheck, 30*time.Second),
			revalidate:  max(c.StaleWhileRevalidate, 0),
			wait:        orOff(c.StaleAfter, 500*time.Millisecond),
			timeout:     cmp.Or(max(c.Timeout, 0), 5*time.Second),
			jitter:      min(max(cmp.Or(c.Jitter, 0.1), 0), 1),
			maxHosts:    cmp.Or(max(c.MaxHosts, 0), 100_000),
			maxNegative: cmp.Or(max(c.MaxNegative, 0), 10_000),
			maxCalls:    cmp.Or(max(c.MaxCalls, 0), 64),
			failed:      c.SourceFailed,
		},
		seed:    maphash.MakeSeed(),
		flights: map[string]*flight{},
		running: map[*flight]struct{}{},
		closing: make(chan struct{}),
	}
	k.turns = make(chan struct{}, k.cfg.maxCalls)
	k.clock.custom = c.Clock
	if k.clock.base = time.Now(); c.Clock != nil {
		k.clock.base = c.Clock()
	}
	k.known = newLRU(k.cfg.maxHosts, k.evicted)
	k.negative = newLRU(k.cfg.maxNegative, k.evicted)
	k.table.Store(newTable(minSlots))
	return k
}

func newLRU(size int, evicted func(*entry, struct{})) *lru {
	l, err := simplelru.NewLRU(size, evicted)
	if err != nil {
		panic(err) // the size is positive
	}
	return l
}

// hash is never 0, which marks a free slot.
func (k *core) hash(host string) uint64 { return maphash.String(k.seed, host) | 1<<63 }

// hit returns the entry of host if it may be served as it is, and counts that. It
// takes no lock; what it does not find is to be looked for with one.
func (k *core) hit(hash uint64, host string) (*entry, Level) {
	e := k.table.Load().find(hash, host)
	if e == nil {
		return nil, Miss
	}
	now, kept := k.clock.coarseNow()
	until, level := unpackState(e.state.Load())
	if now >= until {
		return nil, Miss
	}
	if e.touched.Load() != touchTick(now) {
		k.touch(e, now)
	}
	if !kept {
		k.keepTime()
	}
	k.counters.add(level)
	return e, level
}

// touch moves a hit entry to the front, if that is to be had without waiting.
func (k *core) touch(e *entry, now int64) {
	if !k.mu.TryLock() {
		return // a later hit will do
	}
	e.touched.Store(touchTick(now))
	k.order(e).Get(e) // nothing if it was evicted meanwhile
	k.mu.Unlock()
}

func (k *core) order(e *entry) *lru {
	if e.positive() {
		return k.known
	}
	return k.negative
}

// keepTime starts the coarse clock if it does not run.
func (k *core) keepTime() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keeping || k.closed || k.clock.custom != nil {
		return
	}
	k.keeping = true
	k.wg.Go(func() {
		k.clock.keepTime(k.closing, k.counters.lookups)
		k.mu.Lock()
		k.keeping = false
		k.mu.Unlock()
	})
}

// The methods below want mu held.

// find is exact.
func (k *core) find(hash uint64, host string) *entry { return k.table.Load().find(hash, host) }

// usable returns the endpoint entry that may be served for a host, however old.
func (k *core) usable(hash uint64, host string, now int64) *entry {
	if e := k.find(hash, host); e != nil && e.positive() && now < e.useless {
		return e
	}
	return nil
}

// evicted is what the LRUs call for each entry that leaves them.
func (k *core) evicted(e *entry, _ struct{}) {
	k.table.Load().remove(k.hash(e.hostName()), e)
	e.state.Store(0) // for a reader that holds it
}

func (k *core) add(hash uint64, e *entry, now int64) {
	e.touched.Store(touchTick(now))
	if e.positive() {
		if k.known.Add(e, struct{}{}) {
			k.tally.evicted++
		}
	} else if k.negative.Add(e, struct{}{}) {
		k.tally.evictedNegative++
	}
	t := k.table.Load()
	if bigger := t.insert(hash, e); bigger != t {
		k.table.Store(bigger)
	}
}

func (k *core) remove(e *entry) {
	if e != nil {
		k.order(e).Remove(e)
	}
}

// keep stores an endpoint that came just now.
func (k *core) keep(hash uint64, host string, ep Endpoint, now int64) {
	ttl := cmp.Or(ep.TTL, k.cfg.ttl)
	e := k.find(hash, host)
	if ttl < 0 {
		k.remove(e)
		return
	}
	// The same answer again, which is the rule, takes no memory.
	if e != nil {
		if !e.positive() || e.ep != ep {
			k.remove(e)
			e = nil
		}
	}
	isNew := e == nil
	if isNew {
		e = newEntry(host, ep, nil)
	}
	e.expires = later(now, k.jittered(ttl))
	e.useless = later(e.expires, k.cfg.staleFor)
	e.state.Store(packState(e.expires, Hit))
	if isNew {
		k.add(hash, e, now)
	}
}

// keepError stores that a host was not found, or could not be looked up.
func (k *core) keepError(hash uint64, host string, level Level, err error, ttl time.Duration, now int64) {
	k.remove(k.find(hash, host))
	if ttl <= 0 {
		return
	}
	e := newEntry(host, Endpoint{}, err)
	e.expires = later(now, k.jittered(ttl))
	e.useless = e.expires
	e.state.Store(packState(e.expires, level))
	k.add(hash, e, now)
}

// lean lets the stale endpoint of e be served for d without asking.
func (k *core) lean(e *entry, now int64, d time.Duration) {
	e.state.Store(packState(min(later(now, d), e.useless), Stale))
}

func (k *core) set(host string, ep Endpoint) {
	k.detach(host)
	k.keep(k.hash(host), host, ep, k.clock.now())
}

// restore stores an endpoint whose TTL is over, if that is better than nothing.
func (k *core) restore(host string, ep Endpoint, expires time.Time) {
	now, wall := k.clock.moment()
	over := now
	if !expires.IsZero() {
		over = max(now+int64(min(expires.Sub(wall), 0)), -maxTime)
	}
	useless := later(over, k.cfg.staleFor)
	if now >= useless || cmp.Or(ep.TTL, k.cfg.ttl) < 0 {
		return
	}
	hash := k.hash(host)
	if e := k.find(hash, host); e != nil {
		if now < e.useless {
			return
		}
		k.remove(e)
	}
	e := newEntry(host, ep, nil)
	e.expires, e.useless = over, useless
	e.state.Store(packState(over, Hit))
	k.add(hash, e, now)
}

func (k *core) forget(host string) {
	k.detach(host)
	k.remove(k.find(k.hash(host), host))
	suffix, ok := strings.CutPrefix(host, "*")
	if !ok || !strings.HasPrefix(suffix, ".") {
		return
	}
	covered := func(name string) bool {
		label, ok := strings.CutSuffix(name, suffix)
		return ok && !strings.Contains(label, ".")
	}
	for name := range k.flights {
		if covered(name) {
			k.detach(name)
		}
	}
	for _, l := range []*lru{k.known, k.negative} {
		for _, e := range l.Keys() {
			if covered(e.hostName()) {
				l.Remove(e)
			}
		}
	}
}

func (k *core) purge() {
	clear(k.flights)
	k.table.Store(newTable(minSlots))
	k.known.Purge()
	k.negative.Purge()
}

func (k *core) expire() {
	clear(k.flights)
	now := k.clock.now()
	for _, e := range k.known.Keys() {
		if e.expires > now {
			e.useless = later(now, k.cfg.staleFor)
			e.expires = now
		}
		e.state.Store(packState(e.expires, Hit))
	}
	k.negative.Purge()
}

func (k *core) jittered(ttl time.Duration) time.Duration {
	if k.cfg.jitter == 0 || ttl == Forever {
		return ttl
	}
	return ttl - time.Duration(rand.Float64()*k.cfg.jitter*float64(ttl))
}

// later adds without overflow.
func later(at int64, d time.Duration) int64 {
	if int64(d) > maxTime-at {
		return maxTime
	}
	return at + int64(d)
}

func nameFits(host string) bool { return host != "" && len(host) <= hostname.MaxName }

func (k *core) entry(e *entry, now int64, wall time.Time) (Entry, bool) {
	entry := Entry{Endpoint: e.ep, Err: e.err(), Expires: wall.Add(time.Duration(e.expires - now))}
	until, level := unpackState(e.state.Load())
	if now < until {
		entry.Level, entry.Left = level, Forever
		if until < maxTime {
			entry.Left = time.Duration(until - now)
		}
		return entry, true
	}
	// Past its longest age it is as good as gone.
	return entry, now < e.useless
}

type namedEntry struct {
	host  string
	entry Entry
}

func (k *core) snapshot() []namedEntry {
	k.mu.Lock()
	defer k.mu.Unlock()
	now, wall := k.clock.moment()
	all := make([]namedEntry, 0, k.known.Len()+k.negative.Len())
	for _, l := range []*lru{k.known, k.negative} {
		for _, e := range l.Keys() {
			host := e.hostName()
			if entry, ok := k.entry(e, now, wall); ok {
				all = append(all, namedEntry{host, entry})
			}
		}
	}
	return all
}

func (k *core) stats() Stats {
	k.mu.Lock()
	defer k.mu.Unlock()
	return Stats{
		Hits:      k.counters.sum(Hit),
		Misses:    k.counters.sum(Miss),
		Negatives: k.counters.sum(Negative),
		Stales:    k.counters.sum(Stale),
		Failures:  k.counters.sum(Failed),

		Calls:           k.tally.calls,
		NotFound:        k.tally.notFound,
		Errors:          k.tally.errors,
		Dropped:         k.tally.dropped,
		Evicted:         k.tally.evicted,
		EvictedNegative: k.tally.evictedNegative,

		Hosts:    k.known.Len(),
		Negative: k.negative.Len(),
		InFlight: len(k.running),
	}
}

func (k *core) close() {
	k.mu.Lock()
	if !k.closed {
		k.closed = true
		close(k.closing)
		k.purge()
		for f := range k.running {
			f.cancel()
		}
	}
	k.mu.Unlock()
	k.wg.Wait()
}
