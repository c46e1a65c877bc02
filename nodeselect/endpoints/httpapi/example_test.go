package httpapi_test

import (
	"context"
	"fmt"
	"net/http/httptest"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/endpoints"
	"github.com/headgate/headgate/nodeselect/endpoints/httpapi"
)

// A server publishes the pods of EndpointSlices. A client follows the pods of one service.
func Example() {
	port, name, zone := int32(8080), "http", "eu-1a"
	services := endpoints.Group([]*discoveryv1.EndpointSlice{{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "media", Name: "tracks-1", Labels: map[string]string{discoveryv1.LabelServiceName: "tracks"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}, Zone: &zone}},
	}}, nodeselect.AddressPolicy{})

	api := &httpapi.Handler{}
	api.Publish(services, httpapi.Source{})
	server := httptest.NewServer(api)
	defer server.Close()
	defer api.StopWaiting()

	ctx, cancel := context.WithCancel(context.Background())
	client := &httpapi.Client{URLs: []string{server.URL}}
	_ = client.Follow(ctx, nodeselect.Ref{Namespace: "media", Service: "tracks", Port: "http"}, func(a httpapi.Answer) {
		for _, p := range a.Pods {
			fmt.Println(p.Zone, p.Addr, "ready:", p.Ready)
		}
		cancel()
	})
	// Output: eu-1a 10.0.0.1:8080 ready: true
}
