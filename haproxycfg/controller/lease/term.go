package lease

import (
	"errors"
	"sync"
	"time"
)

var errExpired = errors.New("lease: this process does not hold the Lease any more")

// term is a period in which this process holds the Lease. Any number of goroutines may call its
// methods. The end of a term is final.
type term struct {
	done chan struct{} // closed at the end

	mu      sync.Mutex
	renewed time.Time
	over    bool
}

// newTerm returns a term that begins at "written", a time just before the write of the Lease. Other
// processes measure the age of the Lease from the later moment at which they see the write. So the
// term ends before they consider the Lease expired.
func newTerm(written time.Time) *term {
	return &term{done: make(chan struct{}), renewed: written}
}

// renew notes that this process has renewed the Lease. written is a time just before the write.
func (t *term) renew(written time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.renewed = written
}

// deadline returns the time at which the term ends if this process does not renew the Lease again.
func (t *term) deadline() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.renewed.Add(renewDeadline)
}

// end ends the term.
func (t *term) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.endLocked()
}

func (t *term) endLocked() {
	if !t.over {
		t.over = true
		close(t.done)
	}
}

// guard returns nil while the term lasts. If this process has not renewed the Lease in time, guard
// ends the term and returns an error. guard compares the time of the last renewal with the clocks
// of the machine, because after a suspension of the process, a timer would fire too late.
func (t *term) guard() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over && t.fresh(time.Now()) {
		return nil
	}
	t.endLocked()
	return errExpired
}

// fresh reports whether this process has renewed the Lease less than renewDeadline ago, both by the
// monotonic clock and by the wall clock. The monotonic clock alone is not enough, because it stands
// still while the machine sleeps. The wall clock alone is not enough, because somebody may set it.
func (t *term) fresh(now time.Time) bool {
	return now.Sub(t.renewed) < renewDeadline && now.Round(0).Sub(t.renewed.Round(0)) < renewDeadline
}
