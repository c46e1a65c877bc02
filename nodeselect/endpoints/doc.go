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
// [Merge] reads the slices of one service. [Group] reads the slices of many services, and keeps
// them in little memory. A [Tracker] does the same for slices that change. Package
// nodeselect/manifest reads slices from the output of kubectl, and package nodeselect/live follows
// the slices of an API server. A program can also pass slices from any other client.
//
// # Merging
//
// A service may have several EndpointSlices. By default, a slice has at most 100 endpoints. Each
// address family has its own slices, and so has each set of port numbers. While the controller
// moves an endpoint from one slice to another, both slices may have the endpoint. The API requires
// that clients remove such duplicates, and does not say which one to prefer
// (https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#duplicate-endpoints).
// The rules of this package are:
//
//   - If two slices contain the same address for the same Pod object, the package uses the slice
//     with the greater resource version, because it is the newest information. Kubernetes defines
//     the order of resource versions (KEP-5504). A slice without a resource version counts as the
//     oldest. Among slices of the same version, the package uses the better condition.
//   - If two slices contain the same address for different Pod objects, one of the pods has
//     stopped, and the other pod has received its address. The package uses the pod with the better
//     condition. If both conditions are equally good, it uses the pod of the newer slice.
//   - A pod that is ready has a better condition than a pod that is not ready. Among the pods that
//     are not ready, a pod that serves is better than a pod that does not serve, as in kube-proxy.
//
// A pod with addresses of both families appears once, with its address of the preferred family:
// IPv4, unless AddressPolicy.Family is PreferIPv6. If an endpoint has no Pod object, the package
// cannot find its address of the other family. So both addresses appear.
//
// # Untrusted slices
//
// Anyone who may write EndpointSlices in a namespace decides where the requests for the services of
// this namespace go. The [nodeselect.AddressPolicy] refuses cloud metadata, link-local and reserved
// addresses. It accepts the private addresses of other pods, because pods of every namespace have
// such addresses. For a refused address, the package returns a problem and no pod.
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
// routing: front proxies decide about zones themselves. It does not read Services, Pods or Nodes.
// So it does not translate the port number of a Service. If a slice does not have the zone of a
// pod, the zone is unknown.
package endpoints
