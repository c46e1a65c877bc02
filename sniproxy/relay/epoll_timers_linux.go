//go:build amd64 || arm64

package relay

import "math/bits"

// A tick is the precision of time-outs, in nanoseconds: 67 ms.
const (
	tickBits   = 26
	tick       = int64(1) << tickBits
	wheelSlots = 1024 // 69 s; what is later comes round more than once
)

// timer is a time-out of a epollConn, within it. It is in a wheel or in none.
type timer struct {
	next, prev *timer
	conn       *epollConn
	due        int64 // nanoseconds on the clock of the loop
	slotTick   int64 // the tick at which it is looked at, not later than when; 0 is in no wheel
}

// wheel is a hashed timing wheel. Setting a timer later than it is set costs a store: it is
// looked at when it would have fired, and then put where it belongs.
type timerWheel struct {
	slots [wheelSlots]*timer
	used  [wheelSlots / 64]uint64
	now   int64 // the last tick that was looked at
}

// set makes t fire at when, or up to one tick and what a round of the loop takes later.
func (w *timerWheel) set(t *timer, when int64) {
	t.due = when
	at := w.tickOf(when)
	if t.slotTick != 0 && t.slotTick <= at {
		return
	}
	w.stop(t)
	w.insert(t, at)
}

// tickOf is the first tick that is not before when, within one turn of the wheel.
func (w *timerWheel) tickOf(when int64) int64 {
	return min(max((when+tick-1)>>tickBits, w.now+1), w.now+wheelSlots-1)
}

func (w *timerWheel) insert(t *timer, at int64) {
	t.slotTick = at
	slot := at % wheelSlots
	head := w.slots[slot]
	t.prev, t.next = nil, head
	if head != nil {
		head.prev = t
	}
	w.slots[slot] = t
	w.used[slot/64] |= 1 << (slot % 64)
}

func (w *timerWheel) stop(t *timer) {
	if t.slotTick == 0 {
		return
	}
	slot := t.slotTick % wheelSlots
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		w.slots[slot] = t.next
		if t.next == nil {
			w.used[slot/64] &^= 1 << (slot % 64)
		}
	}
	if t.next != nil {
		t.next.prev = t.prev
	}
	t.next, t.prev, t.slotTick = nil, nil, 0
}

// advance looks at all ticks up to now and calls fire for the timers that are due. fire may
// set and stop any timer.
func (w *timerWheel) advance(now int64, fire func(*timer)) {
	until := now >> tickBits
	if until-w.now >= wheelSlots {
		w.now = until - wheelSlots + 1
		if w.slots[w.now%wheelSlots] != nil {
			w.fireSlot(now, fire)
		}
	}
	for w.now < until {
		w.now++
		w.fireSlot(now, fire)
	}
}

// turn empties the slot of the current tick.
func (w *timerWheel) fireSlot(now int64, fire func(*timer)) {
	slot := w.now % wheelSlots
	for {
		t := w.slots[slot]
		if t == nil {
			return
		}
		w.stop(t)
		if t.due > now {
			w.insert(t, w.tickOf(t.due))
			continue
		}
		fire(t)
	}
}

// next is when advance has something to look at, in nanoseconds; 0 is never.
func (w *timerWheel) next() int64 {
	first := w.now + 1
	slot := first % wheelSlots
	word := slot / 64
	mask := ^uint64(0) << (slot % 64)
	for range len(w.used) + 1 {
		if b := w.used[word] & mask; b != 0 {
			found := word*64 + int64(bits.TrailingZeros64(b))
			return (first + (found-slot+wheelSlots)%wheelSlots) << tickBits
		}
		word, mask = (word+1)%int64(len(w.used)), ^uint64(0)
	}
	return 0
}
