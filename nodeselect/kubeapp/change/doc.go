// Package change finds the changes of Kubernetes objects that would hurt traffic, or that nobody can
// undo, before somebody applies them.
//
//	c := change.Change{
//		Old:  change.Objects{Services: servicesOfTheCluster, Deployments: deployments},
//		New:  objectsToApply,
//		Uses: usesOfDeclarations,
//	}
//	for _, f := range c.Check() {
//		if !f.Allowed {
//			fmt.Println(f) // Service media/tracks: spec.ports[http].nodePort: 30080 → 30090 (node-port-changed) …
//		}
//	}
//
// A node port is the address that load balancers outside the cluster have in their configuration.
// If a change drops or renumbers it, requests fail until all load balancers have another
// configuration. If another Service gets the number, requests reach the wrong program, and the old
// number may be gone for good.
//
// # What counts as published
//
// The node ports of a Service of type NodePort are published. If a Service has node ports but another
// type, they are published only if a declaration uses the Service; see Use.
//
// # Exceptions
//
// The annotation headgate.dev/allow-change of a Service, before or after the change, permits a
// [Finding] about it. Its value lists what may change, separated by commas: numbers of node ports
// ("30080"), names or numbers of service ports ("http"), and kinds of findings ("no-pods").
// Finding.Allow has the words that permit a finding. The number of a node port permits only changes
// of this node port, so a forgotten annotation does little harm.
//
// The ValidatingAdmissionPolicy in examples/kubeapp/kubernetes has the part of these rules that
// needs only one Service, and obeys the same annotation.
//
// # What it does not do
//
// The package reads no cluster and no declarations. It compares no images, probes or environments,
// and cannot see the deletion of a Namespace.
package change
