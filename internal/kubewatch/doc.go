// Package kubewatch lists and watches the objects of an API server until its context ends.
//
//	clients, err := kubewatch.NewClients(config)
//	…
//	nodes := kubewatch.Source[*corev1.Node]{Client: clients.Core, Resource: "nodes", Transform: trim}
//	nodes.Run(ctx, sink, func(err error) { … })
//
// [Source.Run] first passes the complete list of objects to a [Sink], and then each change. It uses
// the Reflector of client-go. If the server supports streaming lists (WatchList), the Reflector
// sends one such request. Otherwise it sends a list and then a watch.
//
// The package stores no objects: only the sink has a copy. Source.Transform can make each object
// small when it arrives. The API server applies the selectors Source.Fields and Source.Labels, so
// it sends only the selected objects.
//
// # Failures
//
// Run continues after every failure: when the server is down or refuses a request, and when a watch
// expires (410), breaks or becomes silent. It tries again after 200 ms, then at growing intervals
// of at most about 5 s. During the failure, the sink keeps its objects. A few seconds after the
// server answers again, the sink gets the changes since the start of the failure. If they come as a
// new list, the list replaces all objects, and the sink must find the differences.
//
// Run finds a connection that is dead but not closed. With HTTP/2, pings find it after 45 seconds
// (HTTP2_READ_IDLE_TIMEOUT_SECONDS of client-go). Without HTTP/2, Run replaces a watch that has
// been silent for two minutes; a working API server sends a bookmark every minute.
//
// If no watch has received anything for ten minutes, Run lists again. This helps if the server's
// store was restored from a backup: the watches are silent until the server's version numbers reach
// the old ones.
//
// # Health
//
// Run calls the health function with an error when a failure begins, and again when its reason
// changes. It calls the function with nil when the server answers again. An expired watch is not an
// error, because an API server uses it to make clients list again. If the server permits lists and
// forbids watches, Run sends a list at each attempt. Then the sink gets changes some seconds late,
// and the error remains.
//
// # What it does not do
//
// It has no index, no event handlers and no resync. Each watch has only one sink. A program that
// imports this package does not compile the clientset. Of the API groups, it compiles only core/v1
// and discovery.k8s.io/v1.
package kubewatch
