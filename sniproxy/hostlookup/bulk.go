package hostlookup

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// A Result is what LookupAll found for one host.
type Result struct {
	Host   string
	Answer Answer // if Err is not nil, Answer has only a Level
	Err    error
}

// LookupAll looks up hosts, and returns one Result for each of them, in the same order. If l is a
// Peeker, LookupAll first asks l for the answers that need no waiting. It then makes the other
// lookups, at most atOnce at the same time. If atOnce is 0 or negative, the limit is 64, the
// default of Cache.MaxCalls. If l is a Cache and atOnce is greater than its MaxCalls, the lookups
// beyond MaxCalls wait in the Cache, and can fail with ErrBusy.
//
// A failed lookup does not affect the others. When ctx ends, the running lookups return soon, and
// the lookups that have not begun fail with the cause of ctx (context.Cause).
//
// A program can use LookupAll to fill a Cache with the hosts that it expects, before it accepts
// connections.
func LookupAll(ctx context.Context, l Lookup, hosts []string, atOnce int) []Result {
	results := make([]Result, len(hosts))
	var waiting []int // indices of hosts
	for i, host := range hosts {
		answer, err := peek(l, host)
		results[i] = Result{host, answer, err}
		if errors.Is(err, ErrWouldWait) {
			waiting = append(waiting, i)
		}
	}
	if atOnce <= 0 {
		atOnce = 64
	}
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(atOnce, len(waiting)) {
		workers.Go(func() {
			for n := next.Add(1) - 1; n < int64(len(waiting)); n = next.Add(1) - 1 {
				r := &results[waiting[n]]
				if err := ctx.Err(); err != nil {
					r.Answer, r.Err = Answer{}, context.Cause(ctx)
					continue
				}
				r.Answer, r.Err = l.LookupHost(ctx, r.Host)
			}
		})
	}
	workers.Wait()
	return results
}
