// Package endpoints turns the EndpointSlices of a Kubernetes service into the pods behind a port of
// the service: address, name, node, zone and condition.
//
//	pods, problems := endpoints.Merge(endpointSlices, "http", nodeselect.AddressPolicy{})
//	for zone, pods := range endpoints.ByZone(endpoints.InService(pods)) {
//		for _, p := range pods {
//			fmt.Println(zone, p.Addr, p.Name)
//		}
//	}
//
// [Merge] reads the slices of one service. [Group] reads those of many services, and keeps them in
// little memory. A [Tracker] does the same for slices that change. Packages nodeselect/manifest
// (kubectl) and nodeselect/live (API server) read slices.
//
// # Merging
//
// A service may have several EndpointSlices: a slice has at most 100 endpoints by default, one
// address family and one set of port numbers. While the controller moves an endpoint, two slices
// may have it. The API requires that clients remove such duplicates, and does not say which one to
// prefer
// (https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#duplicate-endpoints).
// The rules of this package are:
//
//   - For one address of one Pod object, it uses the slice with the greatest resource version,
//     which is the newest (KEP-5504). A slice without a resource version is the oldest. Among
//     slices of the same version, the better condition decides.
//   - For one address of several Pod objects, it uses the pod with the best condition: the other
//     pods have stopped. Among equal conditions, the newer slice decides.
//   - A ready pod has a better condition than a pod that is not ready. Among pods that are not
//     ready, a pod that serves is better, as in kube-proxy.
//
// A pod with addresses of both families appears once, with its IPv4 address, unless
// AddressPolicy.Family is PreferIPv6. If an endpoint has no Pod object, both addresses appear.
//
// # Untrusted slices
//
// Anyone who may write EndpointSlices in a namespace decides where the requests for its services
// go. The [nodeselect.AddressPolicy] refuses cloud metadata, link-local and reserved addresses,
// with a problem. It accepts the private addresses of pods of other namespaces.
//
// # Contract
//
// The package uses no clock, no file and no socket, and does not change the objects that it
// receives. Its values are safe for concurrent reads. A bad endpoint causes a [nodeselect.Problem],
// and does not affect other endpoints.
//
// # What it does not do
//
// It ignores slices of address type FQDN, ports that are not TCP, and the hints of topology aware
// routing: front proxies decide about zones themselves. It does not read Services, Pods or Nodes,
// so it does not translate the port number of a Service, and knows a zone only from the slice.
package endpoints
