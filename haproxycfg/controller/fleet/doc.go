// Package fleet describes the orders that all terminators of a fleet follow: a hold of the declared
// routes, the shifts of routes between clusters, and the trial of new routes on one terminator.
//
//	state, err := fleet.Parse(data)
//	if state.Hold != nil {
//		table, problems, err := state.Hold.Table()
//		…
//	}
//	data, err = state.AppendJSON(nil)
//
// Package controller stores the [State] in a file of its directory, and follows it. A [Store]
// stores one State for several Controllers, each with its own directory; package configmap contains
// such a Store.
//
// # A hold
//
// A [Hold] contains the routes of an earlier time. While there is a hold, a Controller makes its
// configuration from these routes, and not from the latest declarations. It follows everything else
// as usual: nodes, services, certificates, shifts and agents.
//
// # A canary
//
// A [Canary] contains the approved routes, which all terminators serve, and a [Trial] of new routes
// on one terminator. Canary.Next says what a terminator does with its declared routes:
//
//   - The first terminator that stores a Trial serves the new routes. Then it approves them,
//     or withdraws them with a cause.
//   - During the trial, the other terminators serve the approved routes.
//   - If the trial does not end for some time, another terminator begins it anew.
//   - Withdrawn routes are not tried again before somebody has declared other routes. An operator
//     can approve them without another trial.
//
// # What it does not do
//
// A rollback does not bring back the earlier flags of a program, manifests of clusters or
// certificates.
package fleet
