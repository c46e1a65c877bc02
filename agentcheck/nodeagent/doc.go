// Package nodeagent makes agent-check answers from Kubernetes objects, and gives them
// on every port that a node has to answer on.
//
// Every node runs one agent. On a fixed port it answers for the node:
//
//	up ready                   the node takes traffic
//	up drain # cordoned        no new traffic; what is under way may end
//
// and for each Service with the annotation headgate.dev/agent-port on a port of
// its own, with the Service's weight and the state of the node together:
//
//	up ready 50%               headgate.dev/weight: "50"
//	up drain 50% # cordoned    the same on a cordoned node
//
// HAProxy asks every few seconds, so a cordon or a changed annotation is in force
// within one interval, with no new configuration.
//
// [Rules.State] is pure: the objects of a cluster in, the answers of one node out.
// [Tracker] is pure but for what it remembers, and follows a cluster over time.
// [Watcher] follows a live one through its API server, or objects from elsewhere.
// [Listeners] is the effect of a [State]: it opens and closes ports until they are
// those of the latest one, and answers from memory.
//
//	listeners := nodeagent.Listeners{Host: "10.0.0.1"}
//	watcher := nodeagent.Watcher{Config: config, Rules: nodeagent.Rules{Node: "node-a"}}
//	err := watcher.Run(ctx, func(state nodeagent.State) {
//		if err := listeners.Update(state); err != nil {
//			…
//		}
//	})
//
// # What drains a node
//
// Any [Signal] does: a cordon, a deletion, an annotation, a label, a taint, or a
// function of one's own. What no object shows, such as a file on the node ([File])
// or a command, comes beside them as an [Ask].
//
// A drain begins at once. It ends when its signals have been away for
// Rules.HoldDown, so that what flaps is one drain. The answer says so:
//
//	up drain # cordoned; no more, held for 10s
//
// # How many drain
//
// Never more than the share Rules.MaxDrain of the cluster's nodes, rounded down, but
// one in any case; and never all of them, unless the share is all. So the only node
// of a cluster does not drain, and of two or three one may. Further ones go on taking
// traffic until there is room:
//
//	up ready # cordoned; waits: 3 of 10 nodes drain, no more than 3 may (30%)
//
// Those that asked first come first. Agents do not talk to each other; each computes
// the same order from the objects that all of them see: the time of the taint that
// Kubernetes adds to a cordoned node, of a deletion, of the last write of the field
// that carries the signal (metadata.managedFields), and where none is known, when the
// agent saw it first; then the name. A node that drains goes on until its signals
// end, whatever asks later, and if the cluster shrinks; but if the cluster shrinks to
// those that drain, the last of them takes traffic again. A node that is held down still
// counts. Nodes that are Outside, such as control planes that are excluded from load
// balancers, are not counted, and drain whenever they are asked to, unless all nodes are.
//
// What this cannot do:
//
//   - Times are told to the second. A drain can be taken back for another, of an
//     earlier name, within the second in which it began. Later only for one that asked
//     before it and did not count until now: a cordoned node that was excluded and is
//     not any more, or a node that was seen late.
//   - A Watcher sees of other nodes those that the API server can select: by a field
//     (cordoned) or by a label. A node that is drained by its annotation, by a taint
//     without a cordon, by a file or a command is not seen, nor counted, by the others.
//     It waits for those that it sees itself. Drain by cordon or label where many may
//     drain at once.
//   - An agent that starts does not know what is held down. Agents that have lost the
//     API server, or see it later than others, go on with what they last saw.
//   - The share is one of nodes, not of capacity, and nodes that are not ready count.
//   - The agents of a cluster need the same Signals, MaxDrain and HoldDown.
//
// A node that is gone from its cluster drains, and is none of those that count. But
// where more nodes are gone at the same time than may drain, none of the further ones
// believes it, and each says so: most likely somebody has deleted all nodes by a slip, or
// restored a store without them, while all of them serve. One that drains goes on.
//
// A number of nodes that is out of date counts no less than the nodes that are seen. One
// that is too low makes drains wait; one that is too high, for a minute at most after
// many nodes have been removed, lets more of them begin, though never all.
//
// # Weights that fall to 0
//
// A weight is answered as soon as it is annotated, but for one that falls to 0: the last
// weight above 0 stays in force for another Rules.ZeroDelay.
//
//	up ready 50% # weight falls to 0, held for 2.5s
//
// For HAProxy asks each agent at a moment of its own. If a Service goes from 100 to 0 in
// one cluster while it goes from 0 to 100 in another, those who fall may well be asked
// before those who rise, and until then no server would have any weight. An agent cannot
// see other clusters, but within an agent-inter HAProxy has asked all who rise. So the
// delay is to be longer than that, by what may lie between the two annotations. A small
// weight instead of the last one would not do: HAProxy cuts the fraction of a percentage
// of a server's own weight, and 9% of 10 is 0 too. For that reason a weight that is to
// be none should be annotated as 0.
//
// Nothing else is delayed: not a weight that rises again meanwhile, nor a drain, of the
// Service's too. Where no weight above 0 was answered before, 0 is the first answer.
//
// # What an answer asserts
//
// Answers always name health and administrative state, those of a Service its
// weight too, because HAProxy keeps each of the three until an answer changes that
// same one. So "ready" takes back, at the next check, a drain or maint that
// somebody set over HAProxy's own socket. To hold a node or a Service out of
// traffic by hand, annotate it with headgate.dev/drain: "true", or stop HAProxy
// from asking ("disable agent" on its socket) first.
//
// # What happens when it ends
//
// To HAProxy an agent that is gone changes nothing: the last answer stays in
// force. So a node that was drained stays drained while its agent restarts, and a
// Service whose annotation is removed keeps its last weight until HAProxy gets a
// configuration without its agent.
//
// The same goes for the API server. While it is away the last state stays in force,
// with State.Err.
// An agent that has no state yet does not answer: what it would say might be wrong,
// and what was said last is still in force.
package nodeagent
