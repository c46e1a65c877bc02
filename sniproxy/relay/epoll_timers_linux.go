//go:build amd64 || arm64

package relay

import "container/heap"

// timerPrecision is the precision of time-outs, in nanoseconds: 67 ms. The loop rounds the time of
// each timer up to a multiple of timerPrecision, and handles all timers of the same multiple
// together.
const timerPrecision = int64(1) << 26

// timer is the time-out of an epollConn, or the pause of an acceptor.
type timer struct {
	conn  *epollConn // nil if the timer is the pause of an acceptor
	due   int64      // the time to fire, in nanoseconds on the clock of the loop
	look  int64      // the time at which the loop checks the timer; may be earlier than due
	index int32      // the index in timerHeap.timers plus 1; 0 means that the timer is not set
}

// timerHeap holds the timers that are set, in a heap ordered by "look".
//
// Each byte that moves postpones the idle time-out of its connection, so this must be cheap. The
// method "set" only stores the new time in the field "due". At the time in the field "look", the
// method "advance" moves the timer to its new place.
type timerHeap struct{ timers []*timer }

// The method "set" makes t fire at the time in the argument "due". t may fire later, by at most
// timerPrecision plus the length of one round of the loop.
func (h *timerHeap) set(t *timer, due int64) {
	t.due = due
	look := lookTime(due)
	switch {
	case t.index == 0:
		t.look = look
		heap.Push(h, t)
	case look < t.look:
		t.look = look
		heap.Fix(h, int(t.index-1))
	}
}

// lookTime returns the time at which the loop handles a timer: the argument "due", rounded up to a
// multiple of timerPrecision. So the loop handles many timers at the same time.
func lookTime(due int64) int64 { return (due + timerPrecision - 1) &^ (timerPrecision - 1) }

// stop removes t. It does nothing if t is not set.
func (h *timerHeap) stop(t *timer) {
	if t.index != 0 {
		heap.Remove(h, int(t.index-1))
	}
}

// advance removes each timer that the loop must handle at or before the time in the argument "now"
// (see lookTime), and calls the function "fire" for this timer. fire may set and stop any timer.
func (h *timerHeap) advance(now int64, fire func(*timer)) {
	for len(h.timers) > 0 && h.timers[0].look <= now {
		t := h.timers[0]
		if t.due > now {
			t.look = lookTime(t.due)
			heap.Fix(h, 0)
			continue
		}
		h.stop(t)
		fire(t)
	}
}

// The method "next" returns the time at which the loop must call advance again. 0 means that no
// timer is set.
func (h *timerHeap) next() int64 {
	if len(h.timers) == 0 {
		return 0
	}
	return h.timers[0].look
}

// The methods of heap.Interface.

func (h *timerHeap) Len() int           { return len(h.timers) }
func (h *timerHeap) Less(i, j int) bool { return h.timers[i].look < h.timers[j].look }

func (h *timerHeap) Swap(i, j int) {
	h.timers[i], h.timers[j] = h.timers[j], h.timers[i]
	h.timers[i].index, h.timers[j].index = int32(i+1), int32(j+1)
}

func (h *timerHeap) Push(x any) {
	t := x.(*timer)
	h.timers = append(h.timers, t)
	t.index = int32(len(h.timers))
}

func (h *timerHeap) Pop() any {
	last := len(h.timers) - 1
	t := h.timers[last]
	h.timers[last] = nil
	h.timers = h.timers[:last]
	t.index = 0
	return t
}
