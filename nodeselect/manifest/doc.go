// Package manifest reads the nodes and services of a Kubernetes cluster from text: what
// "kubectl get nodes,services -A -o yaml" (or json) prints.
//
//	objects, problems, err := manifest.ReadDir("manifests/eu-1")
//
// [Parse] reads one text. [ReadDir] reads the files of a directory. [WatchDir] reads a directory,
// and reads it again whenever it changes. For a mistake in the text, they return a
// [nodeselect.Problem] with file, line, object and field, and use the rest of the text.
//
// The package does not read a live cluster: package nodeselect/live does.
package manifest
