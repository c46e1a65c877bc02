//go:build amd64 || arm64

package relay

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTimersAgainstAMap runs the same random operations on a timerHeap and on a plain map of times,
// and compares them.
func TestTimersAgainstAMap(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		var h timerHeap
		timers := make([]timer, 200)
		due := make(map[*timer]int64)
		now := int64(0)
		steps := []int64{timerPrecision / 3, timerPrecision, 20 * timerPrecision, 1024 * timerPrecision, 3000 * timerPrecision}
		distance := func() int64 { return rnd.Int64N(steps[rnd.IntN(len(steps))]) }
		for range 3000 {
			x := &timers[rnd.IntN(len(timers))]
			switch rnd.IntN(4) {
			case 0, 1:
				due[x] = now + distance()
				h.set(x, due[x])
			case 2:
				delete(due, x)
				h.stop(x)
			default:
				next := h.next()
				for _, when := range due {
					if next == 0 || next > when+timerPrecision {
						t.Fatalf("seed %d: the next timer is due at %d, but the heap says %d", seed, when, next)
					}
				}
				if len(due) == 0 {
					require.Zero(t, next)
				}
				now += distance()
				h.advance(now, func(x *timer) {
					when, ok := due[x]
					require.True(t, ok, "stopped, or fired before")
					require.LessOrEqual(t, when, now, "early")
					delete(due, x)
					if rnd.IntN(3) == 0 { // fire may set any timer
						y := &timers[rnd.IntN(len(timers))]
						due[y] = now + 1 + distance()
						h.set(y, due[y])
					}
				})
				for _, when := range due {
					if when+timerPrecision <= now {
						t.Fatalf("seed %d: late: a timer of %d at %d", seed, when, now)
					}
				}
			}
		}
	}
}

// A postponed timer keeps its place in the heap until the loop looks at it.
func TestPostponedTimer(t *testing.T) {
	var h timerHeap
	var x timer
	h.set(&x, 10*timerPrecision)
	h.set(&x, 5000*timerPrecision)
	require.Equal(t, 10*timerPrecision, h.next(), "moved")
	h.advance(10*timerPrecision, func(*timer) { t.Fatal("fired") })
	require.Equal(t, 5000*timerPrecision, h.next())
	h.set(&x, 12*timerPrecision)
	require.Equal(t, 12*timerPrecision, h.next())
	fired := 0
	h.advance(12*timerPrecision, func(*timer) { fired++ })
	require.Equal(t, 1, fired)
	require.Zero(t, h.next())
}
