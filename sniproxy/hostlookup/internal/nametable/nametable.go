// Package nametable has a hash table from host names to values that readers use without a lock.
//
// It exists for speed alone. A map behind a sync.RWMutex would do the same job in a third of the
// lines. With that map a hit of a hostlookup.Cache takes 1.9 to 3.3 times as long; with this table
// it takes 28 ns of CPU at 1,000 hosts and 80 ns at 100,000 (internal/benchmarks/README.md). A
// connection through snirouter takes 42 µs, so the gain for a router is below 0.5%. The table stays
// because a hit of the cache has to take at most 1.5 times as long as one of a map that nobody
// writes to.
package nametable

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
	"unsafe"
)

// maxInline is the longest name that is in the item itself. A comparison of such a name loads no
// other memory.
const maxInline = 31

// An Item is a value under a name.
type Item[V any] struct {
	nameLen uint8
	name    [maxInline]byte // if nameLen is at most maxInline
	long    *string         // the name otherwise

	Value V
}

// NewItem returns an item with a copy of a name of at most 255 bytes, and the zero value.
func NewItem[V any](name string) *Item[V] {
	i := &Item[V]{nameLen: uint8(len(name))}
	if len(name) <= maxInline {
		copy(i.name[:], name)
	} else {
		name = strings.Clone(name)
		i.long = &name
	}
	return i
}

// Name returns the name, without an allocation.
func (i *Item[V]) Name() string {
	if i.nameLen > maxInline {
		return *i.long
	}
	return unsafe.String(&i.name[0], int(i.nameLen)) // the name never changes
}

// is reports whether the item has that name. The comparison of the lengths comes first, so that
// most other names load no long name from memory.
func (i *Item[V]) is(name string) bool { return len(name) == int(i.nameLen) && i.Name() == name }

// Table maps names to items. Any number of goroutines may call Get at one time, while one
// goroutine calls the other methods. The zero Table is not usable; see New.
//
// The table uses open addressing with linear probing, and is at most three quarters full. Insert
// copies a full table into one of twice the size. Remove moves later items of the run back into
// the hole, so that it leaves no tombstone.
type Table[V any] struct {
	seed  maphash.Seed // random: strangers choose the names, and must not know the hash
	slots atomic.Pointer[[]slot[V]]
	used  int
}

// A slot holds the hash as well as the pointer, so that probing does not load the items of other
// names from memory. Hash 0 marks a free slot, which ends a run.
type slot[V any] struct {
	hash atomic.Uint64
	item atomic.Pointer[Item[V]]
}

const minSlots = 64 // a power of two, as every later size is

// New returns an empty table.
func New[V any]() *Table[V] {
	t := &Table[V]{seed: maphash.MakeSeed()}
	t.Clear()
	return t
}

// hash is never 0.
func (t *Table[V]) hash(name string) uint64 { return maphash.String(t.seed, name) | 1<<63 }

// Get returns the item of a name, or nil. During a Remove of another name, Get may return nil for
// an item that is in the table; it never returns the item of another name. A caller that must not
// overlook an item holds a lock during Get and Remove.
func (t *Table[V]) Get(name string) *Item[V] { return t.get(t.hash(name), name) }

func (t *Table[V]) get(hash uint64, name string) *Item[V] {
	slots := *t.slots.Load()
	mask := uint64(len(slots) - 1)
	// One round at most: a writer that moves items all the time must not keep a reader in this
	// loop.
	for i := range uint64(len(slots)) {
		s := &slots[(hash+i)&mask]
		switch s.hash.Load() {
		case 0:
			return nil
		case hash:
			if item := s.item.Load(); item != nil && item.is(name) {
				return item
			}
		}
	}
	return nil
}

// Insert adds an item. Its name must not be in the table.
func (t *Table[V]) Insert(item *Item[V]) { t.insert(t.hash(item.Name()), item) }

func (t *Table[V]) insert(hash uint64, item *Item[V]) {
	slots := *t.slots.Load()
	if 4*(t.used+1) > 3*len(slots) {
		bigger := make([]slot[V], 2*len(slots))
		for i := range slots {
			if hash := slots[i].hash.Load(); hash != 0 {
				place(bigger, hash, slots[i].item.Load())
			}
		}
		t.slots.Store(&bigger)
		slots = bigger
	}
	place(slots, hash, item)
	t.used++
}

func place[V any](slots []slot[V], hash uint64, item *Item[V]) {
	mask := uint64(len(slots) - 1)
	i := hash
	for slots[i&mask].hash.Load() != 0 {
		i++
	}
	s := &slots[i&mask]
	s.item.Store(item) // before the hash: a reader that sees the hash then finds the item
	s.hash.Store(hash)
}

// Remove removes an item. It does nothing if the table does not contain that item.
func (t *Table[V]) Remove(item *Item[V]) { t.remove(t.hash(item.Name()), item) }

func (t *Table[V]) remove(hash uint64, item *Item[V]) {
	slots := *t.slots.Load()
	mask := uint64(len(slots) - 1)
	hole := hash
	for slots[hole&mask].item.Load() != item {
		if slots[hole&mask].hash.Load() == 0 {
			return
		}
		hole++
	}
	for next := hole + 1; ; next++ {
		s := &slots[next&mask]
		hash := s.hash.Load()
		if hash == 0 {
			break
		}
		// An item may move back as far as the slot of its hash.
		if (next-hash)&mask < (next-hole)&mask {
			continue
		}
		to := &slots[hole&mask]
		to.item.Store(s.item.Load())
		to.hash.Store(hash)
		hole = next
	}
	s := &slots[hole&mask]
	s.hash.Store(0)
	s.item.Store(nil)
	t.used--
}

// Clear removes all items.
func (t *Table[V]) Clear() {
	slots := make([]slot[V], minSlots)
	t.slots.Store(&slots)
	t.used = 0
}
