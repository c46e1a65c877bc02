// Package discovery checks the answers of nodeselect/endpoints/httpapi with the libraries of Envoy,
// and measures how fast many clients learn of a change.
package discovery

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/endpoints"
	"github.com/headgate/headgate/nodeselect/endpoints/httpapi"
)

// services returns a service media/NAME for each name. Each has this many pods, in three zones. The
// pods have changing conditions and addresses of both families.
func services(pods int, names ...string) endpoints.Services {
	var list []*discoveryv1.EndpointSlice
	for i, name := range names {
		port, portName := int32(8080), "http"
		for _, family := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
			s := &discoveryv1.EndpointSlice{
				ObjectMeta:  metav1.ObjectMeta{Namespace: "media", Name: name + "-" + string(family), Labels: map[string]string{discoveryv1.LabelServiceName: name}},
				AddressType: family,
				Ports:       []discoveryv1.EndpointPort{{Name: &portName, Port: &port}},
			}
			for j := range pods {
				if (family == discoveryv1.AddressTypeIPv6) != (j%5 == 4) {
					continue
				}
				address := fmt.Sprintf("10.%d.%d.%d", i, j/250, j%250+1)
				if family == discoveryv1.AddressTypeIPv6 {
					address = fmt.Sprintf("2001:db8:%x::%x", i+1, j+1)
				}
				zone := fmt.Sprintf("eu-1%c", 'a'+j%3)
				ready, terminating, serving := j%10 != 3, j%10 == 3, j%20 != 3
				s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
					Addresses: []string{address}, Zone: &zone,
					Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
				})
			}
			list = append(list, s)
		}
	}
	return endpoints.Group(list, nodeselect.AddressPolicy{Observe: true})
}

// Envoy's own types read the answers, and the answers pass all rules in the proto files.
func TestEnvoyAcceptsAnswers(t *testing.T) {
	h := &httpapi.Handler{}
	h.Publish(services(75, "tracks", "users"), httpapi.Source{})
	ask := func(req *discoveryv3.DiscoveryRequest, form protojson.MarshalOptions) *httptest.ResponseRecorder {
		body, err := form.Marshal(req)
		require.NoError(t, err)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v3/discovery:endpoints", strings.NewReader(string(body))))
		return w
	}
	for name, form := range map[string]protojson.MarshalOptions{"as Envoy": {UseProtoNames: true}, "camel case": {}} {
		t.Run(name, func(t *testing.T) {
			req := &discoveryv3.DiscoveryRequest{
				Node:          &corev3.Node{Id: "front-1", Cluster: "edge", Locality: &corev3.Locality{Zone: "eu-1a"}},
				ResourceNames: []string{"media/users/http", "media/tracks/8080", "media/unknown/http"},
				TypeUrl:       "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
			}
			w := ask(req, form)
			require.Equal(t, 200, w.Code, w.Body)
			resp := &discoveryv3.DiscoveryResponse{}
			require.NoError(t, protojson.Unmarshal(w.Body.Bytes(), resp), "no unknown member")
			require.NoError(t, resp.ValidateAll())
			require.Len(t, resp.Resources, 2)
			health := map[corev3.HealthStatus]int{}
			for i, want := range []string{"media/tracks/8080", "media/users/http"} {
				cluster := &endpointv3.ClusterLoadAssignment{}
				require.NoError(t, resp.Resources[i].UnmarshalTo(cluster))
				require.NoError(t, cluster.ValidateAll())
				require.Equal(t, want, cluster.ClusterName)
				require.Len(t, cluster.Endpoints, 3, "zones")
				for _, zone := range cluster.Endpoints {
					require.Regexp(t, "^eu-1[abc]$", zone.Locality.Zone)
					for _, e := range zone.LbEndpoints {
						health[e.HealthStatus]++
						require.EqualValues(t, 8080, e.GetEndpoint().GetAddress().GetSocketAddress().GetPortValue())
					}
				}
			}
			require.Equal(t, map[corev3.HealthStatus]int{corev3.HealthStatus_HEALTHY: 134, corev3.HealthStatus_DRAINING: 8, corev3.HealthStatus_UNHEALTHY: 8}, health)

			req.VersionInfo = resp.VersionInfo
			require.Equal(t, http.StatusNotModified, ask(req, form).Code)
		})
	}
}
