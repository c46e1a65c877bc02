package hostlookup

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/headgate/headgate/internal/hostname"
	"github.com/headgate/headgate/sniproxy/hostlookup/internal/nametable"
	"github.com/headgate/headgate/sniproxy/hostlookup/internal/striped"
)

// A core is the state of a Cache after its first use. A hit, a lookup that finds a usable entry in
// the table, uses no lock. All other work needs the lock mu.
//
// The entries are in three LRUs: hosts with an endpoint, aliases (see isAlias), and hosts without
// an endpoint. Strangers can invent any number of aliases and of hosts without an endpoint, which
// must not displace the hosts with an endpoint.
type core struct {
	cfg     config
	clock   clock
	table   nametable.Table[entry] // all entries; methods other than Get and Find need mu
	lookups striped.Counters       // the number of lookups by Level

	mu       sync.Mutex
	known    *lru             // entries with an endpoint, other than aliases
	aliases  *lru             // entries for which isAlias returns true
	negative *lru             // entries without an endpoint
	calls    map[string]*call // the running calls whose answers the core will store, by host
	running  map[*call]struct{}
	counted  Stats // the figures of events that the core counts under mu
	ticking  bool  // the goroutine of clock.run runs
	closed   bool

	semaphore chan struct{}  // one element for each running call of the source
	closing   chan struct{}  // the method close closes it
	wg        sync.WaitGroup // counts the goroutines of calls and of clock.run
}

// An lru holds items in the order of their last use, up to its capacity. Its keys are the items
// themselves; core.table finds an item by its name.
type lru = simplelru.LRU[*item, struct{}]

// An item is an entry together with the name of its host.
type item = nametable.Item[entry]

// An entry is what a cache stores for one host. The fields "ep" and "failure" never change while
// the entry is in the table. Keep the entry small: with its name (see item), it has 128 bytes, two
// cache lines that processors load together.
type entry struct {
	state   atomic.Uint64 // see packState
	touched atomic.Uint32 // see touchTick
	// answered is the number of the second (see toSecond) in which the source last answered; 0
	// means unknown. core.mu guards it. The field fills a gap in the memory before ep.
	answered uint32
	ep       Endpoint // zero if failure is not nil
	failure  *error   // ErrNotFound or an error of the source; nil if the entry has an endpoint
	expires  int64    // guarded by core.mu: the end of the TTL
}

func newItem(host string, ep Endpoint) *item {
	e := nametable.NewItem[entry](host)
	e.Value.ep = ep
	if ep.Host == host {
		e.Value.ep.Host = e.Name()
	}
	return e
}

// err returns the error for lookups of this entry. It is nil if the entry has an endpoint.
func (e *entry) err() error {
	if e.failure == nil {
		return nil
	}
	return *e.failure
}

// packState packs two values into one word: the level of an entry, and the time on the core's clock
// until which lookups get this level. So a reader without the lock never combines an old level with
// a new time.
func packState(until int64, level Level) uint64 {
	return uint64(min(max(until, 0), maxTime))<<3 | uint64(level)
}

func unpackState(s uint64) (until int64, level Level) { return int64(s >> 3), Level(s & 7) }

// maxTime is a time that is never reached: 36 years after the cache's first use.
const maxTime = 1<<60 - 1

// touchTick divides the time into slices of 2^30 ns, about a second, and returns the number of the
// slice that contains the time in the argument "now". The core moves an entry to the front of its
// LRU at most once in each slice.
func touchTick(now int64) uint32 { return uint32(now >> 30) }

// toSecond returns the number of the second that contains the time in the argument "now". The first
// second of the clock, which begins at 1 ns, has the number 1.
func toSecond(now int64) uint32 { return uint32((now-1)/int64(time.Second)) + 1 }

// The function "later" returns the time at+d, but at most maxTime.
func later(at int64, d time.Duration) int64 {
	if int64(d) > maxTime-at {
		return maxTime
	}
	return at + int64(d)
}

// config has the settings of a Cache, with defaults in place of 0. A negative time in the Cache is
// 0 here, which switches its rule off.
type config struct {
	source                                    Lookup
	ttl, negativeTTL, errorTTL                time.Duration
	staleFor, recheck, revalidate, staleAfter time.Duration
	timeout                                   time.Duration
	jitter                                    float64
	maxHosts, maxNegative, maxCalls           int
	sourceFailed                              func(host string, err error)
}

