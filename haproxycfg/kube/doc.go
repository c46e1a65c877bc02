// Package kube makes an HAProxy configuration from declared routes and the objects of Kubernetes
// clusters.
//
// Routes (haproxycfg/routes) name the service ports that serve a host and path. nodeselect finds
// the node port and the nodes of each service, and haproxycfg/edge makes the configuration.
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
// to the [Report] and serves everything else. The report also says why Build does not use a node.
//
// # One file never uses up the edge
//
// [Builder.FileLimits] limit the routes, servers, checks a second, agent ports and remembered
// client addresses that one file of declarations may add. [Builder.EdgeLimits] limit the sums over
// all files. If a new or changed route exceeds a limit, Build reports a [Problem] and leaves out
// the route. Routes in force stay.
//
// Health checks and agent checks use at most half of Edge.Global.Descriptors. Each connection needs
// two descriptors, so maxconn is at least a quarter of the descriptors.
//
// # The cost of checks
//
// [Report.Budget] contains the checks a second. Two methods reduce them: each service uses a subset
// of the nodes, and servers track the health of their node, so that HAProxy checks each node once.
//
// Let T be the number of terminators. A cluster has N usable nodes, n nodes in use, S services on k
// nodes each, and A services with an agent of their own. HAProxy makes a health check every h
// seconds and an agent check every a seconds. If no route declares a check, the checks a second are
//
//	                     health checks    agent checks
//	as built             T/h * n          T/a * (n + A*k)
//	without subsets      T/h * N          T/a * (N + A*N)
//	without track        T/h * S*k        T/a * S*k
//	without either       T/h * S*N        T/a * S*N
//
// A service counts once for each backend that contains it. The line "as built" is the configuration
// of Build. There, a further service adds checks only if it has an agent. So annotate only Services
// whose weight you plan to shift, or raise the interval of the agent checks.
package kube
