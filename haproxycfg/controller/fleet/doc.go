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
// A [Canary] contains the routes that all terminators serve, the approved routes, and a [Trial] of
// new routes on one terminator. Canary.Next says what a terminator does with its declared routes:
//
//   - The first terminator that stores a Trial serves the new routes. Either it approves them, or it
//     withdraws them, with a cause.
//   - The other terminators serve the approved routes until then. If the terminator with the trial
//     does nothing for some time, another one begins the trial anew.
//   - Routes that are withdrawn are not tried again until somebody approves them, or declares other
//     routes.
//
// # What it does not do
//
// A rollback does not bring back the earlier flags of a program, manifests of clusters or
// certificates.
package fleet
