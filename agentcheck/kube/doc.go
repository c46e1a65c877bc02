// Package kube makes agent-check answers from Kubernetes objects, and gives them
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
// [Listeners] is its effect: it opens and closes ports until they are those of the
// latest state, and answers from memory.
//
//	rules := kube.Rules{Node: "node-a"}
//	listeners := kube.Listeners{Host: "10.0.0.1"}
//	state, err := rules.State(objects)
//	...
//	err = listeners.Update(state)
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
// The package reads objects and never asks an API server; how they are had,
// from files or by a watch, is its user's business.
package kube
