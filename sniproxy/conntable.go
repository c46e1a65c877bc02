package sniproxy

import (
	"net/netip"
	"sync"
)

// sourceBits is the length of the IPv6 prefix that counts as one source. A site has at least a /64
// and can use every address in it (RFC 6177).
const sourceBits = 64

// sourceCounts counts the connections of each source.
type sourceCounts struct {
	mu    sync.Mutex
	count map[netip.Addr]int
}

// sourceOf returns the source that ip belongs to: ip itself for IPv4, the first address of its /64
// for IPv6.
func sourceOf(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	if ip.Is6() {
		if p, err := ip.Prefix(sourceBits); err == nil {
			return p.Addr()
		}
	}
	return ip
}

// add counts one more connection of a source. It returns false if the source has limit connections
// already.
func (s *sourceCounts) add(source netip.Addr, limit int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count[source] >= limit {
		return false
	}
	if s.count == nil {
		s.count = map[netip.Addr]int{}
	}
	s.count[source]++
	return true
}

// remove subtracts one connection from the count of a source.
func (s *sourceCounts) remove(source netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.count[source]; n > 1 {
		s.count[source] = n - 1
	} else {
		delete(s.count, source)
	}
}

// connState says in which list of the connTable a session is. A session is in the list of peeking
// sessions until its client has named a host.
type connState uint8

const (
	stateNone    connState = iota // not in the table
	statePeeking                  // the client has not named a host
	stateDecided                  // the client has named a host, or the session has ended its peek without one
)

// connTable holds all open connections in two lists. The list of peeking sessions has the
// connections whose clients have not named a host yet. The list of decided sessions has all other
// connections. The oldest entry of each list comes first. A session is in one of the lists from add
// to remove.
type connTable struct {
	mu    sync.Mutex
	lists [3]connList // by connState
	maxConns,
	maxPeeking int // 0 means no bound
}

// add adds a new session. It returns false if there are maxConns sessions already. If s makes the
// number of peeking sessions exceed maxPeeking, add removes the oldest peeking session and returns
// it as evicted. The caller must close the evicted session. A real client names its host within one
// round trip, so the oldest peeking session is the least likely to be a real client's.
func (t *connTable) add(s *session) (ok bool, evicted *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.maxConns > 0 && t.lists[statePeeking].n+t.lists[stateDecided].n >= t.maxConns {
		return false, nil
	}
	if t.maxPeeking > 0 && t.lists[statePeeking].n >= t.maxPeeking {
		evicted = t.evictOldest()
	}
	t.lists[statePeeking].add(s)
	s.state = statePeeking
	return true, evicted
}

// peekDone moves a session from the list of peeking sessions to the list of decided sessions. It
// returns false if the session was evicted before.
func (t *connTable) peekDone(s *session) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.state == statePeeking {
		t.setDecided(s)
	}
	return !s.evicted.Load()
}

// remove removes a session that has ended. If the session is in no list, remove does nothing.
func (t *connTable) remove(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.state != stateNone {
		t.lists[s.state].remove(s)
		s.state = stateNone
	}
}

// evict removes the n oldest sessions whose clients have not named a host, and returns them. The
// caller must close the returned sessions.
func (t *connTable) evict(n int) []*session {
	t.mu.Lock()
	defer t.mu.Unlock()
	var evicted []*session
	for ; n > 0 && t.lists[statePeeking].first != nil; n-- {
		evicted = append(evicted, t.evictOldest())
	}
	return evicted
}

// evictOldest evicts the oldest session whose client has not named a host. There must be one.
func (t *connTable) evictOldest() *session {
	s := t.lists[statePeeking].first
	t.setDecided(s)
	s.evicted.Store(true)
	return s
}

func (t *connTable) setDecided(s *session) {
	t.lists[statePeeking].remove(s)
	t.lists[stateDecided].add(s)
	s.state = stateDecided
}

// counts returns the number of all sessions, and the number of sessions whose clients have not
// named a host yet.
func (t *connTable) counts() (all, peeking int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lists[statePeeking].n + t.lists[stateDecided].n, t.lists[statePeeking].n
}

func (t *connTable) snapshot() []*session {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*session, 0, t.lists[statePeeking].n+t.lists[stateDecided].n)
	for _, state := range []connState{stateDecided, statePeeking} {
		for s := t.lists[state].first; s != nil; s = s.next {
			all = append(all, s)
		}
	}
	return all
}

// connList is a doubly linked list. The links are in the sessions, so the list needs no memory of
// its own.
type connList struct {
	first, last *session
	n           int
}

func (l *connList) add(s *session) {
	s.prev, s.next = l.last, nil
	if l.last != nil {
		l.last.next = s
	} else {
		l.first = s
	}
	l.last = s
	l.n++
}

func (l *connList) remove(s *session) {
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		l.first = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	} else {
		l.last = s.prev
	}
	s.prev, s.next = nil, nil
	l.n--
}
