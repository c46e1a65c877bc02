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
// If a change drops or renumbers a node port, requests fail until somebody has deployed another
// configuration to all load balancers. If another Service gets the number, requests reach the wrong
// program. And the old number may be gone for good, because another Service has it.
//
// # What counts as published
//
// The node ports of every Service of type NodePort are published. A Service of another type counts
// only if a declaration uses it: see Use.
//
// # Exceptions
//
// A [Finding] is a part of a change that would hurt traffic, or that nobody can undo. The
// annotation headgate.dev/allow-change of a Service permits findings about this Service. Its value
// is a list of what may change, separated by commas: numbers of node ports ("30080"), names or
// numbers of service ports ("http"), and kinds of findings ("no-pods"). Finding.Allow has the words
// that permit a finding. The annotation may be on the Service before or after the change. A number
// in the annotation permits nothing for other node ports, so a forgotten annotation does little
// harm.
//
// The ValidatingAdmissionPolicy in examples/kubeapp/kubernetes has the part of these rules that
// needs only one Service before and after the change. It obeys the same annotation.
//
// # What it does not do
//
// The package reads no cluster and no declarations. It does not find every change that would stop an
// application: it compares no images, probes or environments. It cannot see the deletion of a
// Namespace.
package change
