package hostlookup

import "sync/atomic"

// A table finds entries by name: open addressing with linear probing, at most
// three quarters full. Any number of readers, which take no lock, beside one writer, which
// holds core.mu.
//
// A deletion moves later entries of the run back into the hole, so that there
// are no tombstones and never a rebuild. A reader that passes at that moment may
// miss an entry that is there; it never finds a wrong one, because the name
// decides. So "not found" without the lock is a hint only, and the caller looks
// again under the lock.
type table struct {
	mask  uint64
	slots []slot
	used  int // the writer's
}

// A slot holds the whole hash beside the pointer, so that probing past other
// entries does not fetch their memory. A hash of 0 marks the end of a run.
type slot struct {
	hash  atomic.Uint64
	entry atomic.Pointer[entry]
}

const minSlots = 64

func newTable(slots int) *table {
	return &table{mask: uint64(slots - 1), slots: make([]slot, slots)}
}

// find returns the entry of that name, or nil. hash must not be 0.
func (t *table) find(hash uint64, host string) *entry {
	// The bound is for a reader that entries are moved around all the time.
	for i, n := hash, uint64(0); n <= t.mask; i, n = i+1, n+1 {
		s := &t.slots[i&t.mask]
		switch s.hash.Load() {
		case 0:
			return nil
		case hash:
			if e := s.entry.Load(); e != nil && e.is(host) {
				return e
			}
		}
	}
	return nil
}

// insert adds an entry whose name is not in the table, and returns the table
// to use from now on: another one when this one was full.
func (t *table) insert(hash uint64, e *entry) *table {
	if 4*(t.used+1) > 3*len(t.slots) {
		bigger := newTable(2 * len(t.slots))
		for i := range t.slots {
			if h := t.slots[i].hash.Load(); h != 0 {
				bigger.place(h, t.slots[i].entry.Load())
			}
		}
		t = bigger
	}
	t.place(hash, e)
	return t
}

func (t *table) place(hash uint64, e *entry) {
	i := hash
	for t.slots[i&t.mask].hash.Load() != 0 {
		i++
	}
	s := &t.slots[i&t.mask]
	s.entry.Store(e) // before the hash: who sees the hash finds the entry
	s.hash.Store(hash)
	t.used++
}

// remove deletes e.
func (t *table) remove(hash uint64, e *entry) {
	hole := hash
	for t.slots[hole&t.mask].entry.Load() != e {
		if t.slots[hole&t.mask].hash.Load() == 0 {
			return
		}
		hole++
	}
	for next := hole + 1; ; next++ {
		s := &t.slots[next&t.mask]
		h := s.hash.Load()
		if h == 0 {
			break
		}
		// An entry may move back as far as its home slot and no further.
		if (next-h)&t.mask < (next-hole)&t.mask {
			continue
		}
		to := &t.slots[hole&t.mask]
		to.entry.Store(s.entry.Load())
		to.hash.Store(h)
		hole = next
	}
	s := &t.slots[hole&t.mask]
	s.hash.Store(0)
	s.entry.Store(nil)
	t.used--
}
