// Package canary decides whether new routes of an HAProxy do harm. It compares the answers to
// probes, and the errors that HAProxy counts, with those before the change.
//
//	policy := canary.Policy{For: 2 * time.Minute}
//	verdict, cause := policy.Decide(canary.Observation{
//		Counted: 90 * time.Second,
//		Before:  canary.Counts{"shop": {Responses: 9000, Errors: 3}},
//		After:   canary.Counts{"shop": {Responses: 8000, Errors: 720}},
//	})
//
// A [Meter] turns the counters of HAProxy into [Counts] of a period, also over a reload. A [Prober]
// sends the probes to an HAProxy.
//
// Package controller observes a change with this package; package fleet contains the state of the
// change that all terminators follow.
//
// # What it does not do
//
// The package does not measure the time of responses. It sees only what one HAProxy sees: an error
// that no probe and no client of this HAProxy causes stays unknown.
package canary