func newCore(c *Cache) *core {
	k := &core{
		cfg: config{
			source:       c.Source,
			ttl:          cmp.Or(c.TTL, 30*time.Second),
			negativeTTL:  cmp.Or(c.NegativeTTL, 5*time.Second),
			errorTTL:     max(cmp.Or(c.ErrorTTL, time.Second), 0),
			staleFor:     max(cmp.Or(c.StaleFor, 24*time.Hour), 0),
			recheck:      max(cmp.Or(c.Recheck, 30*time.Second), 0),
			revalidate:   max(c.StaleWhileRevalidate, 0),
			staleAfter:   max(cmp.Or(c.StaleAfter, 500*time.Millisecond), 0),
			timeout:      cmp.Or(max(c.Timeout, 0), 5*time.Second),
			jitter:       min(max(cmp.Or(c.Jitter, 0.1), 0), 1),
			maxHosts:     cmp.Or(max(c.MaxHosts, 0), 100_000),
			maxNegative:  cmp.Or(max(c.MaxNegative, 0), 10_000),
			maxCalls:     cmp.Or(max(c.MaxCalls, 0), 64),
			sourceFailed: c.SourceFailed,
		},
		clock:   clock{base: time.Now(), custom: c.Clock},
		calls:   map[string]*call{},
		running: map[*call]struct{}{},
		closing: make(chan struct{}),
	}
	k.table.Init()
	if c.Clock != nil {
		k.clock.base = c.Clock()
	}
	k.semaphore = make(chan struct{}, k.cfg.maxCalls)
	k.known = newLRU(k.cfg.maxHosts, k.evicted)
	k.aliases = newLRU(k.cfg.maxHosts, k.evicted)
	k.negative = newLRU(k.cfg.maxNegative, k.evicted)
	return k
}

func newLRU(size int, evicted func(*item, struct{})) *lru {
	l, err := simplelru.NewLRU(size, evicted)
	if err != nil {
		panic(err) // the size is positive
	}
	return l
}

// hit returns the entry of host and its Level if the lookup needs no call of the source; the caller
// then counts the lookup. Otherwise hit returns nil, and the caller calls the method "miss".
//
// hit holds no lock, so it may overlook an entry while another goroutine changes the table. The
// method "miss" then finds the entry.
func (k *core) hit(host string) (*item, Level) {
	e := k.table.Find(k.table.Hash(host), host)
	if e == nil {
		return nil, Miss
	}
	now := k.clock.coarse.Load()
	ticking := now != 0
	if !ticking {
		now = k.clock.now()
	}
	until, level := unpackState(e.Value.state.Load())
	if now >= until {
		return nil, Miss
	}
	if e.Value.touched.Load() != touchTick(now) {
		k.touch(e, now)
	}
	if !ticking {
		k.startClock()
	}
	return e, level
}

// touch makes e the most recently used entry of its LRU list. If another goroutine holds the lock
// of the core, touch does nothing, because a later lookup calls it again.
func (k *core) touch(e *item, now int64) {
	if !k.mu.TryLock() {
		return
	}
	defer k.mu.Unlock()
	e.Value.touched.Store(touchTick(now))
	k.order(e).Get(e) // does nothing if the LRU has dropped e after hit found it
}

func (k *core) order(e *item) *lru {
	switch {
	case e.Value.failure != nil:
		return k.negative
	case isAlias(e):
		return k.aliases
	}
	return k.known
}

func (k *core) lrus() []*lru { return []*lru{k.known, k.aliases, k.negative} }

// isAlias reports whether the Host of the endpoint differs from the name of e. Usually this Host is
// a wildcard that covers the name. Strangers can invent any number of names below a wildcard, so
// the cache keeps aliases in an LRU of their own.
func isAlias(e *item) bool { return e.Value.ep.Host != "" && e.Value.ep.Host != e.Name() }

// wildcardOf returns the wildcard that covers host: "*.example.com" for "a.example.com". If host
// has no dot, wildcardOf returns "".
func wildcardOf(host string) string {
	_, parent, ok := strings.Cut(host, ".")
	if !ok {
		return ""
	}
	return "*." + parent
}

// The caller of each method below must hold mu.

// usable returns the entry of host if it has an endpoint that may be served, fresh or stale.
// Otherwise it returns nil.
func (k *core) usable(host string, now int64) *item {
	if e := k.table.Get(host); e != nil && e.Value.failure == nil && now < k.staleUntil(e) {
		return e
	}
	return nil
}

// staleUntil returns the moment after which e is not served any more, not even as stale.
func (k *core) staleUntil(e *item) int64 {
	if e.Value.failure != nil {
		return e.Value.expires
	}
	return later(e.Value.expires, k.cfg.staleFor)
}

