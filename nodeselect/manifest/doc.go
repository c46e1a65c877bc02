// Package manifest reads the nodes, services and EndpointSlices of a Kubernetes cluster from text:
// what "kubectl get nodes,services -A -o yaml" (or json) prints.
//
//	objects, problems, err := manifest.ReadDir("manifests/eu-1")
//
// [Parse] reads one text, [ReadDir] the files of a directory, and [WatchDir] a directory whenever
// it changes. For a mistake, they return a [nodeselect.Problem] with file, line, object and field,
// and use the rest of the text.
//
// [ParseEndpointSlices], [ReadEndpointSlices] and [WatchEndpointSlices] do the same for what
// "kubectl get endpointslices -A -o yaml" prints. Package nodeselect/endpoints makes pods of it:
//
//	list, problems, err := manifest.ReadEndpointSlices("manifests/eu-1")
//	services := endpoints.Group(list, nodeselect.AddressPolicy{})
//
// One directory can have objects of all these kinds.
//
// The package does not read a live cluster: package nodeselect/live does.
package manifest
