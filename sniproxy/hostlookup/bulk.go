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

// LookupAll looks up hosts, and returns their Results in the same order. At most atOnce lookups run
// at the same time; 0 or less means 64, the default of Cache.MaxCalls.
//
// If l is a Cache with a smaller MaxCalls, some of these lookups wait in the Cache, and can fail
// with ErrBusy. When ctx ends, the running lookups return soon, and the others fail with
// context.Cause(ctx).
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
