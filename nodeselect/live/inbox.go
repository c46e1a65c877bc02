package live

import "sync"

// inbox guards the data that sources have reported, until the goroutine of the Watcher reads it.
type inbox struct {
	arrived chan struct{} // receives a value after a change

	mu      sync.Mutex
	changed bool // the change in progress has set it: the channel arrived must receive a value
}

// edit calls f under the lock, and wakes the Watcher if f sets the field "changed". Each wake-up
// makes the Watcher wait for another quiet time, and so delays all other changes. Heartbeats of
// nodes never stop, so f must not set "changed" for a heartbeat.
func (b *inbox) edit(f func()) {
	b.mu.Lock()
	f()
	changed := b.changed
	b.changed = false
	b.mu.Unlock()
	if !changed {
		return
	}
	select {
	case b.arrived <- struct{}{}:
	default:
	}
}
