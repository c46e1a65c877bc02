// Package manifest reads the nodes and services of a Kubernetes cluster from text: what
// "kubectl get nodes,services -A -o yaml" (or json) prints.
//
//	objects, problems, err := manifest.ReadDir("manifests/eu-1")
//
// [Parse] reads one text, [ReadDir] the files of a directory, and [WatchDir] reads a directory
// again whenever it changes. A mistake in the text is a [nodeselect.Problem] with file, line,
// object and field. The rest of the text is used.
//
// The package does not read a live cluster: package nodeselect/live does.
package manifest
