// Package fairshare decides which connection makes room when a server has no room for another one.
//
// A Table holds the open connections of a server by source: an IPv4 address or an IPv6 /64. A
// connection waits until its client has sent a complete request, and between two requests. It
// serves while the server answers or relays its request.
//
// When the Table is full, a new connection replaces the oldest waiting connection of the heaviest
// source. The weight of a source is the number of its serving connections plus 8 times the number
// of its waiting connections.
//
// If the heaviest source has no waiting connection, but more connections than its share, a new
// connection of another source replaces a serving connection of the heaviest source. This is the
// connection on which no bytes have passed for the longest time. The share is the number of all
// connections divided by the number of sources. Here all exempt connections (see [Table.Add])
// together count as one source.
//
// The Table refuses a new connection of the heaviest source if this source has no waiting
// connection. So a source with few connections always gets one more, whatever other sources hold.
//
// All operations take O(log n) time for n sources. A source with connections needs about 150 bytes
// of memory.
//
// The package has no clock, socket or goroutine. The server closes the connections that the Table
// returns.
package fairshare

import (
	"container/heap"
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"time"
)

// Key identifies a source.
type Key uint64

// KeyOf returns the Key of the source of ip: the address itself for IPv4, and its /64 for IPv6,
// because a site can use every address of at least a /64 (RFC 6177). All invalid addresses belong
// to one source.
func KeyOf(ip netip.Addr) Key {
	ip = ip.Unmap()
	switch {
	case ip.Is4():
		b := ip.As4()
		return 0xffff<<32 | Key(binary.BigEndian.Uint32(b[:])) // no IPv6 network has this prefix
	case ip.Is6():
		b := ip.As16()
		return Key(binary.BigEndian.Uint64(b[:8]))
	}
	return 0
}

// Member is the interface that the connections in a Table implement. T must be a pointer type.
type Member[T Member[T]] interface {
	comparable
	// ShareEntry returns the field of the connection in which the Table keeps its links.
	ShareEntry() *Entry[T]
	// Idle returns for how long no byte of the connection has moved. The Table holds its lock while
	// it calls Idle, so Idle must not call a method of the Table.
	Idle() time.Duration
}

// Entry is the part of a connection that belongs to the Table. The zero value is the Entry of a
// connection that is in no Table. The lock of the Table guards the fields of the Entry.
type Entry[T Member[T]] struct {
	prev, next T
	source     *source[T]
	since      uint32 // orders waiting connections of different sources; see Table.clock
	units      uint8  // see Grow
	state      state
}

// state says in which list of the Table a connection is.
type state uint8

const (
	gone    state = iota // in no list
	waiting              // in a list of its source
	serving              // in a list of its source
	evicted              // in Table.evicted
)

// The errors of a Table.
var (
	// ErrFull means that the Table refuses the new connection: the Table is full, and by the rules
	// of the package no open connection has to make room.
	ErrFull = errors.New("fairshare: full")
	// ErrSourceFull means that the source of the new connection (see KeyOf) already has
	// MaxPerSource connections.
	ErrSourceFull = errors.New("fairshare: the source has too many connections")
	// ErrEvicted means that the Table has chosen this connection to make room for another one.
	ErrEvicted = errors.New("fairshare: evicted")
)

// Table holds the open connections of a server. Set its fields before the first call. Several
// goroutines may call the methods at the same time.
type Table[T Member[T]] struct {
	// Max is the largest number of connections. 0 means no bound.
	Max int
	// MaxFiles bounds the number of file descriptors of all connections together. A connection in
	// the state "waiting" needs one descriptor, and a connection in the state "serving" needs two.
	// 0 means no bound.
	MaxFiles int
	// MaxWaiting bounds the number of waiting connections. Grow can make one of them count as
	// several. 0 means no bound.
	MaxWaiting int
	// MaxPerSource is the largest number of connections of one source (see KeyOf). 0 means no
	// bound.
	MaxPerSource int

	mu      sync.Mutex
	sources map[Key]*source[T]
	exempt  source[T] // holds the connections that count for no source
	unused  *source[T]
	// byWeight ranks the sources that have connections by their weight, and byWaiting by the number
	// of their waiting connections. The source in the field "exempt" is in neither ranking.
	byWeight, byWaiting ranking[T]
	clock               uint32 // counts how often a connection began to wait
	waiting, serving    int
	units               int     // sum of the units of all waiting connections
	evicted             list[T] // connections that the server is closing; they need no room any more
}

