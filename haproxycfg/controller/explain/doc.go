// Package explain says where a request for a host and a path goes, and why. An explanation contains
// the declaration of the route, the services of the route, the nodes that serve each service, the
// reason why each other node does not serve it, and the names and present states of the servers in
// HAProxy.
//
//	target, err := explain.ParseTarget("api.example.com/tracks")
//	…
//	config, report := builder.Build(table, clusters, now)
//	e := explain.Explain(explain.Input{
//		Time: now, Builder: builder, Table: table, Clusters: clusters, Report: report,
//	}, target)
//	stats, err := socket.ServerStats(ctx, e.Backends[0].Name) // optional
//	e.AddStats(stats)
//	os.Stdout.Write(e.AppendText(nil))
//
// An Explanation is a value that package json can write. Package controller makes Explanations of
// the configuration in force, and serves them over HTTP. The command "terminator explain" prints
// them.
//
// # Nodes
//
// Each node has a [nodeselect.Why], such as Ranked, Outranked, Avoided or NoPod, and a text. The
// subset of a service in the Report may be older than the Objects of its cluster, because a limit
// has refused a change or because a reload waits. In this case Explain says, for each node that
// would enter or leave the subset, that the change is not in force yet.
//
// If a cluster does not answer and its objects are unknown, Explain knows only the reasons in the
// Report. Service.Unknown is the number of nodes whose reason is unknown.
//
// # Concurrency
//
// Explain is a pure function: it uses no clock, no file and no socket. It changes nothing in the
// Input. Several goroutines may explain the same Input at the same time.
//
// # What it does not do
//
// Explain does not read the states of servers from HAProxy: the caller reads them, and passes them
// to AddStats, or passes the reason of a failure to AddError. Explain does not say which server
// HAProxy will choose for a request. It does not check whether DNS leads a client to HAProxy.
package explain
