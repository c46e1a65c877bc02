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
// HAProxy chooses the cluster for each request: it draws a random number and compares it with the
// share of the route. So each step also applies to the requests on connections that clients have
// opened before. Package edge renders these rules of HAProxy. A [Control], such as the Controller
// of package controller, stores the [State] and changes the running HAProxy without a reload.
//
// [Runner.Handler] serves a Runner over HTTP. A [Client] in another process sends requests to this
// handler, and follows a shift to its end.
//
// # The end of a shift
//
// Each shift ends by itself: Order.For after the order, the route returns to its declared weights.
// This also happens if no program runs any more, because HAProxy compares the time. To make a shift
// last longer, give the same order again.
//
// # Whole clusters
//
// [Runner.StartCluster] moves all routes of a cluster with one order: to another cluster, or away
// from the cluster. While errors have paused one of these routes, the other ones stay at their
// steps. [State.Stored] contains such an order once, with the names of the routes.
//
// # Servers
//
// HAProxy sends no requests to a cluster if too few of its servers can get requests; see
// edge.Quorum. Start refuses an order for such a cluster. If the servers of the target become too
// few while a shift is moving, the Runner pauses the shift.
//
// # Steps and errors
//
// The default steps are 1, 5, 25, 50 and 100%. The Runner holds each step for Order.Hold. During
// the step, it compares two shares of 5xx responses: the share of the target, and the share of all
// other clusters of the route. If the share of the target is higher by more than Order.MaxErrors,
// the Runner pauses the shift: the route returns to the last step that the Runner has held to its
// end, or to its declared weights if there is no such step. [Runner.Resume] tries the failed step
// again. [Runner.Undo] returns to the declared weights at once.
//
// Errors count only if the target has had at least Order.MinRequests requests in the step. While
// the Runner cannot read the counters, time does not count: the step then lasts longer.
//
// HAProxy's counters begin with 0 at each reload. A [Window] adds up their increases, and also
// works when a counter begins again. After a restart of the program, the Runner holds the current
// step for the whole of Order.Hold again.
//
// # Several Runners
//
// Several Runners may share one State, for example one for each HAProxy of a fleet. Each Runner reads
// the counters of its own HAProxy. The first one that has held a step for Order.Hold begins the next
// step for all of them, and the first one that finds too many errors pauses the shift for all of them.
//
// # What it does not do
//
// A Runner moves only the requests of one HAProxy. It does not move the requests that an old
// process still serves after a reload. It changes no DNS records and no declared weights: if the
// requests shall stay in the new cluster, change the declared weights before the shift ends. It
// reads only the status of responses: if a service answers 200 with a wrong body, the Runner does
// not pause the shift.
package shift
