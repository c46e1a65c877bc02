// Package controller keeps the configuration of an HAProxy at what routes and Kubernetes clusters
// say. The binary examples/terminator is flags, metrics and pages around a Controller.
//
//	terminator := &controller.Controller{
//		Routes:   &controller.RouteFiles{Names: []string{"routes.yaml"}},
//		Clusters: []controller.Cluster{{Name: "eu-1", Source: &controller.Live{Config: config}}},
//		Builder:  kube.Builder{Edge: edge.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}}},
//		Dir: &deploy.Dir{
//			Path:   "/var/lib/headgate",
//			Check:  deploy.Checker{Haproxy: "haproxy"}.Check,
//			Reload: deploy.Reloader{Master: runtimeapi.Socket{Path: "/run/haproxy/master.sock"}}.Reload,
//		},
//	}
//	err := terminator.Run(ctx)
//
// Controller.Run follows the sources until ctx ends. Controller.Plan and Controller.Apply do the
// same once, with a look at the change in between.
//
// # Attempts
//
// An attempt brings the latest routes and clusters into force. In this order, the Controller
//
//  1. builds the configuration, and leaves out what cannot be served, with a problem in the report;
//  2. compares it with the directory, and stops if nothing differs;
//  3. asks Limit, and refuses a change that is too large;
//  4. has HAProxy check the configuration, writes it, and reloads HAProxy, as package deploy says;
//  5. writes Files and, last, the report.
//
// The first attempt waits until every cluster has answered, for StartTimeout at most. Later attempts
// follow changes of the inputs, MinInterval after the attempt before. A failed attempt is repeated
// after 1, 2, 4, 8, 16 and then each 30 s, but at most 5 s after a change of an input, because the new input may
// fix the failure. Without any change there is an attempt each 30 s: somebody else may have written to
// the directory, and a node may have become eligible by the clock.
//
// # Limits and refusals
//
// A change that Limit rejects is refused: nothing is written but the report, whose Refused names the
// change, its causes and its ID. Later inputs are judged together with the refused change, so it
// disappears if they undo it. Controller.Force applies it. ForceFirst applies the first change after
// a start, whatever its size.
//
// # Sources that fail
//
// A fault never looks like an empty cluster:
//
//   - A cluster that does not answer keeps the servers that it had. After a restart, these are the
//     servers in the report.
//   - An API server that lists no nodes or no services at the start is not trusted if the report has
//     servers of the cluster.
//   - A cluster that has never answered is a problem in the report. The others are served without it.
//   - A file of routes that cannot be read or parsed keeps the routes that it had. At the start it
//     stops the Controller.
//
// # The report
//
// report.json in the directory is a kube.Report: problems, eligible and ineligible nodes, the nodes
// of each service, the last change and the refused one with their causes, and what checks cost. It
// is also the memory of the Controller. Without it, a restart chooses nodes afresh, and a cluster
// that does not answer then loses its servers.
//
// # Several processes
//
// Several Controllers may share a directory if an Elector decides which of them writes; package
// lease has one. A Controller that does not lead follows its sources and takes over at once. Before
// each effect it asks the Guard of its Term, so that a process that was suspended while it led writes
// nothing after it wakes up.
//
// # What it does not do
//
// It starts no HAProxy, and it has no metrics: Controller.Attempted and Controller.Status have what
// metrics need. It does not change a running HAProxy except by a reload.
package controller