// inherit stores for host the endpoint of the wildcard that covers host, and returns the new entry.
// If the cache does not know this wildcard, inherit returns nil.
//
// The source may have another endpoint for host, so call inherit only after the source has failed
// to answer. The TTL of the new entry is already over, so the next lookup asks the source again.
func (k *core) inherit(host string, now int64) *item {
	w := k.usable(wildcardOf(host), now)
	if w == nil {
		return nil
	}
	k.removeHost(host)
	e := newItem(host, w.Value.ep)
	e.Value.ep.Host = w.Name()
	e.Value.ep.TTL = Revalidate
	e.Value.expires = min(w.Value.expires, now)
	k.add(e, now)
	return e
}

// evicted removes an entry from the table of the cache. The LRU lists call it for each entry that
// they drop because they are full.
func (k *core) evicted(e *item, _ struct{}) {
	k.table.Remove(e)
	e.Value.state.Store(0) // so that a lookup that has found e already does not use it
}

// add inserts the entry e into the table, and into the LRU that k.order returns for e: the LRU of
// known hosts, of aliases, or of hosts without an endpoint. The host of e must not have an entry
// yet.
func (k *core) add(e *item, now int64) {
	e.Value.touched.Store(touchTick(now))
	l := k.order(e)
	if l.Add(e, struct{}{}) {
		switch l {
		case k.known:
			k.counted.Evicted++
		case k.aliases:
			k.counted.EvictedAliases++
		case k.negative:
			k.counted.EvictedNegative++
		}
	}
	k.table.Insert(e)
}

func (k *core) remove(e *item) { k.order(e).Remove(e) }

func (k *core) removeHost(host string) {
	if e := k.table.Get(host); e != nil {
		k.remove(e)
	}
}

// The method "keep" stores an endpoint that the source has just returned for host. If the Host of
// the endpoint is the wildcard that covers host, keep also stores the wildcard.
func (k *core) keep(host string, ep Endpoint, now int64) {
	if hostname.Covers(ep.Host, host) {
		k.keep(ep.Host, ep, now)
	}
	ttl := cmp.Or(ep.TTL, k.cfg.ttl)
	e := k.table.Get(host)
	if e != nil && (ttl < 0 || e.Value.failure != nil || e.Value.ep != ep) {
		k.remove(e)
		e = nil
	}
	if ttl < 0 {
		return
	}
	isNew := e == nil // false if the source has returned the same answer again, which needs no new entry
	if isNew {
		e = newItem(host, ep)
	} else {
		k.order(e).Get(e) // this lookup was no hit, so the method hit has not moved e to the front of the LRU
	}
	e.Value.answered = toSecond(now)
	if ttl == Revalidate {
		e.Value.expires = now
		// With the TTL Revalidate, each lookup asks the source, so the method "hit" must never
		// return this entry. Store 0 as the time until which hit may return the entry. The present
		// time would be too late: hit uses the coarse clock, which may be up to clockTick behind.
		e.Value.state.Store(packState(0, Hit))
	} else {
		e.Value.expires = later(now, k.jittered(ttl))
		e.Value.state.Store(packState(e.Value.expires, Hit))
	}
	if isNew {
		k.add(e, now)
	}
}

// keepError stores err, which is ErrNotFound or a failure of the source. For the time ttl, lookups
// of host get err.
func (k *core) keepError(host string, level Level, err error, ttl time.Duration, now int64) {
	k.removeHost(host)
	if ttl <= Revalidate {
		return
	}
	e := newItem(host, Endpoint{})
	e.Value.failure, e.Value.answered = &err, toSecond(now)
	e.Value.expires = later(now, k.jittered(ttl))
	e.Value.state.Store(packState(e.Value.expires, level))
	k.add(e, now)
}

// extendStale makes lookups get the stale endpoint of e for the duration d from now on, without a
// call of the source. This time ends at staleUntil(e) at the latest, when the endpoint is too old
// to be served.
func (k *core) extendStale(e *item, now int64, d time.Duration) {
	e.Value.state.Store(packState(min(later(now, d), k.staleUntil(e)), Stale))
}

func (k *core) set(host string, ep Endpoint) {
	k.detach(host)
	k.keep(host, ep, k.clock.now())
}

