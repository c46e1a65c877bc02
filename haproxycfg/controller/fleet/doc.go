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
// Package controller stores the [State] in a file of its directory, and follows it. A [Store] stores
// one State for several Controllers, each with its own directory; package configmap contains one.
//
// # A hold
//
// A [Hold] contains the routes of an earlier time. While there is a hold, a Controller makes its
// configuration from these routes, and not from the latest declarations. The hold contains the
// routes themselves, because a terminator whose journal does not reach back so far must follow the
// hold too.
//
// The Controller follows everything else as usual:
//
//   - Nodes, services, their node ports and their annotations: if a node port now belongs to another
//     service, or a node is gone, the old server would fail or lead clients to the wrong service.
//   - Certificates: an old certificate expires.
//   - Shifts, agents and the states of servers.
//
// # What it does not do
//
// The package contains no Store. A hold does not contain the flags of a program, the manifests of
// clusters or certificates, so a rollback does not bring back their earlier values.
package fleet
