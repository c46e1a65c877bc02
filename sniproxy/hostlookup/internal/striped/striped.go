// Package striped counts events that many goroutines report at the same time.
//
// With a single counter, the processors would pass its cache line to each other. This would cost
// more time than the rest of a lookup that a hostlookup.Cache answers from memory, but less than
// 0.5% of the time of a connection. Package nametable explains why the cache has to be this fast
// nevertheless.
package striped

import (
	"sync/atomic"
	"unsafe"
)

// MaxKinds is the number of kinds of events that Counters can count.
const MaxKinds = 8

// Counters count events of several kinds. A kind is a number below MaxKinds. The zero value is
// ready to use.
type Counters struct {
	stripes [1 << stripeBits]stripe
}

const stripeBits = 6

// A stripe has one counter for each kind. It has the size of a cache line, 64 bytes.
type stripe [MaxKinds]atomic.Uint64

// Add counts one event of a kind. Each counter is split into stripes in different cache lines, and
// the address of the goroutine's stack selects the stripe. So two goroutines that run at the same
// time usually write to different stripes.
func (c *Counters) Add(kind uint8) {
	var onStack byte
	number := uint64(uintptr(unsafe.Pointer(&onStack)) >> 11) // no stack is smaller than 2 KiB
	spread := number * 0x9e3779b97f4a7c15 >> (64 - stripeBits)
	c.stripes[spread][kind&(MaxKinds-1)].Add(1)
}

// Sum returns the number of events of a kind so far. Other goroutines may call Add at the same
// time.
func (c *Counters) Sum(kind uint8) (n uint64) {
	for i := range c.stripes {
		n += c.stripes[i][kind].Load()
	}
	return n
}
