// Package longpoll bounds the requests that wait for a change on an HTTP server.
//
//	var waiters longpoll.Waiters // one for a server
//	…
//	if !waiters.Wait(r, changed, 30*time.Second) {
//		http.Error(w, "too many requests wait for changes", http.StatusServiceUnavailable)
//		return
//	}
//	// Answer with the present state, changed or not.
package longpoll

import (
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/headgate/headgate/internal/fairshare"
)

// Waiters are the waiting requests of a server. The zero value is ready to use. Several goroutines
// may call the methods at the same time.
type Waiters struct {
	// Max limits the requests that wait at the same time; 0 means 1,024. A client is an IPv4 address
	// or an IPv6 /64. At the limit, a new request replaces the oldest request of the client that has
	// the most waiting requests, if two conditions are true:
	//   - The new request is from another client.
	//   - The client with the most waiting requests has more than its share (see package
	//     fairshare).
	//
	// Otherwise, the new request does not wait.
	//
	// Set Max before the first call of a method.
	Max int

	once     sync.Once
	table    fairshare.Table[*waiter]
	stopOnce sync.Once
	stopping chan struct{} // Stop closes it
}

// defaultMax is the default of Max.
const defaultMax = 1024

func (w *Waiters) init() {
	w.once.Do(func() {
		w.table.Max = w.Max
		if w.Max <= 0 {
			w.table.Max = defaultMax
		}
		w.stopping = make(chan struct{})
	})
}

// waiter is a request that waits for a change.
type waiter struct {
	began   time.Time
	share   fairshare.Entry[*waiter]
	evicted chan struct{} // closed when the request makes room for another one
}

// ShareEntry implements fairshare.Member.
func (w *waiter) ShareEntry() *fairshare.Entry[*waiter] { return &w.share }

// Idle implements fairshare.Member.
func (w *waiter) Idle() time.Duration { return time.Since(w.began) }

// Wait makes a request wait until somebody closes the channel in the argument "changed", for at
// most d. The wait ends earlier if the request ends, if the request of another client takes the
// place of this request (see Max), or after a call of Stop. If there is no place for the request,
// Wait returns false immediately.
func (w *Waiters) Wait(r *http.Request, changed <-chan struct{}, d time.Duration) bool {
	w.init()
	client, _ := netip.ParseAddrPort(r.RemoteAddr)
	one := &waiter{began: time.Now(), evicted: make(chan struct{})}
	// Package fairshare distinguishes waiting and serving connections. Waiters do not need this
	// distinction, so they add each request as a serving connection.
	victim, err := w.table.AddServing(one, fairshare.KeyOf(client.Addr()), false)
	if err != nil {
		return false
	}
	defer w.table.Remove(one)
	if victim != nil {
		close(victim.evicted)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-r.Context().Done():
	case <-w.stopping:
	case <-one.evicted:
	}
	return true
}

// Count returns the number of requests that wait.
func (w *Waiters) Count() int {
	w.init()
	all, _ := w.table.Counts()
	return all
}

// Stop ends all waits. After Stop, Wait returns immediately. Stop may be called several times.
func (w *Waiters) Stop() {
	w.init()
	w.stopOnce.Do(func() { close(w.stopping) })
}

// bodyTimeout limits how long the server waits for the body of a request.
const bodyTimeout = 10 * time.Second

// BoundBody makes the server wait at most 10 s for the body of a request. Call it first for each
// request. Otherwise a client that never sends its body could hold a connection for ever: a server
// of long polls has no ReadTimeout, and net/http reads the body that a handler leaves unread.
func BoundBody(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	}
}
