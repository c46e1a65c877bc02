// Package keeper answers which nodes of a live cluster somebody may take away now. It also makes
// and stores grants for the programs that replace nodes. A grant is a permission to take a node
// away.
//
//	nodes, err := keeper.NewNodeClient(config)
//	…
//	store, err := leases.NewClient(config, "headgate")
//	…
//	k := &keeper.Keeper{
//		Reports: []keeper.Report{keeper.URL("http://edge-1:9709/report.json", "eu-1", nil)},
//		Nodes:   keeper.Nodes{Client: nodes}.List,
//		Store:   &leases.Store{Client: store, Cluster: "eu-1"},
//	}
//	answer, err := k.Take(ctx, "kured", time.Hour, "worker-7")
//
// A Keeper reads the reports of all terminators and the nodes of the cluster for each answer. It
// decides with package gate, and stores grants with package leases. It has no state in memory, so
// any number of Keepers may serve one cluster.
//
// A Handler serves a Keeper over HTTP: an API in JSON, and a page for people.
//
// # Errors
//
// An error of a Keeper means that it cannot decide, and the caller must not take any node away. A
// Keeper needs the report of each terminator, because a terminator may use any node.
//
// # What it does not do
//
// A Keeper does not cordon, drain or restart nodes. It cannot stop a program that takes a node away
// without a grant.
package keeper
