//go:build amd64 || arm64

package relay

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWheelAgainstAList does the same with a wheel and with a plain set of times.
func TestWheelAgainstAList(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		var w timerWheel
		timers := make([]timer, 200)
		due := make(map[*timer]int64)
		now := int64(0)
		steps := []int64{tick / 3, tick, 20 * tick, wheelSlots * tick, 3 * wheelSlots * tick}
		distance := func() int64 { return rnd.Int64N(steps[rnd.IntN(len(steps))]) }
		for range 3000 {
			x := &timers[rnd.IntN(len(timers))]
			switch rnd.IntN(4) {
			case 0, 1:
				due[x] = now + distance()
				w.set(x, due[x])
			case 2:
				delete(due, x)
				w.stop(x)
			default:
				next := w.next()
				for _, when := range due {
					require.NotZero(t, next)
					require.LessOrEqual(t, next, when+tick)
				}
				if len(due) == 0 {
					require.Zero(t, next)
				}
				now += distance()
				w.advance(now, func(x *timer) {
					when, ok := due[x]
					require.True(t, ok, "stopped, or fired before")
					require.LessOrEqual(t, when, now, "early")
					delete(due, x)
					if rnd.IntN(3) == 0 { // fire may set any timer
						y := &timers[rnd.IntN(len(timers))]
						due[y] = now + 1 + distance()
						w.set(y, due[y])
					}
				})
				for _, when := range due {
					require.Greater(t, when+tick, now, "late")
				}
			}
		}
	}
}

func TestWheelNeedsNoLookWhenPostponed(t *testing.T) {
	var w timerWheel
	var x timer
	w.set(&x, 10*tick)
	w.set(&x, 5000*tick)
	require.EqualValues(t, 10, x.slotTick, "moved")
	w.advance(10*tick, func(*timer) { t.Fatal("fired") })
	require.EqualValues(t, 10+wheelSlots-1, x.slotTick)
	w.set(&x, 12*tick)
	require.EqualValues(t, 12, x.slotTick)
	fired := 0
	w.advance(12*tick, func(*timer) { fired++ })
	require.Equal(t, 1, fired)
	require.Zero(t, w.next())
}
