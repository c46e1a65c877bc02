package endpoints_test

import (
	"fmt"

	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/endpoints"
	"github.com/headgate/headgate/nodeselect/manifest"
)

func Example() {
	list, problems := manifest.ParseEndpointSlices("slices.yaml", []byte(`apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: tracks-x7k2p
  namespace: media
  labels: {kubernetes.io/service-name: tracks}
addressType: IPv4
ports:
- {name: http, port: 8080}
endpoints:
- {addresses: [10.0.0.1], zone: a, targetRef: {kind: Pod, name: tracks-1}}
- {addresses: [10.0.1.1], zone: b, targetRef: {kind: Pod, name: tracks-2}}
- {addresses: [10.0.0.2], zone: a, targetRef: {kind: Pod, name: tracks-3}, conditions: {ready: false}}
- {addresses: [169.254.169.254], zone: a}
`))
	services := endpoints.Group(list, nodeselect.AddressPolicy{})
	pods, more := services.Pods(nodeselect.Ref{Namespace: "media", Service: "tracks", Port: "http"})
	for _, p := range append(problems, more...) {
		fmt.Println(p)
	}
	for _, p := range endpoints.ByZone(pods)["a"] {
		fmt.Println(p.Addr, p.Name, p.AcceptsRequests())
	}
	// Output:
	// EndpointSlice media/tracks-x7k2p: endpoints.addresses: endpoint 3: 169.254.169.254 is a cloud metadata address (most clouds); 1 endpoint is ignored
	// 10.0.0.1:8080 tracks-1 true
	// 10.0.0.2:8080 tracks-3 false
}
