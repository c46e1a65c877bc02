package hostlookup

import (
	"sync/atomic"
	"time"
)

// clockTick is how far the time that hits see may lag.
const clockTick = 10 * time.Millisecond

// A clock gives nanoseconds since the cache's first use, never 0. Reading the
// system's clock costs more than a whole hit, so while there is traffic a
// goroutine writes the time down every tick. It ends by itself when a tick has
// passed without lookups, and with the cache.
type clock struct {
	coarse atomic.Int64 // 0: nobody keeps it
	base   time.Time
	custom func() time.Time // the user's, or nil
}

// coarseNow is for hits. running is false when nobody keeps the coarse time, so
// that the caller should see to it.
func (c *clock) coarseNow() (now int64, running bool) {
	if now = c.coarse.Load(); now != 0 {
		return now, true
	}
	return c.now(), c.custom != nil
}

// now is the exact time.
func (c *clock) now() int64 {
	if c.custom != nil {
		return max(int64(c.custom().Sub(c.base)), 0) + 1
	}
	return int64(time.Since(c.base)) + 1
}

// moment is the exact time, and what the calendar says then.
func (c *clock) moment() (now int64, wall time.Time) {
	if c.custom != nil {
		wall = c.custom()
		return max(int64(wall.Sub(c.base)), 0) + 1, wall
	}
	wall = time.Now()
	return int64(wall.Sub(c.base)) + 1, wall
}

// keepTime writes the time down until the lookups pause or closing is closed.
// The owner runs it in a goroutine, one at a time.
func (c *clock) keepTime(closing <-chan struct{}, lookups func() uint64) {
	defer c.coarse.Store(0)
	ticker := time.NewTicker(clockTick)
	defer ticker.Stop()
	for seen := lookups(); ; {
		c.coarse.Store(c.now())
		select {
		case <-ticker.C:
		case <-closing:
			return
		}
		n := lookups()
		if n == seen {
			return
		}
		seen = n
	}
}
