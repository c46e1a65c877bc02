package sniproxy

import (
	"net/netip"
	"sync"
)

// sourceBits is how much of an IPv6 address tells sources apart: a site has a /64 at
// least, and every address of it (RFC 6177).
const sourceBits = 64

// sources counts connections by source.
type sourceCounts struct {
	mu    sync.Mutex
	count map[netip.Addr]int
}

// sourceOf is what is counted as one: an IPv4 address or a /64.
func sourceOf(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	if ip.Is6() {
		if p, err := ip.Prefix(sourceBits); err == nil {
			return p.Addr()
		}
	}
	return ip
}

// add counts one more from a source, unless it has limit already.
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

// drop takes one away.
func (s *sourceCounts) remove(source netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.count[source]; n > 1 {
		s.count[source] = n - 1
	} else {
		delete(s.count, source)
	}
}

// place is in which list a session is.
type connState uint8

const (
	stateNone connState = iota
	statePeeking
	stateDecided
)

// live holds all connections, in two lists by time of accept: those that are still
// peeking, and those that are past that. A session is in one of them from enter to leave.
type connTable struct {
	mu    sync.Mutex
	lists [3]connList // by place
	maxConns,
	maxPeeking int // 0 is no bound
}

// enter takes in a new session, or does not because it is one too many. out is the one
// that has to make room for it, the oldest of those that peek: a client in good faith
// needs a round trip for its hello, so those that are here longest are the likeliest
// not to be.
func (l *connTable) add(s *session) (ok bool, out *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.maxConns > 0 && l.lists[statePeeking].n+l.lists[stateDecided].n >= l.maxConns {
		return false, nil
	}
	if l.maxPeeking > 0 && l.lists[statePeeking].n >= l.maxPeeking {
		out = l.evictOldest()
	}
	l.lists[statePeeking].add(s)
	s.state = statePeeking
	return true, out
}

// decide is called when a session is done with peeking. It returns false if the session was
// chosen to make room.
func (l *connTable) peekDone(s *session) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.state == statePeeking {
		l.toDecided(s)
	}
	return !s.evicted.Load()
}

// leave is called when a session ends.
func (l *connTable) remove(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.state != stateNone {
		l.lists[s.state].remove(s)
		s.state = stateNone
	}
}

// pushOut takes the n oldest sessions that peek out of their list, for the caller to end.
func (l *connTable) evict(n int) []*session {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*session
	for ; n > 0 && l.lists[statePeeking].first != nil; n-- {
		out = append(out, l.evictOldest())
	}
	return out
}

// push takes the oldest session that peeks. There must be one.
func (l *connTable) evictOldest() *session {
	s := l.lists[statePeeking].first
	l.toDecided(s)
	s.evicted.Store(true)
	return s
}

func (l *connTable) toDecided(s *session) {
	l.lists[statePeeking].remove(s)
	l.lists[stateDecided].add(s)
	s.state = stateDecided
}

// counts returns how many connections there are, and how many of them peek.
func (l *connTable) counts() (all, peeks int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lists[statePeeking].n + l.lists[stateDecided].n, l.lists[statePeeking].n
}

func (l *connTable) snapshot() []*session {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*session, 0, l.lists[statePeeking].n+l.lists[stateDecided].n)
	for _, in := range []connState{stateDecided, statePeeking} {
		for s := l.lists[in].first; s != nil; s = s.next {
			all = append(all, s)
		}
	}
	return all
}

// list is doubly linked through its sessions, so that it takes no memory of its own.
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
