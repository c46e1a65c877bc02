package hostlookup

import (
	"sync/atomic"
	"unsafe"
)

// Stats are figures of a Cache since its first use.
type Stats struct {
	// Lookups by level of their answer. Misses counts those too that ended with
	// an error or because their context did.
	Hits, Misses, Negatives, Stales, Failures uint64

	Calls    uint64 // calls of the source that began
	NotFound uint64 // … that ended with ErrNotFound
	Errors   uint64 // … that ended with another error, or panicked, or got no turn within Timeout
	Dropped  uint64 // … whose answer was not stored, because the host was changed meanwhile

	Evicted         uint64 // known hosts that made room for others
	EvictedNegative uint64 // the same of hosts not found

	// Figures of this moment.
	Hosts    int // known hosts
	Negative int // hosts not found, or failed a moment ago
	InFlight int // source calls under way or waiting for their turn
}

// counters are striped: one shared counter would be written by all processors
// in turn, which costs more than the rest of a hit.
type counters struct {
	stripes [64]stripe
}

// A stripe fills a cache line.
type stripe struct {
	byLevel [Failed + 1]atomic.Uint64
	_       [64 - 8*(Failed+1)]byte
}

// add counts a lookup. Goroutines find their stripe by where their stack is:
// the same for all calls of one, and most often another for two that run at once.
func (c *counters) add(level Level) {
	var onStack byte
	at := uint64(uintptr(unsafe.Pointer(&onStack)) >> 11) // no stack is smaller than 2 KiB
	i := at * 0x9e3779b97f4a7c15 >> (64 - 6)
	c.stripes[i].byLevel[level].Add(1)
}

func (c *counters) sum(level Level) (n uint64) {
	for i := range c.stripes {
		n += c.stripes[i].byLevel[level].Load()
	}
	return n
}

// lookups counts all levels.
func (c *counters) lookups() (n uint64) {
	for level := range Failed + 1 {
		n += c.sum(level)
	}
	return n
}
