// Package disruption decides which nodes of a cluster may go now: for a reboot, an upgrade or a
// replacement. The subset of a service is the list of nodes to which balancers send its requests.
// The package knows the subset of every service, so it can keep enough nodes for each service:
//
//	state, err := disruption.New(disruption.Budget{}, nodes, selection.Subsets())
//	…
//	state.Away("worker-7")            // it is not ready
//	answer := state.Take("worker-12") // may it go? If so, it counts as away from now on
//	if !answer.OK {
//		fmt.Println(answer) // no: service media/tracks: 2 away and 1 named, of at most 2
//	}
//	next := state.Wave(state.Nodes(), disruption.DefaultSteps) // as many as possible that may go at the same time
//
// Without the subsets, a number of nodes that is safe for every service is very small: with 1,000
// nodes and 2,000 services on 20 nodes each, ten random nodes include three nodes of the same
// service more often than not. With the subsets, about 50 nodes may go at a time, and no service
// loses more than two of its nodes.
//
// # Only the next wave
//
// [State.Wave] returns the nodes that may go now, and no plan for later: when the nodes of a wave
// are replaced, other nodes enter the subsets. With the numbers above, 27 of 30 waves of a plan
// would exceed the limit. [State.Estimate] estimates how many waves it takes to replace all nodes.
//
// # Where a deployment is cheap
//
// Waves are for balancers whose configuration changes rarely or by hand. If balancers use a new
// configuration within seconds, you can remove any set of nodes: exclude them from all subsets,
// wait until all balancers use the new configuration, and then remove them. [State.May] allows
// this.
//
// # Rules
//
// A node that is away counts for each service whose subset contains it. [Budget] limits the number
// of such nodes of a service, and optionally of a service and zone. A node may go if its removal
// makes no service exceed a limit; if failures exceed the limit of a service, no further node of
// this service may go. A node in no subset may always go, and counts for no limit.
//
// A fleet of balancers may use several configurations at the same time. Pass the subsets of each to
// [New]: a node may go only if all of them allow it.
//
// # Contract
//
// All results depend only on the calls and their order: the package uses no clock and no global
// random numbers. The order of nodes does not matter. Only one goroutine may use a [State] at a
// time.
//
// # What it does not do
//
// It does not observe nodes: the caller reports them with [State.Away] and [State.Return]. It does
// not consider the load of a node or of a service. It does not count pods; that is the job of a
// PodDisruptionBudget.
package disruption
