// Package shift moves routes from one cluster to another, step by step: a schedule of steps, each
// held for a time and ended by an error rate, and the state that survives a restart.
//
//	order, err := shift.ParseOrder("api.example.com/tracks", "eu-2:100")
//	...
//	runner := &shift.Runner{Control: controller, Counters: counters}
//	go runner.Run(ctx)
//	err = runner.Start(ctx, order)
//
// A route moves by request: HAProxy draws a number for each request and compares it with the share of
// the route, so the requests on kept connections follow each step. Package edge renders the rules.
// A [Control], such as the Controller of package controller, stores the [State] and changes the
// running HAProxy without a reload.
//
// # Steps and errors
//
// The default steps are 1, 5, 25, 50 and 100%. Each step is held for Order.Hold. While it is held, the
// Runner compares the share of 5xx responses of the target with that of all other clusters of the
// route. If the share of the target is higher by more than Order.MaxErrors, the shift pauses: the
// route falls back to the last step that was held to its end, or to its declared weights if there is
// none. [Runner.Resume] tries the failed step again. [Runner.Undo] returns to the declared weights at
// once.
//
// A step in which the target has had fewer than Order.MinRequests requests is not judged. If the
// counters cannot be read, the step lasts longer: only the time with counters counts.
//
// HAProxy's counters begin with 0 at each reload. A [Window] adds up differences, and begins again
// when a counter falls. After a restart of the program, the present step is held from its beginning.
//
// # What it does not do
//
// It moves the requests of one HAProxy, and not those of processes that a reload has replaced. It changes no DNS records and no declared weights: when a
// shift is done, change the declared weights, and undo the shift. It knows only the status of
// responses: a service that answers 200 with a wrong body moves on.
package shift
