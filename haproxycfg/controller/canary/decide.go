package canary

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// Defaults of a Policy.
const (
	DefaultFor         = 2 * time.Minute
	DefaultMinRequests = 50
	DefaultMaxErrors   = 0.01
	DefaultMaxFailures = 3
)

// Policy says how long a change is observed, and which errors withdraw it. The zero Policy has the
// defaults.
type Policy struct {
	// For is the time for which a change is observed; 0 means DefaultFor, 2 minutes.
	For time.Duration
	// MinRequests is the smallest number of responses at which Decide compares a backend. The
	// errors of a backend with fewer responses do not count. 0 means DefaultMinRequests, 50.
	MinRequests uint64
	// MaxErrors is the largest permitted rise of the share of errors: 0.01 permits a rise from 2 to
	// 3 percent. A rise that chance can cause is permitted in addition; see Decide. 0 means
	// DefaultMaxErrors, 0.01.
	MaxErrors float64
	// MaxFailures is the number of failures in a row at which a probe withdraws the change. 0 means
	// DefaultMaxFailures, 3.
	MaxFailures int
}

// Length returns the time for which a change is observed.
func (p Policy) Length() time.Duration { return cmp.Or(p.For, DefaultFor) }

// Verdict is the result of Decide.
type Verdict string

// These are the verdicts.
const (
	Undecided Verdict = "undecided" // the observation must go on
	Approved  Verdict = "approved"  // the change does no harm
	Withdrawn Verdict = "withdrawn" // the change does harm
)

// Failure is a probe that fails.
type Failure struct {
	Probe string // Probe.String
	// Rounds is the number of failures in a row.
	Rounds int
	// Err is the reason of the last failure.
	Err string
}

// Observation contains the results of the probes and the counters since a change came into force.
type Observation struct {
	// Counted is the time since the change came into force, without the time in which the counters
	// could not be read.
	Counted time.Duration
	// Failing are the probes that fail now, without the probes that failed before the change.
	Failing []Failure
	// Before are the counters of each backend in the minutes before the change. Before is nil if
	// they are unknown, for example after a restart of the program. Then Decide compares only the
	// sum of all backends with Total, the sum before the change.
	Before Counts
	Total  Counters
	// After are the counters of each backend since the change.
	After Counts
}

// Decide returns the verdict about a change, and the cause if the verdict is Withdrawn.
//
// A backend that had no responses before the change is compared with the sum of all backends before
// the change.
//
// The share of errors also varies by chance, above all if there are few responses. So errors
// withdraw a change only if their share rises by more than MaxErrors plus four standard deviations
// of the difference.
//
// Chance alone exceeds four standard deviations only in one of 30,000 comparisons. The limit is so
// high because each round of an observation compares all backends, and there may be hundreds.
func (p Policy) Decide(o Observation) (verdict Verdict, cause string) {
	for _, f := range o.Failing {
		if f.Rounds >= cmp.Or(p.MaxFailures, DefaultMaxFailures) {
			return Withdrawn, fmt.Sprintf("the probe %s failed %d times in a row: %s", f.Probe, f.Rounds, f.Err)
		}
	}
	if cause := p.compare(o); cause != "" {
		return Withdrawn, cause
	}
	if o.Counted < p.Length() || len(o.Failing) > 0 {
		return Undecided, ""
	}
	return Approved, ""
}

// compare describes the first backend whose errors have risen too much. Without such a backend, it
// returns "".
func (p Policy) compare(o Observation) (cause string) {
	if o.Before == nil {
		return p.compareOne("all backends", o.Total, o.After.Sum())
	}
	total := o.Before.Sum()
	for _, name := range slices.Sorted(maps.Keys(o.After)) {
		before, ok := o.Before[name]
		if !ok || before.Responses == 0 {
			before = total
		}
		if cause := p.compareOne("backend "+name, before, o.After[name]); cause != "" {
			return cause
		}
	}
	return ""
}

func (p Policy) compareOne(name string, before, after Counters) (cause string) {
	if after.Responses < cmp.Or(p.MinRequests, DefaultMinRequests) {
		return ""
	}
	most := cmp.Or(p.MaxErrors, DefaultMaxErrors)
	for _, kind := range []struct {
		what          string
		before, after uint64
	}{
		{"5xx responses", before.Errors, after.Errors},
		{"failed connections to servers", before.ConnErrors, after.ConnErrors},
	} {
		was, is := share(kind.before, before.Responses), share(kind.after, after.Responses)
		both := min(1, share(kind.before+kind.after, before.Responses+after.Responses))
		deviation := math.Sqrt(both * (1 - both) * (1/float64(after.Responses) + 1/float64(max(1, before.Responses))))
		if is-was > most+deviations*deviation {
			return fmt.Sprintf("%s: %d %s at %d responses (%.1f%%), and %d at %d (%.1f%%) before",
				name, kind.after, kind.what, after.Responses, 100*is, kind.before, before.Responses, 100*was)
		}
	}
	return ""
}

// deviations is the number of standard deviations up to which a rise of the share of errors counts
// as chance.
const deviations = 4

func share(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}
