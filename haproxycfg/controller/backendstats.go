package controller

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// backendStats reads the rows of backends in HAProxy's answer to "show stat". For each question
// about one backend, HAProxy searches all its backends. So if somebody asks for many rows, the
// method "get" reads the rows of all backends with one question.
type backendStats struct {
	worker func(context.Context) (runtimeapi.Socket, error)
	now    func() time.Time

	mu          sync.Mutex
	rows        map[string]runtimeapi.Stat // of all backends; nil if there is none or it is too old
	read        time.Time                  // when rows were read
	begin       time.Time                  // of the period in which get counts its calls
	calls       int                        // in this period
	callsBefore int                        // in the period before
}

const (
	fewRows    = 20                     // so many rows in a period are read one by one
	keepRows   = 500 * time.Millisecond // less than the default of shift.Runner.Interval
	rowsPeriod = time.Second
)

// get returns the row of a backend. The row is at most keepRows old.
func (b *backendStats) get(ctx context.Context, backend string) (runtimeapi.Stat, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	if now.Sub(b.begin) >= rowsPeriod {
		b.begin, b.calls, b.callsBefore = now, 0, b.calls
	}
	b.calls++
	// Forget the rows when they are too old. Otherwise the method "get" could return a row that is
	// older than its previous result for the same backend. The counters in this row would be
	// smaller, as after a reload of HAProxy.
	if b.rows == nil || now.Sub(b.read) >= keepRows {
		b.rows = nil
		socket, err := b.worker(ctx)
		if err != nil {
			return runtimeapi.Stat{}, err
		}
		if max(b.calls, b.callsBefore) <= fewRows {
			return socket.BackendStat(ctx, backend)
		}
		all, err := socket.ProxyStats(ctx)
		if err != nil {
			return runtimeapi.Stat{}, err
		}
		b.rows, b.read = make(map[string]runtimeapi.Stat, len(all)), now
		for _, row := range all {
			if row.Server == "BACKEND" {
				b.rows[row.Proxy] = row
			}
		}
	}
	row, ok := b.rows[backend]
	if !ok {
		return runtimeapi.Stat{}, fmt.Errorf("HAProxy has no backend %s", backend)
	}
	return row, nil
}
