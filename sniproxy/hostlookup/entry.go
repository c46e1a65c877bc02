package hostlookup

import (
	"strings"
	"sync/atomic"
	"unsafe"
)

// An entry is what the cache holds for one host. It is laid out so that a hit
// finds all that decides at its beginning: what the entry is worth now, when it last
// moved in the LRU, its name. It fills 128 bytes, two cache lines that are fetched
// together, in a size class of the allocator that respects lines.
//
// Fields without a note never change once the entry is in the table. Those with
// "mu" are guarded by core.mu.
type entry struct {
	state   atomic.Uint64 // see packState
	touched atomic.Uint32 // see touchTick
	nameLen uint8
	name    [35]byte
	ep      Endpoint
	expires int64 // mu; end of the TTL
	useless int64 // mu; the longest age: from then on not served at all
	more    *more
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
	e := &entry{nameLen: uint8(len(host)), ep: ep}
	if err != nil || len(host) > len(e.name) {
		e.more = &more{err: err}
	}
	// The caller's string may be a piece of something big.
	if len(host) > len(e.name) {
		e.more.name = strings.Clone(host)
	} else {
		copy(e.name[:], host)
	}
	if ep.Host == host && host != "" {
		e.ep.Host = e.hostName()
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

// hostName returns the name, which never changes, in the entry's own memory.
func (e *entry) hostName() string {
	if int(e.nameLen) <= len(e.name) {
		return unsafe.String(&e.name[0], int(e.nameLen))
	}
	return e.more.name
}

// err is the answer of an entry without endpoint.
func (e *entry) err() error {
	if e.more == nil {
		return nil
	}
	return e.more.err
}

// positive tells whether the entry holds an endpoint.
func (e *entry) positive() bool { return e.err() == nil }
