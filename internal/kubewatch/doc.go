// Package kubewatch lists and watches what an API server holds, and keeps at it.
//
//	clients, err := kubewatch.NewClients(config)
//	…
//	nodes := kubewatch.Source[*corev1.Node]{Client: clients.Core, Resource: "nodes", Transform: strip}
//	nodes.Run(ctx, sink, func(err error) { … })
//
// [Source.Run] gives the whole list to a [Sink], then every change, over the
// Reflector of client-go: one streaming list where the server has it (WatchList), a
// list and a watch elsewhere. Nothing is stored here: there is one copy of each
// object, the sink's, and Source.Transform sees to it that it is a small one, before
// anything else is made of it. What an API server is asked for depends on Fields and
// Labels, so that it sends no more than is wanted.
//
// # What is survived
//
// Everything until the context ends: a server that is down, one that refuses, a watch
// that expires (410), is cut off or goes silent. It is tried again after 200 ms, then
// more and more rarely, but at least every 5 s or so, so that what changed while the
// server was away is known within seconds of its return. The sink keeps what it has
// meanwhile; the list that follows replaces it, and it is up to the sink to see what
// is different.
//
// A connection that swallows everything is found by the pings of HTTP/2 (after 45 s,
// see HTTP2_READ_IDLE_TIMEOUT_SECONDS of client-go), and without HTTP/2 by a watch
// that has been silent for two minutes: API servers send a bookmark every minute, and
// one that does not is merely asked anew. If no watch has said anything for ten minutes,
// it is listed: a server whose store was restored as it was some time ago sends nothing
// until it has come as far again.
//
// # Health
//
// The health function is told of an error when one begins or its reason becomes
// another, and nil when the server answers again. An expired watch is no error: it is
// how a server says that it wants to be listed, and it is. Where lists are permitted and
// watches are not, each attempt is a list, so that the sink is seconds behind; the error
// stands all the same.
//
// # What it does not do
//
// It has no index, no event handlers, no resync, no several listeners for one watch,
// and it compiles neither the clientset nor any API group but core/v1 and
// discovery.k8s.io/v1.
package kubewatch
