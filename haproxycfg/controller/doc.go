// Package controller configures an HAProxy from routes and Kubernetes clusters: it makes the
// configuration, and applies a new one whenever routes or clusters change. The binary
// examples/terminator is a Controller with flags, metrics and pages.
//
//	reloader := deploy.Reloader{
//		Master: runtimeapi.Socket{Path: "/run/haproxy/master.sock"},
//		// With these two files, a new server gets the weight of the server that it replaces.
//		Config:    "/var/lib/headgate/haproxy.cfg",
//		StateFile: "/var/lib/headgate/server-state",
//	}
//	terminator := &controller.Controller{
//		Routes:   &controller.RouteFiles{Names: []string{"routes.yaml"}},
//		Clusters: []controller.Cluster{{Name: "eu-1", Source: &controller.Live{Config: config}}},
//		Builder: kube.Builder{Edge: edge.Edge{
//			HTTP:   []haproxycfg.Bind{{Address: ":80"}},
//			Global: haproxycfg.Global{StateFile: reloader.StateFile},
//		}},
//		Dir: &deploy.Dir{
//			Path:   "/var/lib/headgate",
//			Check:  deploy.Checker{Haproxy: "haproxy"}.Check,
//			Reload: reloader.Reload, Redirect: reloader.Redirect,
//		},
//	}
//	err := terminator.Run(ctx)
//
// Controller.Run follows the sources until ctx ends. Controller.Plan reads the sources once and
// returns a change, and Controller.Apply applies it.
//
// # Attempts
//
// In an attempt, the Controller
//
//  1. builds a configuration from the latest routes and clusters; it leaves out each entry that
//     HAProxy cannot serve, and reports a problem for the entry;
//  2. compares the configuration with the one in the directory;
//  3. refuses the change if Limit returns an error;
//  4. lets HAProxy check the configuration;
//  5. waits if HAProxy has reloaded often or has many old workers (see below);
//  6. writes the configuration and reloads HAProxy (see package deploy);
//  7. writes Files and, last, the report.
//
// The first attempt begins when every cluster has answered, at the latest after StartTimeout. A
// change of routes or of a cluster causes the next attempt, at least MinInterval after the last
// one. If attempts fail, the pauses between them are 1, 2, 4, 8, 16 and then 30 s, but at most 5 s
// after a change. Every 30 s the Controller makes an attempt even without a change.
//
// # Reloads and old workers
//
// A reload starts a new worker process of HAProxy. The old worker runs until its last connection
// ends, and a tunnel may last for hours. So the Controller limits reloads in two ways:
//
//   - While reloads follow one another, the pause between them grows from MinInterval to
//     MaxInterval. One reload at the end of a pause applies all changes of the pause: 100 changes
//     in a minute cause five reloads.
//   - If HAProxy has MaxOldWorkers old workers, the reload waits until one of them ends, for
//     MaxReloadWait at most. Then the Controller ends the oldest worker, logs how many streams it
//     has cut, and reloads HAProxy. With KeepWorkers, it ends no worker.
//
// An attempt whose reload waits has the outcome Waits. Meanwhile, Dir.Redirect makes HAProxy stop
// sending requests to servers that the waiting change removes. Answers of agents, and changes that
// need no reload, do not wait.
//
// # Limits and refusals
//
// A change is refused if Limit returns an error for it. The default Limit counts the hosts, paths,
// backends and servers in the directory that a change takes away: see deploy.Losses. The removal of
// a server whose node port now belongs to another Service is no loss. To find such servers, the
// Controller needs the node ports in the report.
//
// After a refusal, the configuration in force stays, and the report contains the refused change
// with its causes, losses and ID. Controller.Force applies it. With ForceFirst, Run applies the
// first change that it would refuse. If the routes and clusters return to their old state, there is
// no refused change any more.
//
// # Sources that fail
//
// A fault of a source removes no servers:
//
//   - A cluster that does not answer keeps its servers. After a restart of the Controller, it keeps
//     the servers that the report lists.
//   - A cluster that lists no nodes or no services at the start keeps the servers in the report,
//     because its API server may have lost its store.
//   - A cluster that has never answered appears in the report as a problem. The other clusters are
//     served.
//   - A file that cannot be read or parsed keeps its earlier routes. At the start, the Controller
//     waits for the file, at most for StartTimeout. Then Limit protects the routes in force.
//
// # The report
//
// report.json in the directory is a kube.Report: problems, nodes that are not used and why, the
// nodes of each service, the last change and the refused change with their causes, and the cost of
// checks. ReportHandler serves the report only while the report describes what HAProxy runs. The
// Controller reads the report when it starts. Without the report, it selects nodes for all services
// again, and a cluster that does not answer has no servers.
//
// # Explanations
//
// Explain says where the requests for a host and a path go, and why each node serves them, or why
// it does not. ExplainHandler serves the answer over HTTP. ExplainChange explains a Change of Plan,
// without Run.
//
// # The journal
//
// If Journal is not nil, Run appends an entry for each change that it applies, and for each change
// that Limit or HAProxy rejects. ExplainAt explains what was in force at an earlier time, and
// JournalHandler lists the entries. An error of the journal has no effect on changes.
//
// # Orders
//
// Rollback puts the declared routes of an earlier change into force, and holds them until Release;
// see package fleet. SetShifts moves the requests of routes between clusters; see package shift.
// FleetFile contains the hold and the shifts, so they survive a restart. With Fleet, several
// Controllers follow the same orders.
//
// # Canary
//
// With Canary, one Controller tries new routes first. It compares the answers to probes, and the
// errors of HAProxy, before and after the change. If the new routes do no harm, the Controller
// approves them for all Controllers with the same Fleet. Otherwise it withdraws them, with the cause.
//
// Changes of nodes, services, certificates and shifts do not wait for a trial. See packages canary
// and fleet.
//
// # Several processes
//
// Several Controllers may share a directory if an Elector, such as in package lease, decides which
// of them writes. The others follow their sources, so that they can take over immediately. The
// leader calls the Guard of its Term before each write and reload, so a process that was suspended
// while it led writes nothing.
//
// # What it does not do
//
// The package does not start HAProxy. It changes a running HAProxy only through Dir. It exports no
// metrics: a program can make them from Controller.Attempted and Controller.Status.
package controller
