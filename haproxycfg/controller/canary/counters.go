package canary

import (
	"time"

	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// Counters are numbers of one backend, or of several backends together.
type Counters struct {
	// Responses counts the HTTP responses, and Errors the responses with a status of 5xx.
	// ConnErrors counts the failed connections to servers. HAProxy may retry a connection, so a
	// failed connection is not always a failed request.
	Responses, Errors, ConnErrors uint64
}

func (c Counters) plus(d Counters) Counters {
	return Counters{c.Responses + d.Responses, c.Errors + d.Errors, c.ConnErrors + d.ConnErrors}
}

// Counts are the Counters of each backend. The keys are the names of the backends.
type Counts map[string]Counters

// Sum returns the sum of all backends.
func (c Counts) Sum() (sum Counters) {
	for _, x := range c {
		sum = sum.plus(x)
	}
	return sum
}

// Add adds the counters of d to c. c must not be nil.
func (c Counts) Add(d Counts) {
	for name, x := range d {
		c[name] = c[name].plus(x)
	}
}

// FromStats returns the counters in the rows of "show stat", for each backend with a response or a
// failed connection.
func FromStats(rows []runtimeapi.Stat) Counts {
	counts := Counts{}
	for i := range rows {
		row := &rows[i]
		if row.Server != "BACKEND" {
			continue
		}
		x := Counters{Errors: row.Responses[5], ConnErrors: row.ConnErrors}
		for _, n := range row.Responses {
			x.Responses += n
		}
		if x != (Counters{}) {
			counts[row.Proxy] = x
		}
	}
	return counts
}

// Meter turns the counters of HAProxy, which count from its start, into the counters of periods. The
// zero Meter has read nothing yet.
type Meter struct {
	last Counts
}

// Read returns what HAProxy has counted since the last call of Read. The argument "now" contains
// the present counters of HAProxy. The first call returns no counters. A counter that is smaller
// than before began with 0 at a reload of HAProxy, so Read returns all of it.
func (m *Meter) Read(now Counts) Counts {
	since := Counts{}
	for name, x := range now {
		if m.last == nil {
			break
		}
		last := m.last[name]
		if x.Responses < last.Responses || x.Errors < last.Errors || x.ConnErrors < last.ConnErrors {
			last = Counters{}
		}
		if x != last {
			since[name] = Counters{x.Responses - last.Responses, x.Errors - last.Errors, x.ConnErrors - last.ConnErrors}
		}
	}
	m.last = now
	return since
}

// Recent is the sum of Counts over a recent period, which lasts at least Length, and less than
// twice Length.
type Recent struct {
	Length time.Duration

	begun       time.Time
	older, last Counts
}

// Add adds the counts of a period that ends at the time "now".
func (r *Recent) Add(now time.Time, c Counts) {
	if r.last == nil || now.Sub(r.begun) >= r.Length {
		r.older, r.last, r.begun = r.last, Counts{}, now
	}
	r.last.Add(c)
}

// Counts returns the sum. It is never nil.
func (r *Recent) Counts() Counts {
	sum := Counts{}
	sum.Add(r.older)
	sum.Add(r.last)
	return sum
}
