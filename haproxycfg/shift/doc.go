// Package shift moves routes from one cluster to another, step by step. Each step lasts for a time,
// and errors of the new cluster end it early. The state survives a restart.
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
// [Runner.Handler] serves a Runner over HTTP. A [Client] in another process sends requests to this
// handler, and follows a shift to its end.
//
// # Steps and errors
//
// The default steps are 1, 5, 25, 50 and 100%. Each step is held for Order.Hold. While it is held,
// the Runner compares the share of 5xx responses of the target with the share of all other clusters
// of the route. If the share of the target is higher by more than Order.MaxErrors, the shift
// pauses: the route falls back to the last step that was held to its end, or to its declared
// weights if no step was. [Runner.Resume] tries the failed step again. [Runner.Undo] returns to the
// declared weights at once.
//
// Errors count only if the target has had at least Order.MinRequests requests in the step. If the
// counters cannot be read, the step lasts longer: only the time with counters counts.
//
// HAProxy's counters begin with 0 at each reload. A [Window] adds up differences, and begins again
// when a counter falls. After a restart of the program, the Runner holds the current step for the
// whole of Order.Hold again.
//
// # What it does not do
//
// It moves the requests of one HAProxy, and not the requests that an old process still serves after
// a reload. It changes no DNS records and no declared weights: when a shift is done, change the
// declared weights, and undo the shift. It reads only the status of responses: a service that
// answers 200 with a wrong body does not pause a shift.
package shift
