// Package gate decides which nodes of a cluster may go now, that is, which nodes somebody may
// cordon, restart or delete. It decides from the configurations that balancers have in force, the
// states of the nodes, and the grants (permissions to take a node away) of others.
//
//	applied, err := gate.ParseReport("edge-1", data, "eu-1") // report.json of a terminator
//	…
//	g, err := gate.New(gate.Input{Applied: []gate.Applied{applied}, Nodes: nodes, Grants: grants, Now: now})
//	…
//	if answer := g.May("worker-7"); !answer.OK {
//		fmt.Println(answer)
//	}
//
// Package disruption computes the limits. Package gate finds the nodes that are away, and decides
// when a grant begins and ends.
//
// # Which nodes are away
//
// A node counts as away while it is cordoned, drained, not Ready, deleted, or granted. A node may
// go if it and all nodes that are away exceed no limit. A node that is away without a grant may
// still serve, for example if only its kubelet has failed. So there is a second rule: the node and
// all granted nodes must exceed no limit. This rule ignores nodes that are away without a grant, so
// that the nodes of a failed zone can be replaced.
//
// A node that no applied configuration contains may go at any time. So if the balancers use a new
// configuration within seconds, exclude nodes from the configuration first.
//
// If several configurations are in force, for example because one terminator lags behind, a node
// may go only if all of them allow it.
//
// # Grants
//
// A grant permits its holder to take a node away within the TTL of the grant. The node counts as
// away from the moment of the grant. A grant ends in these cases, see [Grant.Observe]:
//
//   - the holder releases it;
//   - no applied configuration has the node any more;
//   - the node was away, is present again, and its agent has answered "up" for the time of the
//     hold-down, which is 1 minute by default;
//   - the TTL is over, and the node was never away.
//
// Once the node has gone, no time limit ends its grant. If a grant is Manual, only its holder ends
// it.
//
// A node that comes back without a grant is present at once, without a hold-down. So if a program
// takes a node away without a grant, it should record a grant for the node afterwards; see
// [Gate.Record].
//
// # Contract
//
// Package gate is pure: it uses no clock, socket, file or Kubernetes client. If the Input does not
// show whether a node may go, for example because no configuration has any subset, New returns an
// error, and the caller must not let any node go.
//
// # What it does not do
//
// Package gate does not store grants, and does not keep two callers from deciding at the same time:
// use package leases. A terminator may choose a node for its next configuration after a Gate has
// answered that no configuration contains the node. Package gate counts no pods.
package gate
