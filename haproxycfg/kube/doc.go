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
package kube
