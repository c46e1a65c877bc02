// Package kubewatch lists and watches the objects of an API server until its context ends.
//
//	clients, err := kubewatch.NewClients(config)
//	…
//	nodes := kubewatch.Source[*corev1.Node]{Client: clients.Core, Resource: "nodes", Transform: trim}
//	nodes.Run(ctx, sink, func(err error) { … })
//
// [Source.Run] passes the complete list to a [Sink], and then each change. It uses the Reflector of
// client-go: one streaming list (WatchList) if the server supports it, otherwise a list and a
// watch. The package stores no objects, so only the sink's copy exists. Source.Transform makes that
// copy small before anything else holds the object. Fields and Labels select objects in the API
// server, so the server sends only those.
//
// # Failures
//
// Run survives every failure: a server that is down or refuses, and a watch that expires (410), is
// cut off or becomes silent. It tries again after 200 ms, then at growing intervals of at most
// about 5 s. So it knows the changes during an outage within seconds of the server's return. The
// sink keeps its objects during the outage. The next list replaces them, and the sink finds the
// differences.
//
// Two mechanisms find a connection that is dead but not closed. With HTTP/2, pings find it after 45
// seconds (HTTP2_READ_IDLE_TIMEOUT_SECONDS of client-go). Without HTTP/2, Run ends a watch that is
// silent for two minutes and opens a new one; an API server that works sends a bookmark every
// minute. If no watch has received anything for ten minutes, Run lists again. This finds a server
// whose store was restored from a backup: its watches are silent until its version numbers reach
// the old ones.
//
// # Health
//
// Run calls the health function with an error when a failure begins and when its reason changes,
// and with nil when the server answers again. An expired watch is not an error, because the API
// server ends watches in this way to make clients list again. If the server permits lists but no
// watches, each attempt is a list: the sink is some seconds late, and the error stays.
//
// # What it does not do
//
// It has no index, no event handlers, no resync, and one sink for each watch. It does not compile
// the clientset, nor API groups other than core/v1 and discovery.k8s.io/v1.
package kubewatch
