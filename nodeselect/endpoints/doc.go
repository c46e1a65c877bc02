// Package endpoints turns the EndpointSlices of a Kubernetes service into the pods behind a port of
// the service: address, name, node, zone and condition.
//
//	pods, problems := endpoints.Merge(endpointSlices, "http", nodeselect.AddressPolicy{})
//	for zone, pods := range endpoints.ByZone(pods) {
//		for _, p := range pods {
//			if p.AcceptsRequests() {
//				fmt.Println(zone, p.Addr, p.Name)
//			}
//		}
//	}
//
// [Merge] reads the slices of one service. [Group] reads the slices of many services, and keeps
// them in little memory. A [Tracker] does the same for slices that change. Package
// nodeselect/manifest reads slices from the output of kubectl, and package nodeselect/live follows
// the slices of an API server. Slices of any other client can be used too.
//
// # Merging
//
// A service has several EndpointSlices: at most 100 endpoints in each by default, one set for each
// address family, and one for each set of port numbers. While the controller moves an endpoint from
// one slice to another, the endpoint can be in both. The API requires that clients remove such
// duplicates, and does not say which one to prefer
// (https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#duplicate-endpoints).
// The rule of this package is:
//
//   - If two slices contain the same address for the same Pod object, the slice with the greater
//     resource version counts: it is the newest information. Kubernetes defines the order of
//     resource versions (KEP-5504). A slice without a resource version counts as the oldest. Among
//     slices of the same version, the better condition counts.
//   - If they contain the same address for different Pod objects, one of the pods has stopped, and
//     the other one has received its address. The pod with the better condition counts, then the
//     newer slice.
//   - A pod that is ready has a better condition than one that is not. Among the others, one that
//     serves is better than one that does not, as in kube-proxy.
//
// A pod with addresses of both families appears once, with its address of the preferred family:
// IPv4, unless AddressPolicy.Family is PreferIPv6. The addresses of an endpoint without a Pod
// object cannot be matched, so each of them appears.
//
// # Untrusted slices
//
// Anyone who may write EndpointSlices in a namespace decides where the requests for its services
// go. The [nodeselect.AddressPolicy] refuses cloud metadata, link-local and reserved addresses. It
// accepts the private addresses of other pods, because pods of every namespace have such addresses.
// For a refused address, the package returns a problem and no pod.
//
// # Contract
//
// The package uses no clock, no file and no socket. It does not change the objects that it
// receives. Any number of goroutines may read its values at the same time. A bad endpoint does not
// affect other endpoints: the package leaves it out and returns a [nodeselect.Problem].
//
// # What it does not do
//
// It ignores slices of address type FQDN, ports that are not TCP, and the hints of topology aware
// routing: front proxies decide about zones themselves. It does not read Services, Pods or Nodes. So
// it does not translate the port number of a Service, and finds no zone that is missing in the
// slice.
package endpoints