// source holds the connections of one source.
type source[T Member[T]] struct {
	key   Key
	lists [3]list[T] // by state; the list of gone is empty
	units int        // sum of the units of its waiting connections
	index [2]int     // index of the source in Table.byWeight, and in Table.byWaiting
	next  *source[T] // the next source in the list Table.unused
}

func (s *source[T]) conns() int { return s.lists[waiting].n + s.lists[serving].n }

// waitingWeight is the weight of a waiting connection; a serving connection has the weight 1. For
// example, a source with 10 waiting connections has the weight 80, and an office with 60 serving
// connections has the weight 60. So the source loses a connection before the office. A source with
// only 2 waiting connections has the weight 16, so the office loses a connection first.
const waitingWeight = 8

func (s *source[T]) weight() int { return s.lists[serving].n + waitingWeight*s.units }

// SetMaxFiles changes MaxFiles. It evicts no connection: the next calls of Add and Serve use the new
// value.
func (t *Table[T]) SetMaxFiles(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.MaxFiles = n
}

// Add adds m, a waiting connection of the source with this key. If Add returns a victim, a
// connection that it has evicted for m, the caller must close it. The error is nil, ErrFull or
// ErrSourceFull.
//
// If exempt is true, m belongs to no source: MaxPerSource does not apply to m, and the Table evicts
// m only if it can evict no other connection.
func (t *Table[T]) Add(m T, key Key, exempt bool) (victim T, err error) {
	return t.add(m, key, exempt, waiting)
}

// AddServing does the same as Add followed by Serve, but no goroutine can evict the connection in
// between. Do not use it with a Table that has MaxFiles.
func (t *Table[T]) AddServing(m T, key Key, exempt bool) (victim T, err error) {
	return t.add(m, key, exempt, serving)
}

func (t *Table[T]) add(m T, key Key, exempt bool, to state) (victim T, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var none T
	src := t.sources[key]
	if t.sourceFull(src, exempt) {
		return none, ErrSourceFull
	}
	if t.Max > 0 && t.waiting+t.serving >= t.Max || t.MaxFiles > 0 && t.files() >= t.MaxFiles {
		if victim = t.victimFor(src, exempt); victim == none {
			return none, ErrFull
		}
	}
	if to == waiting && t.MaxWaiting > 0 && t.units >= t.MaxWaiting &&
		(victim == none || victim.ShareEntry().state != waiting) {
		// Close the oldest waiting connection of the source that has the most waiting connections.
		// The end of a waiting connection makes room under every limit.
		victim = t.mostWaiting()
	}
	t.evict(victim)
	e := m.ShareEntry()
	e.source, e.units = t.sourceOf(key, exempt), 1
	t.begin(m, to)
	return victim, nil
}

// sourceFull reports whether a source has MaxPerSource connections. src may be nil.
func (t *Table[T]) sourceFull(src *source[T], exempt bool) bool {
	return !exempt && t.MaxPerSource > 0 && src != nil && src.conns() >= t.MaxPerSource
}

func (t *Table[T]) files() int { return t.waiting + 2*t.serving }

// Serve makes a waiting connection a serving one. Call Serve when the client has sent a complete
// request. A serving connection needs one more descriptor. If another connection must give up its
// descriptors for this, Serve returns that connection as victim, and the caller must close it.
//
// Serve returns ErrEvicted if the Table has already evicted m. It returns ErrFull if there are not
// enough descriptors. The caller should then answer that the server is busy.
func (t *Table[T]) Serve(m T) (victim T, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var none T
	e := m.ShareEntry()
	switch e.state {
	case evicted:
		return none, ErrEvicted
	case waiting:
		t.end(m)
		t.begin(m, serving)
		if t.MaxFiles > 0 && t.files() > t.MaxFiles {
			victim = t.victimFor(e.source, e.source == &t.exempt)
			if victim == none || victim == m {
				return none, ErrFull
			}
			t.evict(victim)
		}
	}
	return victim, nil
}

// Wait makes a serving connection a waiting one. A connection that was evicted stays as it is.
func (t *Table[T]) Wait(m T) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := m.ShareEntry(); e.state == serving {
		t.end(m)
		e.units = 1
		t.begin(m, waiting)
	}
}

// Grow makes the waiting connection m count as several connections (units) for MaxWaiting, because
// m uses more memory than others. If m already counts as more units, Grow changes nothing. If the
// waiting connections now exceed MaxWaiting, Grow evicts one of them, perhaps m itself, and the
// caller must close this victim.
func (t *Table[T]) Grow(m T, units uint8) (victim T) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := m.ShareEntry()
	if e.state != waiting || units <= e.units {
		return victim
	}
	more := int(units - e.units)
	e.units = units
	e.source.units += more
	t.units += more
	t.rank(e.source)
	if t.MaxWaiting > 0 && t.units > t.MaxWaiting {
		victim = t.mostWaiting()
		t.evict(victim)
	}
	return victim
}

