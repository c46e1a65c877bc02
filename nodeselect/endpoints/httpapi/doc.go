// Package httpapi contains both halves of the discovery API: an HTTP server of the pods behind
// Kubernetes services, and a client that follows the pods of one service.
//
//	GET  /v1/pods                               the pods of all services
//	GET  /v1/pods/{namespace}/{service}         the pods of the only port of a service
//	GET  /v1/pods/{namespace}/{service}/{port}  the pods of a port, given by name or by number
//	GET  /v1/prometheus                         the same pods as targets for Prometheus (http_sd)
//	GET  /v1/prometheus/{namespace}/{service}/{port}
//	POST /v3/discovery:endpoints                the same pods for Envoy (EDS over REST)
//
// A server publishes the pods with a Handler:
//
//	api := &httpapi.Handler{}
//	api.Publish(services, httpapi.Source{}) // again at each change
//	err := http.ListenAndServe("127.0.0.1:9100", api)
//
// A client follows the pods of one service:
//
//	client := &httpapi.Client{URLs: []string{"http://discovery-a:9100", "http://discovery-b:9100"}}
//	err := client.Follow(ctx, nodeselect.Ref{Namespace: "media", Service: "tracks", Port: "http"}, func(a httpapi.Answer) {
//		…
//	})
//
// openapi.yaml, in the directory of this package, is an OpenAPI 3.1 document of the API.
//
// # Pods
//
// The answer to GET /v1/pods/{namespace}/{service}/{port} is one JSON object:
//
//	{
//	  "version": 1,
//	  "service": {"namespace": "media", "service": "tracks", "port": "http"},
//	  "revision": "2f1c9c04ad5a3b11",
//	  "age": 0,
//	  "source": {"answers": true},
//	  "zones": [
//	    {"zone": "eu-1a", "pods": [
//	      {"address": "10.0.0.1", "port": 8080, "name": "tracks-1", "node": "node-a",
//	       "ready": true, "serving": true, "terminating": false}
//	    ]}
//	  ]
//	}
//
// The members mean:
//
//   - version is the version of this schema. Clients refuse other versions. New members may be
//     added without a new version, so clients ignore members that they do not know.
//   - service repeats the names in the request. port is missing if the request had none.
//   - revision names the content of service and zones. Equal content has the same revision, in
//     every process. The ETag is the revision in quotes.
//   - age is 0 while the source of the server answers. Otherwise age is the time since the last
//     contact with the source in seconds, rounded up. The header Age has the same number.
//   - source.answers says whether the source answers. If it is false, source.error gives the
//     reason.
//   - zones are sorted by name. The zone "" has the pods whose zone is unknown. Zones without pods
//     are missing.
//   - The pods of a zone are sorted by address. name and node are missing if they are unknown.
//     ready, serving and terminating are the conditions of the EndpointSlice; see endpoints.Pod.
//
// With ?zone=NAME, the answer has only the pods of this zone. The answer to GET /v1/pods does not
// have the members service and zones. Instead, it has the member services: a list with one object
// for each service. Each of these objects has the members service, revision and zones.
//
// A service is known if the server has read at least one EndpointSlice of it. A known service can
// have no pods. For an unknown service or port, the server answers 404. Errors have the body
// {"error": "reason"}. If the status is 400, the body also has the member field, which names the
// wrong part of the request.
//
// # Changes
//
// A client can send the ETag of its last answer in If-None-Match. While nothing has changed, the
// server then answers 304. If the request also has ?wait=30s, the server waits for a change, and
// then answers 200 with the new content. If nothing changes within 30 s, it answers 304. The
// longest wait is MaxWait. The revision does not depend on the age, so a failure of the source does
// not end a wait.
//
// # Envoy
//
// The resource name in a DiscoveryRequest is namespace/service/port. If the service has only one
// port, namespace/service is enough. The answer leaves unknown services out; Envoy then keeps its
// present endpoints of these services. If version_info is the current version, the answer is 304. A
// pod that is ready and does not terminate has the health status HEALTHY. A pod that terminates and
// serves has DRAINING. Any other pod has UNHEALTHY. The locality of a pod is its zone.
//
// # What it does not do
//
// The package does not read clusters; packages nodeselect/live and nodeselect/manifest do. It has
// no xDS over gRPC. It has no weights: clients decide how to use zones.
package httpapi
