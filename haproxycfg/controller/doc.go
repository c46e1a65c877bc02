// Package controller configures an HAProxy from routes and Kubernetes clusters: it makes the
// configuration, and applies a new one whenever routes or clusters change. The binary
// examples/terminator is a Controller with flags, metrics and pages.
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
// Controller.Run follows the sources until ctx ends. Controller.Plan reads them once and returns
// the change that they would make, and Controller.Apply applies such a change.
//
// # Attempts
//
// In an attempt, the Controller
//
//  1. builds the configuration of the latest routes and clusters, and leaves out each entry that
//     cannot be served, with a problem in the report;
//  2. compares the configuration with the one in the directory;
//  3. refuses the change if Limit returns an error;
//  4. lets HAProxy check the configuration, writes it, and reloads HAProxy (see package deploy);
//  5. writes Files and, last, the report.
//
// The first attempt begins when every cluster has answered, or after StartTimeout. A change of
// routes or of a cluster causes the next attempt, which begins at least MinInterval after the end
// of the last one. After a failure the Controller tries again after 1, 2, 4, 8, 16 and then every
// 30 s. A change makes it try again after 5 s at most, because the change may fix the failure.
// Every 30 s there is an attempt without a change: another program may have written to the
// directory, and a node may have become eligible because time has passed.
//
// # Limits and refusals
//
// A change is refused if Limit returns an error for it. The default Limit counts what a change takes
// from the hosts, paths, backends and servers in force, each kind for itself: see deploy.Losses. It
// reads them from the configuration in the directory, so it works after a restart without a report.
// If the node port of a server now belongs to another Service, the server gets the traffic of the
// wrong clients, and its removal is no loss. That comparison needs the node ports in the report.
//
// The configuration stays, and the report gets the refused change with its causes, its losses and
// its ID. Later changes are added to the refused one,
// so it disappears if they undo it. Controller.Force applies it. ForceFirst applies the first
// change after a start, whatever its size.
//
// # Sources that fail
//
// A fault of a source removes no servers:
//
//   - A cluster that does not answer keeps its servers. After a restart, it keeps the servers in the
//     report.
//   - A cluster that lists no nodes or no services at the start, but has servers in the report, keeps
//     these servers. An API server with an empty store looks like that.
//   - A cluster that has never answered is a problem in the report. The other clusters are served.
//   - A file that cannot be read or parsed keeps its earlier routes. At the start it stops the
//     Controller.
//
// # The report
//
// report.json in the directory is a kube.Report: problems, nodes that are not used and why, the
// nodes of each service, the last change and the refused change with their causes, and the cost of
// checks. It is also the memory of the Controller. Without it, a restart selects nodes afresh, and
// a cluster that does not answer after the restart has no servers.
//
// # Several processes
//
// Several Controllers may share a directory if an Elector decides which of them writes. Package
// lease contains an Elector. A Controller that does not lead follows its sources, so that it can
// take over at once. A Controller that leads calls the Guard of its Term before each effect: a
// process that was suspended while it led writes nothing when it continues.
//
// # What it does not do
//
// It does not start HAProxy, and it changes a running HAProxy only by a reload. It has no metrics:
// a program makes them from Controller.Attempted and Controller.Status.
package controller
