package hostlookup

import (
	"sync/atomic"
	"time"
)

// An entry is what the cache holds for one host. It is laid out so that a hit
// reads one cache line for all but App and Host: what the entry is worth now,
// when it last moved in the LRU, its name, its address. It fills 128 bytes,
// a size class of the allocator that respects lines.
//
// Fields without a note never change once the entry is in the table. Those with
// "mu" are guarded by core.mu.
type entry struct {
	state    atomic.Uint64 // see packState
	touched  atomic.Uint32 // see touchTick
	nameLen  uint8
	sameHost bool // the endpoint's Host is the name
	name     [34]byte
	addr     string

	app, host string
	ttl       time.Duration // as the source gave it
	expires   int64         // mu; end of the TTL
	useless   int64         // mu; the longest age: from then on not served at all
	more      *more
}

// more holds what few entries have.
type more struct {
	name string // one that does not fit entry.name
	err  error  // of a Negative or Failed entry
}

// packState makes the one word that decides a hit: until when the entry may be
// served with no further thought, in nanoseconds of the core's clock, and as
// what. One word, so that a reader without lock never sees halves of two states.
func packState(until int64, level Level) uint64 {
	return uint64(min(max(until, 0), maxTime))<<3 | uint64(level)
}

// maxTime is 36 years from the cache's first use: for ever.
const maxTime = 1<<60 - 1

func unpackState(s uint64) (until int64, level Level) { return int64(s >> 3), Level(s & 7) }

// touchTick is the granularity in which entries move in the LRU, a power of two
// of nanoseconds close to a second, so that a shift finds it.
func touchTick(now int64) uint32 { return uint32(now >> 30) }

func newEntry(host string, ep Endpoint, err error) *entry {
	e := &entry{nameLen: uint8(len(host)), addr: ep.Addr, app: ep.App, ttl: ep.TTL}
	if e.sameHost = ep.Host == host; !e.sameHost {
		e.host = ep.Host
	}
	if err != nil || len(host) > len(e.name) {
		e.more = &more{err: err}
	}
	if len(host) > len(e.name) {
		// The caller's string may be a piece of something big.
		e.more.name = string([]byte(host))
	} else {
		copy(e.name[:], host)
	}
	return e
}

func (e *entry) is(host string) bool {
	if len(host) != int(e.nameLen) {
		return false
	}
	if len(host) <= len(e.name) {
		return string(e.name[:len(host)]) == host
	}
	return e.more.name == host
}

// hostName returns the name in memory of its own.
func (e *entry) hostName() string {
	if int(e.nameLen) <= len(e.name) {
		return string(e.name[:e.nameLen])
	}
	return e.more.name
}

// answer returns what the entry says about host, which is its name.
func (e *entry) answer(host string) (Endpoint, error) {
	if e.more != nil && e.more.err != nil {
		return Endpoint{}, e.more.err
	}
	if !e.sameHost {
		host = e.host
	}
	return Endpoint{App: e.app, Host: host, Addr: e.addr, TTL: e.ttl}, nil
}

// positive tells whether the entry holds an endpoint.
func (e *entry) positive() bool { return e.more == nil || e.more.err == nil }