// Move makes a connection count for the source with this key, and no longer for its present source.
// If the new source already has MaxPerSource connections, Move returns ErrSourceFull, and the
// caller must close the connection. Until the caller has done so, the connection counts for the new
// source.
func (t *Table[T]) Move(m T, key Key, exempt bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := m.ShareEntry()
	if e.state != waiting && e.state != serving {
		return nil
	}
	src, old, state := t.sourceOf(key, exempt), e.source, e.state
	if src == old {
		return nil
	}
	full := t.sourceFull(src, exempt)
	t.end(m)
	t.leave(old)
	e.source = src
	t.begin(m, state)
	if full {
		return ErrSourceFull
	}
	return nil
}

// Remove removes a connection that has ended. If the connection is not in the Table, Remove does
// nothing.
func (t *Table[T]) Remove(m T) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e := m.ShareEntry(); e.state {
	case waiting, serving:
		t.end(m)
		t.leave(e.source)
		e.state, e.source = gone, nil
	case evicted:
		t.evicted.remove(m)
		e.state = gone
	}
}

// Shed evicts an eighth of the waiting connections after the process has run out of descriptors or
// memory; the caller must close them. It evicts one after another, each time the oldest waiting
// connection of the source that has the most waiting connections at that moment.
//
// If no connection waits, and the source with the most connections has more than its share (see the
// package comment), Shed evicts the connection of this source that has been idle for the longest
// time.
func (t *Table[T]) Shed() (victims []T) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var none T
	for n := (t.waiting + 7) / 8; n > 0; n-- {
		m := t.mostWaiting()
		t.evict(m)
		victims = append(victims, m)
	}
	if victims == nil {
		if m := t.victimFor(nil, true); m != none {
			t.evict(m)
			victims = append(victims, m)
		}
	}
	return victims
}

// MakeRoom evicts a connection although the Table is below its limits, because the process has no
// free descriptor for a new connection of the source with this key. It chooses the victim as Add
// does in a full Table. The caller must close the victim, and then call Add. After an error,
// ErrFull or ErrSourceFull, the caller must close the new connection.
func (t *Table[T]) MakeRoom(key Key, exempt bool) (victim T, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var none T
	src := t.sources[key]
	if t.sourceFull(src, exempt) {
		return none, ErrSourceFull
	}
	if victim = t.victimFor(src, exempt); victim == none {
		return none, ErrFull
	}
	t.evict(victim)
	return victim, nil
}

// Evicted reports whether a connection was evicted. After Remove, the result is false.
func (t *Table[T]) Evicted(m T) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return m.ShareEntry().state == evicted
}

// Counts returns the number of all connections, and the number of waiting ones. An evicted
// connection counts until Remove.
func (t *Table[T]) Counts() (all, waits int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.waiting + t.serving + t.evicted.n, t.waiting
}

// All returns all connections, in no order.
func (t *Table[T]) All() []T {
	t.mu.Lock()
	defer t.mu.Unlock()
	var none T
	all := make([]T, 0, t.waiting+t.serving+t.evicted.n)
	collect := func(l list[T]) {
		for m := l.first; m != none; m = m.ShareEntry().next {
			all = append(all, m)
		}
	}
	collect(t.evicted)
	for _, s := range append(t.byWeight.sources[:len(t.byWeight.sources):len(t.byWeight.sources)], &t.exempt) {
		collect(s.lists[waiting])
		collect(s.lists[serving])
	}
	return all
}

// victimFor returns the connection that must make room for a new connection of src, or nil if the
// Table must refuse the new connection. src is nil if the source has no connection yet, or if the
// new connection is exempt (it belongs to no source, see Add).
func (t *Table[T]) victimFor(src *source[T], exempt bool) T {
	var none T
	top, sources := t.byWeight.top(), len(t.byWeight.sources)
	if src == nil && !exempt {
		sources++
	}
	if exempt || t.exempt.conns() > 0 {
		sources++
	}
	share := max((t.waiting+t.serving)/max(sources, 1), 1)
	if src != nil && !exempt && src.conns() >= share && src.weight()+waitingWeight >= top.weight() {
		top = src // with the new connection, src would hold the most
	}
	if top != nil {
		if m := top.lists[waiting].first; m != none {
			if top == src && t.evicted.n > maxClosing {
				return none
			}
			return m
		}
		if (top != src || exempt) && top.lists[serving].n > share {
			return t.longestIdle(top)
		}
	}
	return t.exempt.lists[waiting].first
}

