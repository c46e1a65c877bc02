// Package kube makes an HAProxy configuration of declared routes and the objects
// of Kubernetes clusters.
//
// It joins three packages that know nothing of each other: the routes of
// haproxycfg/routes say which service ports serve a host and path, nodeselect finds
// the node port of each and the nodes that a service gets, and haproxycfg renders
// the result.
//
//	builder := kube.Builder{Edge: haproxycfg.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}}}
//	config, report := builder.Build(table, []kube.Cluster{{Name: "eu-1", Objects: objects}}, time.Now())
//	changed, err := dir.Apply(ctx, config)
//
// [Builder.Build] is pure: it reads no clock, file or API server, and the same
// arguments give the same configuration and report.
//
// # One bad entry never takes the others down
//
// A route whose service is missing, a service without a node port, an annotation
// that does not read: each is a [Problem] of the [Report], which names the object and
// the field or the file and the line, and everything else is served. The report also
// gives the reason for every node that is not used as usual.
//
// # What checks cost
//
// HAProxy checks at intervals whatever the traffic, so [Report.Budget] can say how
// many checks a second a fleet makes, and what subsets and track save of them. For a
// cluster with T terminators, N nodes that can be used, n of them in use, S services
// on k nodes each, A of which have an agent of their own, health checks every h
// seconds and agent checks every a seconds, they make in a second
//
//	                     health checks    agent checks
//	as built             T/h * n          T/a * (n + A*k)
//	without subsets      T/h * N          T/a * (N + A*N)
//	without track        T/h * S*k        T/a * S*k
//	without either       T/h * S*N        T/a * S*N
//
// if no route asks for checks of its own; a service counts once for each backend that
// it is in. What is left to grow with services are their agents: an annotated service
// costs k/a checks a second of each terminator, so annotate those whose weight is to
// be shifted, or ask them less often.
package kube
