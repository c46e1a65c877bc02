package httpapi

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/headgate/headgate/internal/exactjson"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/endpoints"
)

// assignmentType is the type of the resources that Envoy requests and gets.
const assignmentType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"

// These are limits of a DiscoveryRequest. Envoy needs much less: its request contains its own node
// with all metadata, and one resource name.
const (
	maxDiscoveryRequest = 1 << 20 // bytes
	maxResourceNames    = 1000
)

// discoveryRequest has the members of envoy.service.discovery.v3.DiscoveryRequest that the Handler
// uses.
type discoveryRequest struct {
	version string
	names   []string         // sorted; each name once
	refs    []nodeselect.Ref // the parsed names
}

// parseDiscoveryRequest reads a DiscoveryRequest. The names of its members may be those of the
// proto file, which Envoy sends ("resource_names"), or those of the JSON form of protobuf, in camel
// case ("resourceNames").
func parseDiscoveryRequest(body []byte) (discoveryRequest, error) {
	var req discoveryRequest
	var versionCamel, typeURL, typeCamel string
	var namesCamel []string
	err := exactjson.Object(body, exactjson.Fields{
		"version_info": &req.version, "versionInfo": &versionCamel,
		"resource_names": &req.names, "resourceNames": &namesCamel,
		"type_url": &typeURL, "typeUrl": &typeCamel,
	})
	if member, ok := errors.AsType[*exactjson.MemberError](err); ok {
		return req, &FieldError{member.Name, member.Err}
	}
	if err != nil {
		return req, &FieldError{"body", err}
	}
	req.version += versionCamel
	req.names = append(req.names, namesCamel...)
	if typeURL += typeCamel; typeURL != "" && typeURL != assignmentType {
		return req, fieldError("type_url", "%.200q: want %s", typeURL, assignmentType)
	}
	if len(req.names) == 0 || len(req.names) > maxResourceNames {
		return req, fieldError("resource_names", "want 1 to %d names", maxResourceNames)
	}
	slices.Sort(req.names)
	req.names = slices.Compact(req.names)
	for _, name := range req.names {
		ref, err := parseRef(name)
		if err != nil {
			return req, fieldError("resource_names", "%w", err)
		}
		req.refs = append(req.refs, ref)
	}
	return req, nil
}

// The types below have the members of envoy.service.discovery.v3.DiscoveryResponse and
// envoy.config.endpoint.v3.ClusterLoadAssignment that the Handler sets.
type (
	discoveryResponse struct {
		VersionInfo string       `json:"version_info"`
		TypeURL     string       `json:"type_url"`
		Resources   []assignment `json:"resources"`
	}
	assignment struct {
		Type        string             `json:"@type"`
		ClusterName string             `json:"cluster_name"`
		Endpoints   []localityEndpoint `json:"endpoints,omitempty"`
	}
	localityEndpoint struct {
		Locality    locality     `json:"locality"`
		LbEndpoints []lbEndpoint `json:"lb_endpoints"`
	}
	locality struct {
		Zone string `json:"zone,omitempty"`
	}
	lbEndpoint struct {
		Endpoint     envoyEndpoint `json:"endpoint"`
		HealthStatus string        `json:"health_status"`
	}
	envoyEndpoint struct {
		Address envoyAddress `json:"address"`
	}
	envoyAddress struct {
		SocketAddress socketAddress `json:"socket_address"`
	}
	socketAddress struct {
		Address   string `json:"address"`
		PortValue uint16 `json:"port_value"`
	}
)

// serveEnvoy answers a DiscoveryRequest for endpoints. It answers 304 if Envoy has the current
// version, as Envoy's REST subscription expects.
func (h *Handler) serveEnvoy(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxDiscoveryRequest))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			fail(w, http.StatusRequestEntityTooLarge, fmt.Errorf("the body is longer than %d bytes", maxDiscoveryRequest))
		}
		return // otherwise the client has closed the connection, or sends too slowly
	}
	req, err := parseDiscoveryRequest(body)
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	now := h.snapshot()
	views := make([]*view, len(req.refs)) // nil for an unknown service
	parts := []string{}
	for i, ref := range req.refs {
		if svc, reason := now.find(ref); reason == "" {
			views[i] = svc.view(ref)
			parts = append(parts, req.names[i], views[i].revision)
		}
	}
	version := revision(parts...)
	w.Header().Set("Age", strconv.FormatInt(now.source.age(), 10))
	if req.version == version {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	answer := append(marshal(respond(version, req.names, views)), '\n')
	writeJSON(w, compresses(r, len(answer)), answer)
}

// respond makes the answer for Envoy. The answer contains the pods of each view that is not nil.
// The argument "names" has the resource name of each view.
func respond(version string, names []string, views []*view) discoveryResponse {
	resp := discoveryResponse{VersionInfo: version, TypeURL: assignmentType, Resources: []assignment{}}
	for i, v := range views {
		if v == nil {
			continue
		}
		resp.Resources = append(resp.Resources, assignment{Type: assignmentType, ClusterName: names[i], Endpoints: localities(v.pods)})
	}
	return resp
}

// localities groups pods by zone, sorted by the name of the zone.
func localities(pods []endpoints.Pod) []localityEndpoint {
	byZone := map[string]*localityEndpoint{}
	for _, p := range pods {
		l := byZone[p.Zone]
		if l == nil {
			l = &localityEndpoint{Locality: locality{p.Zone}}
			byZone[p.Zone] = l
		}
		l.LbEndpoints = append(l.LbEndpoints, lbEndpoint{
			Endpoint:     envoyEndpoint{envoyAddress{socketAddress{p.Addr.Addr().String(), p.Addr.Port()}}},
			HealthStatus: healthStatus(p),
		})
	}
	list := make([]localityEndpoint, 0, len(byZone))
	for _, l := range byZone {
		list = append(list, *l)
	}
	slices.SortFunc(list, func(a, b localityEndpoint) int { return strings.Compare(a.Locality.Zone, b.Locality.Zone) })
	return list
}

// healthStatus returns the value of envoy.config.core.v3.HealthStatus for a pod.
func healthStatus(p endpoints.Pod) string {
	switch {
	case p.AcceptsRequests():
		return "HEALTHY"
	case p.Terminating && p.Serving:
		return "DRAINING"
	}
	return "UNHEALTHY"
}