// maxClosing bounds the evicted connections that the server has not closed yet. Their descriptors
// are still in use. While there are more than maxClosing such connections, the Table refuses each
// new connection of the heaviest source (see the package comment) instead of evicting an old
// connection of this source.
const maxClosing = 16

// mostWaiting returns the oldest waiting connection of the source that has the most waiting
// connections. It returns nil if no connection waits.
func (t *Table[T]) mostWaiting() T {
	var none T
	if top := t.byWaiting.top(); top != nil && top.lists[waiting].first != none {
		return top.lists[waiting].first
	}
	return t.exempt.lists[waiting].first
}

// maxCompared is how many connections longestIdle compares.
const maxCompared = 16

// longestIdle returns that serving connection of the source s which has been idle for the longest
// time. If the source has more than maxCompared (16) serving connections, longestIdle compares only
// 16 of them. The next call compares the next 16.
func (t *Table[T]) longestIdle(s *source[T]) (longest T) {
	var none T
	var longestTime time.Duration
	l := &s.lists[serving]
	for range min(l.n, maxCompared) {
		m := l.first
		l.remove(m)
		l.add(m)
		if idle := m.Idle(); longest == none || idle > longestTime {
			longest, longestTime = m, idle
		}
	}
	return longest
}

// evict moves a connection to the list of evicted connections. If m is nil, evict does nothing.
func (t *Table[T]) evict(m T) {
	var none T
	if m == none {
		return
	}
	e := m.ShareEntry()
	t.end(m)
	t.leave(e.source)
	e.state, e.source = evicted, nil
	t.evicted.add(m)
}

// begin changes the state of the connection m to waiting or serving, as the argument "to" says, and
// adds m to the list of its source for this state.
func (t *Table[T]) begin(m T, to state) {
	e := m.ShareEntry()
	e.state = to
	if to == waiting {
		t.clock++
		e.since = t.clock
		t.waiting++
		t.units += int(e.units)
		e.source.units += int(e.units)
	} else {
		t.serving++
	}
	e.source.lists[to].add(m)
	t.rank(e.source)
}

// end removes a connection from the list that its source has for the present state of the
// connection. If the connection stays at its source in another state, the caller then calls the
// method "begin". If the connection has ended or moves to another source, the caller calls the
// method "leave" for the old source.
func (t *Table[T]) end(m T) {
	e := m.ShareEntry()
	if e.state == waiting {
		t.waiting--
		t.units -= int(e.units)
		e.source.units -= int(e.units)
	} else {
		t.serving--
	}
	e.source.lists[e.state].remove(m)
}

// sourceOf returns the source for a key. If the argument "exempt" is true, it returns the source
// t.exempt instead. If the Table has no source for the key, sourceOf makes one.
func (t *Table[T]) sourceOf(key Key, exempt bool) *source[T] {
	if exempt {
		return &t.exempt
	}
	if s := t.sources[key]; s != nil {
		return s
	}
	s := t.unused
	if s == nil {
		s = new(source[T])
	} else {
		t.unused = s.next
	}
	*s = source[T]{key: key, index: [2]int{-1, -1}}
	if t.sources == nil {
		t.sources = map[Key]*source[T]{}
		t.byWeight = ranking[T]{which: 0, weight: (*source[T]).weight}
		t.byWaiting = ranking[T]{which: 1, weight: func(s *source[T]) int { return s.units }}
	}
	t.sources[key] = s
	return s
}

// Call leave after a connection has left the source s. If s has no other connection, leave removes
// s from the Table, and keeps its memory for a later source.
func (t *Table[T]) leave(s *source[T]) {
	if s == &t.exempt || s.conns() > 0 {
		t.rank(s)
		return
	}
	heap.Remove(&t.byWeight, s.index[0])
	heap.Remove(&t.byWaiting, s.index[1])
	delete(t.sources, s.key)
	s.next, t.unused = t.unused, s
}

// rank restores the order of the rankings byWeight and byWaiting after the number of connections of
// the source s has changed.
func (t *Table[T]) rank(s *source[T]) {
	switch {
	case s == &t.exempt:
	case s.index[0] < 0:
		heap.Push(&t.byWeight, s)
		heap.Push(&t.byWaiting, s)
	default:
		heap.Fix(&t.byWeight, s.index[0])
		heap.Fix(&t.byWaiting, s.index[1])
	}
}
