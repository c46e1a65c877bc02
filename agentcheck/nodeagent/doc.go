// Package nodeagent answers HAProxy's agent checks on a Kubernetes node. It computes the answers
// from Node and Service objects, and opens one port for each answer.
//
// Every node runs one agent. On a fixed port the agent answers for the node:
//
//	up ready                   the node takes traffic
//	up drain # cordoned        no new traffic; running connections may end
//
// For each Service with the annotation headgate.dev/agent-port, the agent answers on that port. The
// answer combines the Service's weight with the state of the node:
//
//	up ready 50%               headgate.dev/weight: "50"
//	up drain 50% # cordoned    the same Service on a cordoned node
//
// HAProxy asks every few seconds. So a cordon or a changed annotation takes effect within one
// interval, without a new configuration of HAProxy.
//
//   - [Rules.State] is a pure function from the objects of a cluster to the answers of one node.
//   - [Tracker] follows a cluster over time. It remembers drains and weights.
//   - [Watcher] follows a live cluster through its API server, or objects from another source.
//   - [Listeners] opens and closes ports so that they match a [State], and answers from memory.
//   - [Agent] connects a Watcher with Listeners and drains the node on command.
//
// A complete agent:
//
//	agent := nodeagent.Agent{
//		Watcher:   &nodeagent.Watcher{Config: config, Rules: nodeagent.Rules{Node: "node-a"}},
//		Listeners: &nodeagent.Listeners{Host: "10.0.0.1"},
//	}
//	err := agent.Run(ctx)
//
// # Reasons to drain a node
//
// A [Signal] finds a [DrainRequest] in a Node object: a cordon, a deletion, an annotation, a label,
// a taint, or a function of the caller. Other requests come from outside of the cluster: files on
// the node (Watcher.Files) and the requests of the caller (Watcher.SetRequests, Agent.Drain).
//
// A drain begins at once. After the last request has ended, the node is held down: it continues to
// drain for Rules.HoldDown. So a request that comes and goes repeatedly causes one drain. The
// answer shows the hold-down:
//
//	up drain # cordoned; no more, held for 10s
//
// # Limit of draining nodes
//
// At most the share Rules.MaxDrain of the cluster's nodes drains at the same time, rounded down,
// but at least one node. If the share is below 1, at least one node keeps its traffic: the only
// node of a cluster never drains, and one of two nodes may. Further nodes take traffic until a
// place is free:
//
//	up ready # cordoned; waits: 3 of 10 nodes drain, no more than 3 may (30%)
//
// The agents do not communicate. Each agent computes the same order from the objects that all
// agents see: earlier requests first, then the name of the node. The time of a request is the time
// of the taint that Kubernetes adds to a cordoned node, the time of the deletion, or the last write
// of the field by its manager (metadata.managedFields). If none of these is known, it is the time
// when the agent first saw the request.
//
// A node that drains continues until its requests end, even if earlier requests appear or the
// cluster shrinks. If the cluster shrinks to the draining nodes, the last of them takes traffic
// again. A node that is held down counts as draining. Uncounted nodes, such as control planes that
// are excluded from load balancers, do not count, and drain at once. If all nodes are excluded, all
// of them count.
//
// Limitations:
//
//   - Kubernetes keeps times in seconds. A drain can end in favour of another node, with an earlier
//     name, within the second in which it began. Later it can end only in favour of an earlier
//     request of a node that did not count before: a cordoned node that was excluded until now, or a
//     node that the agent saw late.
//   - A Watcher sees other nodes only if the API server can select them, by a field (cordoned nodes)
//     or by a label. It does not see nodes that drain by an annotation, by a taint without a cordon,
//     by a file or by a command, and does not count them. Such a node still waits for the nodes that
//     it sees itself. Use cordons or labels if many nodes may drain at the same time.
//   - An agent that starts does not know which nodes are held down. An agent that has lost the API
//     server, or sees its changes late, uses the last known state.
//   - The share is a share of nodes, not of capacity. Nodes that are not ready count.
//   - All agents of a cluster need the same Signals, MaxDrain and HoldDown.
//
// A node that was deleted from its cluster drains and does not count. But if more nodes than
// MaxDrain are missing at the same time, no further agent treats its node as deleted, and its
// answer says so: probably somebody has deleted all Node objects by mistake, or has restored a
// store without them, while the nodes still serve. A node that already drains continues.
//
// The number of nodes may be out of date. The nodes that the agent sees count in any case. If the
// number is too low, drains wait. If it is too high, which lasts at most a minute after the removal
// of many nodes, more nodes may drain than MaxDrain allows, but never all.
//
// # Weights that fall to 0
//
// A changed weight takes effect at once, with one exception: if the weight falls to 0, the last
// weight above 0 stays in force for Rules.ZeroWeightDelay.
//
//	up ready 50% # weight falls to 0, held for 2.5s
//
// The reason is that HAProxy asks each agent at a different moment. Assume that a Service moves
// between clusters: its weight falls from 100 to 0 in one cluster and rises from 0 to 100 in the
// other. If HAProxy asked the first cluster's agents first, for a moment no server would have a
// weight. The agents cannot see the other cluster. But within one agent-inter, HAProxy has asked
// all agents of the rising Service. So the delay must be longer than agent-inter plus the time
// between the two annotations.
//
// During the delay the agent answers the last weight and not a small one, because HAProxy truncates
// the percentage of a server's configured weight: 9% of 10 is 0. For the same reason, annotate the
// weight 0 if a Service should get no traffic: a small weight may become 0 in HAProxy without a
// delay.
//
// Nothing else is delayed: a weight above 0 and the drain of a Service take effect at once. If
// there was no weight above 0 before, the first answer is 0.
//
// # What an answer overrides
//
// Each answer sets the health and the administrative state. The answer for a Service also sets the
// weight. HAProxy keeps each setting until an answer sets the same one again. So "ready" ends, at
// the next check, a drain or maintenance that somebody set on HAProxy's socket. To take a node or a
// Service out of traffic by hand, annotate it with headgate.dev/drain: "true", or first use
// "disable agent" on HAProxy's socket.
//
// # What happens without an agent
//
// If an agent does not answer, HAProxy keeps the last answer. So a drained node stays drained while
// its agent restarts. A Service without its annotation keeps its last weight until HAProxy gets a
// configuration without this agent check.
//
// If the API server does not answer, the last State stays in force, with State.Err. An agent that
// has no State yet opens no ports, because its answers might be wrong, and the last answers of its
// predecessor are still in force in HAProxy.
package nodeagent
