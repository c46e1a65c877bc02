package httpload

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Request is one request and its outcome. A is the type of an answer.
type Request[A any] struct {
	Start, End time.Time
	Method     string
	// Status is 0 without a response.
	Status int
	Answer A
	// Err is the reason why the request failed. It is nil if the request did not fail.
	Err error
	// Kept reports whether an earlier request had used the same connection. Repeated reports
	// whether the server had closed the kept connection, so that the sender sent the request again
	// on a new connection.
	Kept, Repeated bool
}

// Log is the record of a load. Its methods are safe for concurrent use, even while the load runs.
// Their arguments select the requests that started in [from, to); a zero time means no bound.
type Log[A any] struct {
	mu       sync.Mutex
	requests []Request[A] // the requests in the order of their End
}

func (l *Log[A]) add(r Request[A]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests = append(l.requests, r)
}

// Between returns the requests of the interval [from, to), in the order of their starts.
func (l *Log[A]) Between(from, to time.Time) []Request[A] {
	l.mu.Lock()
	defer l.mu.Unlock()
	var in []Request[A]
	for _, r := range l.requests {
		if (from.IsZero() || !r.Start.Before(from)) && (to.IsZero() || r.Start.Before(to)) {
			in = append(in, r)
		}
	}
	slices.SortFunc(in, func(a, b Request[A]) int { return a.Start.Compare(b.Start) })
	return in
}

// Count returns the number of requests.
func (l *Log[A]) Count(from, to time.Time) int { return len(l.Between(from, to)) }

// Failures returns the failed requests.
func (l *Log[A]) Failures(from, to time.Time) []Request[A] {
	return slices.DeleteFunc(l.Between(from, to), func(r Request[A]) bool { return r.Err == nil })
}

// Repeated returns the number of requests that were sent again because a kept connection was
// closed.
func (l *Log[A]) Repeated(from, to time.Time) int {
	repeated := 0
	for _, r := range l.Between(from, to) {
		if r.Repeated {
			repeated++
		}
	}
	return repeated
}

// First returns the first answered request for which the function "match" returns true. It
// considers only requests that started at the time "from" or later.
func (l *Log[A]) First(from time.Time, match func(Request[A]) bool) (Request[A], bool) {
	for _, r := range l.Between(from, time.Time{}) {
		if r.Err == nil && match(r) {
			return r, true
		}
	}
	return Request[A]{}, false
}

// Last returns the last answered request for which the function "match" returns true. It considers
// only requests that started at the time "from" or later.
func (l *Log[A]) Last(from time.Time, match func(Request[A]) bool) (Request[A], bool) {
	for _, r := range slices.Backward(l.Between(from, time.Time{})) {
		if r.Err == nil && match(r) {
			return r, true
		}
	}
	return Request[A]{}, false
}

// Shares counts the answered requests by the result of the function "key", such as the name of a
// pod, node or cluster.
func (l *Log[A]) Shares(from, to time.Time, key func(Request[A]) string) map[string]int {
	shares := make(map[string]int)
	for _, r := range l.Between(from, to) {
		if r.Err == nil {
			shares[key(r)]++
		}
	}
	return shares
}

// Quantile returns the time within which the share q of the answered requests ended, for example
// the share 0.99. It uses the requests that [Log.Between] returns for the same two times. It
// returns 0 if no request was answered.
func (l *Log[A]) Quantile(from, to time.Time, q float64) time.Duration {
	var took []time.Duration
	for _, r := range l.Between(from, to) {
		if r.Err == nil {
			took = append(took, r.End.Sub(r.Start))
		}
	}
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[min(len(took)-1, int(q*float64(len(took))))]
}

// Err returns nil if no request failed. Otherwise the error has the number of failures, and each
// kind of failure with the time of its first occurrence.
func (l *Log[A]) Err(from, to time.Time) error {
	failed := l.Failures(from, to)
	if len(failed) == 0 {
		return nil
	}
	count := make(map[string]int)
	first := make(map[string]time.Time)
	for _, r := range failed {
		reason := r.Err.Error()
		if count[reason]++; count[reason] == 1 {
			first[reason] = r.Start
		}
	}
	reasons := slices.SortedFunc(maps.Keys(count), func(a, b string) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), strings.Compare(a, b))
	})
	const most = 5
	var b strings.Builder
	for i, reason := range reasons {
		if i == most {
			fmt.Fprintf(&b, "; and %d other reasons", len(reasons)-most)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%d × %s (first at %s)", count[reason], reason, first[reason].Format("15:04:05.000"))
	}
	return fmt.Errorf("httpload: %d of %d requests failed: %s", len(failed), l.Count(from, to), b.String())
}
