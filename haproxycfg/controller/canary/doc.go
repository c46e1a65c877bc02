// Package canary decides whether new routes of an HAProxy do harm. It compares the answers to
// probes, and the errors that HAProxy counts, before and after the change to the new routes.
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
// Package controller observes a change with this package. Package fleet describes which routes are
// tried or approved, so that all terminators of a fleet follow the result.
//
// # What it does not do
//
// The package does not measure the time of responses. It sees only errors of the requests that
// its probes and the clients of one HAProxy send.
package canary