// restore stores an endpoint of the cache file. Its TTL ends at the time "expires", but at the
// latest now, so the next lookup asks the source. If the endpoint is too old to be served, or if
// the cache already has a usable entry for the host, restore does nothing.
func (k *core) restore(host string, ep Endpoint, expires time.Time) {
	now, wall := k.clock.nowAndWall()
	expired := now
	if !expires.IsZero() {
		expired = max(now+int64(min(expires.Sub(wall), 0)), -maxTime)
	}
	if now >= later(expired, k.cfg.staleFor) || cmp.Or(ep.TTL, k.cfg.ttl) < 0 {
		return
	}
	if e := k.table.Get(host); e != nil {
		if now < k.staleUntil(e) {
			return
		}
		k.remove(e)
	}
	e := newItem(host, ep)
	e.Value.expires = expired
	e.Value.state.Store(packState(expired, Hit))
	k.add(e, now)
}

// forget removes the entry of a host. For a wildcard, it also removes the entries of all names that
// the wildcard covers.
func (k *core) forget(host string) {
	k.detach(host)
	k.removeHost(host)
	if !strings.HasPrefix(host, "*.") {
		return
	}
	for name := range k.calls {
		if hostname.Covers(host, name) {
			k.detach(name)
		}
	}
	for _, l := range k.lrus() {
		for _, e := range l.Keys() {
			if hostname.Covers(host, e.Name()) {
				l.Remove(e)
			}
		}
	}
}

// detach makes sure that a running call for host does not store its answer. The core calls it when,
// for example, Set or Forget changes the stored answer, because the answer of the call may be
// older. Lookups that wait for the call still get its answer; a later lookup starts another call.
func (k *core) detach(host string) { delete(k.calls, host) }

func (k *core) purge() {
	clear(k.calls)
	k.table.Clear()
	for _, l := range k.lrus() {
		l.Purge()
	}
}

func (k *core) expire() {
	clear(k.calls)
	now := k.clock.now()
	for _, e := range append(k.known.Keys(), k.aliases.Keys()...) {
		e.Value.expires = min(e.Value.expires, now)
		e.Value.state.Store(packState(0, Hit)) // has its effect at once, although the coarse clock may be behind
	}
	k.negative.Purge()
}

func (k *core) jittered(ttl time.Duration) time.Duration {
	if k.cfg.jitter == 0 || ttl == Forever {
		return ttl
	}
	return ttl - time.Duration(rand.Float64()*k.cfg.jitter*float64(ttl))
}

// isHost reports whether host has the length of a host name, 1 to 253 bytes. For every other name
// the cache returns ErrNotFound without a call of the source.
func isHost(host string) bool { return host != "" && len(host) <= hostname.MaxName }

// entry returns e as an Entry. It returns false if e is so old that the cache may not serve it any
// more.
func (k *core) entry(e *item, now int64, wall time.Time) (Entry, bool) {
	entry := Entry{Endpoint: e.Value.ep, Err: e.Value.err(), Expires: wall.Add(time.Duration(e.Value.expires - now))}
	if a := e.Value.answered; a != 0 {
		entry.Answered = wall.Add(time.Duration(a-1)*time.Second - time.Duration(now-1))
	}
	until, level := unpackState(e.Value.state.Load())
	if now >= until {
		return entry, now < k.staleUntil(e)
	}
	entry.Level, entry.Left = level, Forever
	if until < maxTime {
		entry.Left = time.Duration(until - now)
	}
	return entry, true
}

type namedEntry struct {
	host  string
	entry Entry
}

// The methods below lock mu themselves.

func (k *core) stats() Stats {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.counted
	s.Hits = k.lookups.Sum(uint8(Hit))
	s.Misses = k.lookups.Sum(uint8(Miss))
	s.Negatives = k.lookups.Sum(uint8(Negative))
	s.Stales = k.lookups.Sum(uint8(Stale))
	s.Failures = k.lookups.Sum(uint8(Failed))
	s.Hosts, s.Aliases, s.Negative = k.known.Len(), k.aliases.Len(), k.negative.Len()
	s.InFlight = len(k.running)
	return s
}

// countLookups returns the number of all lookups.
func (k *core) countLookups() (n uint64) {
	for level := range Failed + 1 {
		n += k.lookups.Sum(uint8(level))
	}
	return n
}

func (k *core) snapshot() []namedEntry {
	k.mu.Lock()
	defer k.mu.Unlock()
	now, wall := k.clock.nowAndWall()
	var all []namedEntry
	for _, l := range k.lrus() {
		all = slices.Grow(all, l.Len())
		for _, e := range l.Keys() {
			if entry, ok := k.entry(e, now, wall); ok {
				all = append(all, namedEntry{e.Name(), entry})
			}
		}
	}
	return all
}

func (k *core) close() {
	k.mu.Lock()
	if !k.closed {
		k.closed = true
		close(k.closing)
		k.purge()
		for c := range k.running {
			c.cancel()
		}
	}
	k.mu.Unlock()
	k.wg.Wait()
}
