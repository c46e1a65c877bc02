// Package nodeagent answers HAProxy's agent checks on a Kubernetes node. It computes the answers
// from Node and Service objects, and opens one port for each answer.
//
// Every node runs one agent. On a fixed port, the agent gives the answer for the node:
//
//	up ready                   the node takes traffic
//	up drain # cordoned        the node gets no new traffic; running connections continue
//
// For each Service with the annotation headgate.dev/agent-port, the agent also opens the port in
// this annotation. The answer on this port combines the weight of the Service with the state of the
// node:
//
//	up ready 50%               headgate.dev/weight: "50"
//	up drain 50% # cordoned    the same Service on a cordoned node
//
// A cordon or a changed annotation has its effect at HAProxy's next agent check, within
// agent-inter. HAProxy needs no new configuration.
//
//   - [Rules.State] is a pure function that computes the answers for one node from the objects of a
//     cluster.
//   - [Tracker] follows a cluster over time. It remembers earlier drains and weights.
//   - [Watcher] follows a live cluster through its API server, or objects from another source.
//   - [Listeners] opens one port for each answer of a [State], and answers HAProxy from memory.
//   - [Agent] passes the States of a Watcher to Listeners, and drains the node on command.
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
// a taint, or the result of a function that the caller provides. There are two other sources of
// requests: files on the node (Watcher.Files), and calls of the program (Watcher.SetRequests,
// Agent.Drain).
//
// A drain begins immediately, unless too many nodes drain (see below). When the last request has
// ended, the node is held down: it continues to drain for Rules.HoldDown. Then a request that
// appears and ends repeatedly causes only one drain. During the hold-down the answer is:
//
//	up drain # cordoned; no more, held for 10s
//
// # Limit of draining nodes
//
// Rules.MaxDrain is the share of the cluster's nodes that may drain at the same time, rounded down,
// but at least one node. If the share is below 1, one node always keeps its traffic, so the only
// node of a cluster never drains. A node that waits for other nodes still receives traffic, and
// answers:
//
//	up ready # cordoned; waits: 3 of 10 nodes drain, no more than 3 may (30%)
//
// The agents do not communicate. Each agent reads the same objects, and puts the nodes with
// requests in the same order: by the time of the request, then by the name of the node. The time of
// a request is the first of these times that is known:
//
//   - for a cordon, the time of the taint that Kubernetes adds to a cordoned node
//   - for a deletion, the time of the deletion
//   - the last write of the field that contains the request (metadata.managedFields)
//   - the time when the agent first saw the request
//
// A node that drains continues until its requests end, with two exceptions. If the cluster shrinks
// until all its nodes drain, the node that is last in the order receives traffic again. A node also
// stops draining if an earlier request appears late: see the limitations. A node that is held down
// counts as a node that drains.
//
// A node that is excluded from load balancers, such as a control plane, drains immediately and does
// not count for the limit. If all nodes of a cluster are excluded, all of them count.
//
// Limitations:
//
//   - Kubernetes keeps times in whole seconds. If two requests have the same second, the names of
//     the nodes decide. So a node can begin to drain and stop again within this second. After this
//     second, an earlier request appears only if an agent saw it late, or if its node was excluded
//     until now.
//   - A Watcher sees other nodes only if the API server can select them by a field (cordoned nodes)
//     or by a label. It does not count other nodes that drain because of an annotation, a taint
//     without a cordon, a file or a command. If many nodes may drain at the same time, use cordons
//     or labels.
//   - An agent that starts does not know which nodes are held down, so it does not count them.
//   - MaxDrain is a share of the number of nodes, not of their capacity. Nodes that are not ready
//     count too.
//   - All agents of a cluster need the same Signals, MaxDrain and HoldDown.
//
// If the Node object of a node is deleted, the node drains and does not count for the limit. But if
// more nodes than MaxDrain allows are missing, the agents treat no further node as deleted:
// probably somebody has deleted Node objects by mistake, and the nodes still serve.
//
// After the removal of many nodes, an agent can use a number of nodes that is too high, for at most
// 1 min. In this time, more nodes than MaxDrain allows can drain, but never all.
//
// # Weights that fall to 0
//
// A changed weight takes effect immediately, with one exception: if the annotated weight falls to
// 0, the last weight above 0 stays in force for Rules.ZeroWeightDelay. The answer shows this:
//
//	up ready 50% # weight falls to 0, held for 2.5s
//
// The delay protects a Service that moves from cluster A to cluster B: somebody annotates the
// weight 0 in A and the weight 100 in B. If HAProxy checked the agents of A first, all servers
// would have the weight 0 for a moment. So the delay must be longer than agent-inter plus the time
// between the two annotations.
//
// If a Service should receive no traffic, annotate the weight 0, and not a small weight. HAProxy
// rounds weights down (9% of 10 is 0), and a small weight has no delay.
//
// If a Service has the weight 0 when the agent starts, the first answer has the weight 0.
//
// # What an answer overrides
//
// Each answer sets the health and the administrative state, and the answer for a Service also sets
// the weight. So the next answer "ready" ends a drain or maintenance that an operator set through
// HAProxy's socket. To drain a node or a Service by hand, annotate it with headgate.dev/drain:
// "true", or send "disable agent" to the socket first.
//
// # What happens without an agent
//
// If an agent does not answer, HAProxy keeps the last answer. So a drained node stays drained while
// its agent restarts. If the annotation of a Service is removed, HAProxy keeps the last weight
// until HAProxy gets a configuration without this agent check.
//
// If the API server does not answer, the agent keeps the answers of the last State, and sets
// State.Err. An agent that has no State yet opens no ports, so HAProxy keeps the last answers of
// the previous agent.
package nodeagent
