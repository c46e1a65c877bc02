// Package explain says where a request for a host and a path goes, and why. An explanation contains
// the declaration of the route, the nodes that serve its services, the reason why each other node
// does not, and the present states of the servers in HAProxy.
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
// Package json can write an Explanation. Package controller serves Explanations of the
// configuration in force over HTTP, and the command "terminator explain" prints them.
//
// # Nodes
//
// Each node has a [nodeselect.Why], such as Ranked, Outranked, Avoided or NoPod, and a text. The
// Report may be older than the Objects, because a limit has refused a change or a reload waits.
// Then Explain says which nodes would enter or leave the subset of the service.
//
// If a cluster does not answer and its objects are unknown, Explain knows only the reasons in the
// Report. Service.Unknown is the number of nodes whose reason is unknown.
//
// # Concurrency
//
// Explain is a pure function. Several goroutines may explain the same Input.
//
// # What it does not do
//
// Explain does not read the states of servers from HAProxy: the caller passes them to AddStats, or
// a failure to AddError. Explain does not say which server HAProxy will choose for a request, or
// whether DNS leads a client to HAProxy.
package explain
