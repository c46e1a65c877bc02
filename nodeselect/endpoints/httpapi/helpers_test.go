package httpapi

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/endpoints"
)

var tracks = nodeselect.Ref{Namespace: "media", Service: "tracks", Port: "http"}

// slice makes an EndpointSlice of service media/NAME. Each pod is "ADDRESS ZONE STATE", where STATE
// is ready, starting or stopping. A slice with pods has the port http, 8080. A slice without pods
// has no port.
func slice(name string, pods ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "media", Name: name + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	if len(pods) > 0 {
		port, portName := int32(8080), "http"
		s.Ports = []discoveryv1.EndpointPort{{Name: &portName, Port: &port}}
	}
	for _, pod := range pods {
		f := strings.Fields(pod)
		ready, serving, terminating := f[2] == "ready", f[2] != "starting", f[2] == "stopping"
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: f[:1], Zone: &f[1],
			Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
		})
	}
	return s
}

func group(slices ...*discoveryv1.EndpointSlice) endpoints.Services {
	return endpoints.Group(slices, nodeselect.AddressPolicy{})
}

// some are the services that most tests begin with.
func some() endpoints.Services {
	tracks := slice("tracks", "10.0.0.2 eu-1b ready", "10.0.0.1 eu-1a ready", "10.0.0.3 eu-1a stopping", "10.0.0.4 eu-1b starting")
	node := "node-a"
	tracks.Endpoints[1].NodeName = &node
	return group(tracks, slice("idle"), slice("users", "10.0.1.1 eu-1a ready"))
}

// The function "many" returns services with pods in three zones, with names as long as usual.
func many(services, pods int) []*discoveryv1.EndpointSlice {
	var list []*discoveryv1.EndpointSlice
	for i := range services {
		name := fmt.Sprintf("service-%03d", i)
		specs := make([]string, pods)
		for j := range specs {
			specs[j] = fmt.Sprintf("10.%d.%d.%d eu-west-1%c ready", i/250, i%250, j+1, 'a'+j%3)
		}
		s := slice(name, specs...)
		for j := range s.Endpoints {
			node := fmt.Sprintf("ip-10-0-%d-%d.eu-west-1.compute.internal", i%250, j)
			s.Endpoints[j].NodeName = &node
		}
		list = append(list, s)
	}
	return list
}

// get returns the status, the body and the header of the answer to GET target. The argument
// "header" has request headers: a name, its value, the next name, and so on.
func get(h http.Handler, target string, header ...string) (int, string, http.Header) {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return do(h, r)
}

func do(h http.Handler, r *http.Request) (int, string, http.Header) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	body, _ := io.ReadAll(w.Result().Body)
	return w.Code, string(body), w.Result().Header
}

func post(h http.Handler, body string) (int, string, http.Header) {
	return do(h, httptest.NewRequest(http.MethodPost, "/v3/discovery:endpoints", strings.NewReader(body)))
}

func serving(t *testing.T) *Handler {
	t.Helper()
	h := &Handler{}
	code, body, header := get(h, "/v1/pods")
	require.Equal(t, 503, code, "nothing is published yet")
	require.Equal(t, `{"error":"the source of the pods has not been read yet"}`+"\n", body)
	require.Equal(t, "1", header.Get("Retry-After"))
	h.Publish(some(), Source{})
	return h
}
