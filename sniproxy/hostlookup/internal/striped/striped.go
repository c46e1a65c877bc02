// Package striped counts events that many goroutines report at once.
//
// Processors that write to one memory location in turn pass its cache line around, which costs
// more than the rest of a hit of a hostlookup.Cache. For a router the gain is below 0.5% of a
// connection; see package nametable for why the cache wants it.
package striped

import (
	"sync/atomic"
	"unsafe"
)

// MaxKinds is the number of kinds of events that Counters can count.
const MaxKinds = 8

// Counters count events by their kind, a number below MaxKinds. The zero value is ready to use.
type Counters struct {
	stripes [1 << stripeBits]stripe
}

const stripeBits = 6

// A stripe fills a cache line of 64 bytes.
type stripe [MaxKinds]atomic.Uint64

// Add counts one event. The address of the caller's stack selects the stripe: a goroutine keeps
// its stripe, and two goroutines that run at once mostly have different stripes.
func (c *Counters) Add(kind uint8) {
	var onStack byte
	number := uint64(uintptr(unsafe.Pointer(&onStack)) >> 11) // no stack is smaller than 2 KiB
	spread := number * 0x9e3779b97f4a7c15 >> (64 - stripeBits)
	c.stripes[spread][kind&(MaxKinds-1)].Add(1)
}

// Sum returns the number of events of a kind. It does not stop other goroutines from counting.
func (c *Counters) Sum(kind uint8) (n uint64) {
	for i := range c.stripes {
		n += c.stripes[i][kind].Load()
	}
	return n
}
