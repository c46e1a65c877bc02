// Package kubewatch lists and watches the objects of an API server until its context ends.
//
//	clients, err := kubewatch.NewClients(config)
//	…
//	nodes := kubewatch.Source[*corev1.Node]{Client: clients.Core, Resource: "nodes", Transform: trim}
//	nodes.Run(ctx, sink, func(err error) { … })
//
// [Source.Run] first passes the complete list of objects to a [Sink], and then each change. It uses
// the Reflector of client-go, with streaming lists (WatchList) if the server supports them.
//
// Only the sink stores objects. Source.Transform can make each object small when it arrives. The
// API server applies the selectors Source.Fields and Source.Labels.
//
// # Failures
//
// Run continues after every failure: a server that is down or refuses a request, and a watch that
// expires (410), breaks or becomes silent. It tries again after 200 ms, then at growing intervals
// of at most about 5 s.
//
// During a failure, the sink keeps its objects. Afterwards, it gets the changes since the failure
// began. If they come as a new list, the list replaces all objects, and the sink must find the
// differences.
//
// Run finds a connection that is dead but not closed: with HTTP/2, by pings after 45 seconds
// (HTTP2_READ_IDLE_TIMEOUT_SECONDS of client-go). Without HTTP/2, it replaces a watch after two
// minutes of silence; a working API server sends a bookmark every minute.
//
// If no watch has received anything for ten minutes, Run lists again. It must do this because of
// backups: if the server's store has been restored from a backup, watches receive nothing until the
// server's version numbers have reached the numbers that they had before.
//
// # Health
//
// Run calls the health function with an error when a failure begins or its reason changes, and with
// nil when the server answers again. An expired watch is not an error. If the server permits lists
// and forbids watches, Run lists at each attempt, and the error remains.
//
// # What it does not do
//
// It has no index, no event handlers and no resync. Each watch has only one sink. The package does
// not import the clientset, but only the API groups core/v1 and discovery.k8s.io/v1.
package kubewatch
