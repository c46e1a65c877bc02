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
// returns the change that the configuration needs, and Controller.Apply applies such a change.
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
// The first attempt begins when every cluster has answered, or after StartTimeout if that is
// earlier. A change of routes or of a cluster causes the next attempt, which begins at least
// MinInterval after the end of the last one. If attempts fail, the pauses between them are 1, 2, 4,
// 8, 16 and then 30 s. A change shortens the pause to at most 5 s, because the change may fix the
// failure. Every 30 s the Controller makes an attempt even without a change: another program may
// have written to the directory, and a node may have become eligible because time has passed.
//
// # Reloads and old workers
//
// A reload starts a new worker process of HAProxy. The old worker runs until its last connection
// ends, and a tunnel may last for hours. So the Controller limits reloads in two ways:
//
//   - While reloads follow one another, the pause between them grows from MinInterval to
//     MaxInterval. One reload at the end of a pause applies all changes that have arrived during
//     the pause. For example, 100 changes in a minute cause five reloads. The first change after a
//     quiet time does not wait.
//   - If HAProxy has MaxOldWorkers old workers, the reload waits until one of them ends, for
//     MaxReloadWait at most. After that time, the Controller ends the oldest worker, logs how many
//     streams of this worker it has cut, and reloads HAProxy.
//
// An attempt whose reload waits has the outcome Waits. The answers of agents do not need a reload:
// HAProxy drains a server, or changes its weight, while a reload waits. The Controller calls
// Dir.Redirect, so HAProxy also stops sending requests to servers that the waiting change removes.
// The rest of the change waits for the reload. A change that needs no reload waits for nothing.
//
// # Limits and refusals
//
// A change is refused if Limit returns an error for it. The default Limit counts the hosts, paths,
// backends and servers in force that a change takes away, and limits each of these four counts: see
// deploy.Losses. It reads the configuration in the directory, so it also works after a restart and
// without a report. If the node port of a server now belongs to another Service, the server leads
// clients to the wrong service. So the removal of such a server is no loss. To find such servers,
// the Controller needs the node ports in the report.
//
// After a refusal, the configuration in force stays. The Controller writes the refused change to
// the report, with its causes, losses and ID. Each later attempt compares the latest routes and
// clusters with the configuration in force. So if the routes and clusters return to their old
// state, the Controller has no change to refuse any more. Controller.Force applies a refused
// change. With ForceFirst, Run applies the first change that it would refuse after its start.
//
// # Sources that fail
//
// A fault of a source removes no servers:
//
//   - A cluster that does not answer keeps its servers. After a restart of the Controller, it keeps
//     the servers that the report lists.
//   - A cluster may list no nodes or no services at the start, although the report lists servers
//     for it. It keeps these servers, because an API server whose store is empty looks the same.
//   - A cluster that has never answered appears in the report as a problem. The other clusters are
//     served.
//   - A file that cannot be read or parsed keeps its earlier routes. At the start, the Controller
//     waits for the file, at most for StartTimeout. After that, the file counts as a file without
//     routes, and Limit protects the routes in force.
//
// # The report
//
// report.json in the directory is a kube.Report: problems, nodes that are not used and why, the
// nodes of each service, the last change and the refused change with their causes, and the cost of
// checks. It names the configuration in force by an ID and the time at which it was applied.
// ReportHandler serves the report while the report describes what HAProxy runs. The Controller also
// reads the report when it starts. If the report is missing, the Controller selects nodes for all
// services again, and a cluster that does not answer has no servers.
//
// # Explanations
//
// Explain says where the requests for a host and a path go, and why each node serves them or does
// not. ExplainHandler serves the answer over HTTP. ExplainChange explains a Change that Plan has
// returned, without Run. Package explain describes the answer.
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
// package fleet describes a hold. SetShifts moves the requests of routes between clusters; see package
// shift. FleetFile contains both. Each attempt reads this file, so both survive a restart, and Plan
// follows them too. While a hold lasts, Status.Hold says what the latest declarations would change.
// HoldHandler serves Rollback and Release over HTTP. With Fleet, several Controllers follow the same
// orders.
//
// # Several processes
//
// Several Controllers may share a directory if an Elector decides which of them writes. Package
// lease contains an Elector. A Controller that does not lead follows its sources, so that it can
// take over immediately. A Controller that leads calls the Guard of its Term before it writes a
// file or reloads HAProxy. So a process that was suspended while it led writes nothing when it
// continues.
//
// # What it does not do
//
// The package does not start HAProxy. It changes a running HAProxy only through Dir. It exports no
// metrics: a program can make them from Controller.Attempted and Controller.Status.
package controller
