// Package shift moves the requests of a route from one cluster to another, step by step. Each step
// lasts for a time, and errors of the new cluster end it early. The state survives a restart.
//
//	order, err := shift.ParseOrder("api.example.com/tracks", "eu-2:100")
//	order.For = shift.Duration(2 * time.Hour)
//	...
//	runner := &shift.Runner{Control: controller, Counters: counters}
//	go runner.Run(ctx)
//	err = runner.Start(ctx, order)
//
// HAProxy chooses the cluster for each request with a random number, so a step also applies to
// connections that clients have opened before. Package edge renders these rules of HAProxy. A
// [Control], such as the Controller of package controller, stores the [State] and changes the
// running HAProxy without a reload.
//
// [Runner.Handler] serves a Runner over HTTP. A [Client] sends requests to this handler.
//
// # The end of a shift
//
// A shift ends by itself: when the time Order.For has passed since the order, the route returns to
// its declared weights. HAProxy itself compares the time, so the shift ends even if no program runs
// any more. To make a shift last longer, give the same order again.
//
// # Whole clusters
//
// [Runner.StartCluster] moves all routes of a cluster with one order. While errors have paused one
// of these routes, all other routes stay at their steps.
//
// # Servers
//
// HAProxy sends no requests to a cluster if too few of its servers can get requests; see
// edge.Quorum. Start refuses an order for such a cluster. If the servers of the target become too
// few while a shift is moving, the Runner pauses the shift.
//
// # Steps and errors
//
// The default steps are 1, 5, 25, 50 and 100%, and each lasts for Order.Hold. During a step, the
// Runner compares the share of 5xx responses of the target with that of all other clusters of the
// route. If the difference exceeds Order.MaxErrors, the Runner pauses the shift: the route returns
// to the last step that it has completed, or else to its declared weights. [Runner.Resume] tries
// the failed step again. [Runner.Undo] returns to the declared weights at once.
//
// Errors count only after Order.MinRequests requests to the target in the step. While the Runner
// cannot read the counters, time does not count.
//
// A [Window] adds up the increases of HAProxy's counters, which begin with 0 at each reload. After
// a restart of the program, the current step lasts for the whole of Order.Hold again.
//
// # Several Runners
//
// Several Runners may share one State, for example one for each HAProxy of a fleet. The first
// Runner that has completed a step begins the next step for all, and the first that finds too many
// errors pauses the shift for all.
//
// # What it does not do
//
// A Runner does not move the requests that an old process still serves after a reload. It changes
// no DNS records and no declared weights. It reads only the status of responses, so a service that
// answers 200 with a wrong body does not pause the shift.
package shift
