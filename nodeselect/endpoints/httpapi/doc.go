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
//   - version is the version of this schema. Clients refuse other versions, and ignore unknown
//     members.
//   - service repeats the names in the request. port is missing if the request named no port.
//   - revision names the content of service and zones. It is the same in every process. The ETag is
//     the revision in quotes.
//   - age is 0 while the source answers. Otherwise it is the number of seconds since the last
//     contact with the source, rounded up. The header Age has the same number.
//   - source.answers says whether the source answers. If it is false, source.error gives the
//     reason.
//   - zones are sorted by name. The zone "" has the pods whose zone is unknown. Zones without pods
//     are missing.
//   - The pods of a zone are sorted by address. Unknown names and nodes are missing. ready, serving
//     and terminating are the conditions of the EndpointSlice; see endpoints.Pod.
//
// With ?zone=NAME, the answer has only the pods of this zone. The answer to GET /v1/pods has the
// member services instead of service and zones: a list of objects with the members service,
// revision and zones.
//
// A service is known, perhaps without pods, if the server has read an EndpointSlice of it. For an
// unknown service or port, the server answers 404. Errors have the body {"error": "reason"}. With
// status 400, the member field names the wrong part of the request.
//
// # Changes
//
// A client can send the ETag of its last answer in If-None-Match. If nothing has changed, the
// server answers 304. With ?wait=30s, it first waits up to 30 s for a change, but not longer than
// MaxWait. The revision does not depend on the age, so a failure of the source does not end a wait.
//
// # Envoy
//
// The resource name in a DiscoveryRequest is namespace/service/port, or namespace/service for the
// only port. The answer leaves out unknown services, and Envoy keeps the endpoints that it has for
// these services. If version_info is current, the answer is 304. A pod that is ready and does not
// terminate is HEALTHY, a pod that terminates and serves is DRAINING, and any other pod UNHEALTHY.
// The locality of a pod is its zone.
//
// # What it does not do
//
// The package does not read clusters; packages nodeselect/live and nodeselect/manifest do. It has
// no xDS over gRPC. It has no weights: clients decide how to use zones.
package httpapi
