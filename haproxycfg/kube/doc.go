// Package kube makes an HAProxy configuration from declared routes and the objects of Kubernetes
// clusters.
//
// Routes (haproxycfg/routes) name the service ports that serve a host and path. nodeselect finds
// the node port and the nodes of each service. haproxycfg/edge makes the configuration from the
// routes, the node ports and the nodes.
//
//	builder := kube.Builder{Edge: edge.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}}}
//	config, report := builder.Build(table, []kube.Cluster{{Name: "eu-1", Objects: objects}}, time.Now())
//	changed, err := dir.Apply(ctx, config)
//
// [Builder.Build] depends only on its arguments: it reads no clock, file or API server.
//
// # One bad entry never affects the others
//
// If a service is missing, has no node port, or has an invalid annotation, Build adds a [Problem]
// to the [Report] and serves everything else. The problem names the object and the field, or the
// file and the line. If Build does not use a node, or prefers other nodes to it, the report
// contains the reason.
//
// # One file never uses up the edge
//
// [Builder.FileLimits] limit the routes, servers, checks a second, agent ports and remembered
// client addresses that one file of declarations may add. [Builder.EdgeLimits] limit the sums over
// all files. A short file can declare very many servers, because each route has a server for each
// node of each of its services. So Build computes the numbers before it makes servers. If a new or
// changed route exceeds a limit, Build reports a [Problem] and leaves out the route. Routes in
// force stay, and other files lose nothing.
//
// If Descriptors in Edge.Global is set, health checks and agent checks get at most half of the
// descriptors. The other half is for connections. Each connection needs two descriptors, so maxconn
// is at least a quarter of the descriptors.
//
// # The cost of checks
//
// HAProxy checks servers at intervals, with or without traffic. So [Report.Budget] can compute the
// checks a second. Two methods reduce the checks: each service uses a subset of the nodes, and
// servers track the health of their node, so that HAProxy checks each node once. The formulas below
// show the effect of both methods.
//
// Let T be the number of terminators. A cluster has N usable nodes, n nodes in use, and S services
// on k nodes each. The number of services with an agent of their own is A. HAProxy makes a health
// check every h seconds and an agent check every a seconds. If no route declares a check, the
// checks a second are
//
//	                     health checks    agent checks
//	as built             T/h * n          T/a * (n + A*k)
//	without subsets      T/h * N          T/a * (N + A*N)
//	without track        T/h * S*k        T/a * S*k
//	without either       T/h * S*N        T/a * S*N
//
// A service counts once for each backend that contains it. The line "as built" is the configuration
// of Build. There, a further service on nodes that are already in use adds checks only if it has an
// agent: each terminator then makes k/a more checks a second. An annotation of a Service gives the
// service an agent. So annotate only services whose weight you plan to shift, or raise the interval
// of the agent checks.
package kube
