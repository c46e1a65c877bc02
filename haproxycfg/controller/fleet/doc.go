// Package fleet describes the orders of operators that all terminators of a fleet follow: a hold of
// the declared routes, and the shifts of routes between clusters.
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
// # What it does not do
//
// A rollback does not bring back the earlier flags of a program, manifests of clusters or
// certificates.
package fleet
