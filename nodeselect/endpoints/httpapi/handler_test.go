package httpapi

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	discoveryv1 "k8s.io/api/discovery/v1"
)

const (
	zoneA = `{"zone":"eu-1a","pods":[` +
		`{"address":"10.0.0.1","port":8080,"node":"node-a","ready":true,"serving":true,"terminating":false},` +
		`{"address":"10.0.0.3","port":8080,"ready":false,"serving":true,"terminating":true}]}`
	zoneB = `{"zone":"eu-1b","pods":[` +
		`{"address":"10.0.0.2","port":8080,"ready":true,"serving":true,"terminating":false},` +
		`{"address":"10.0.0.4","port":8080,"ready":false,"serving":false,"terminating":false}]}`
)

func TestPods(t *testing.T) {
	h := serving(t)
	for target, want := range map[string]string{
		"tracks/http":             `{"namespace":"media","service":"tracks","port":"http"} [` + zoneA + `,` + zoneB + `]`,
		"tracks/8080":             `{"namespace":"media","service":"tracks","port":"8080"} [` + zoneA + `,` + zoneB + `]`,
		"tracks":                  `{"namespace":"media","service":"tracks"} [` + zoneA + `,` + zoneB + `]`,
		"tracks/http?zone=eu-1a":  `{"namespace":"media","service":"tracks","port":"http"} [` + zoneA + `]`,
		"tracks/http?zone=eu-1c":  `{"namespace":"media","service":"tracks","port":"http"} []`,
		"tracks/http?zone=":       `{"namespace":"media","service":"tracks","port":"http"} []`,
		"idle/http":               `{"namespace":"media","service":"idle","port":"http"} []`,
		"idle/any-port?zone=eu-1": `{"namespace":"media","service":"idle","port":"any-port"} []`,
	} {
		t.Run(target, func(t *testing.T) {
			code, body, header := get(h, "/v1/pods/media/"+target)
			require.Equal(t, 200, code, body)
			require.Equal(t, "application/json", header.Get("Content-Type"))
			require.Equal(t, "no-cache", header.Get("Cache-Control"))
			require.Equal(t, "0", header.Get("Age"))
			revision := strings.Trim(header.Get("ETag"), `"`)
			require.Regexp(t, `^[0-9a-f]{16}$`, revision)
			service, zones, _ := strings.Cut(want, " ")
			require.Equal(t, `{"version":1,"service":`+service+`,"revision":"`+revision+`","age":0,"source":{"answers":true},"zones":`+zones+"}\n", body)
		})
	}
}

func TestAllPods(t *testing.T) {
	h := serving(t)
	code, body, header := get(h, "/v1/pods")
	require.Equal(t, 200, code)
	var all struct {
		Version  int
		Revision string
		Services []struct {
			Service  refJSON
			Revision string
			Zones    json.RawMessage
		}
	}
	require.NoError(t, json.Unmarshal([]byte(body), &all))
	require.Equal(t, 1, all.Version)
	require.Equal(t, `"`+all.Revision+`"`, header.Get("ETag"))
	require.Len(t, all.Services, 3)
	require.Equal(t, refJSON{"media", "idle", ""}, all.Services[0].Service)
	require.Equal(t, refJSON{"media", "tracks", "http"}, all.Services[1].Service)
	require.Equal(t, "["+zoneA+","+zoneB+"]", string(all.Services[1].Zones))
	_, _, one := get(h, "/v1/pods/media/tracks/http")
	require.Equal(t, one.Get("ETag"), `"`+all.Services[1].Revision+`"`)
	code, _, _ = get(h, "/v1/pods", "If-None-Match", header.Get("ETag"))
	require.Equal(t, 304, code)
}

func TestWrongRequests(t *testing.T) {
	h := serving(t)
	ports := slice("ports", "10.0.0.1 a ready")
	number, name := int32(9090), "metrics"
	ports.Ports = append(ports.Ports, discoveryv1.EndpointPort{Name: &name, Port: &number})
	h.Publish(group(ports, slice("tracks", "10.0.0.1 a ready")), Source{})
	for _, tt := range []struct {
		target string
		code   int
		body   string
	}{
		{"/v1/pods/media/nobody/http", 404, `{"error":"unknown service media/nobody: it has no EndpointSlice"}`},
		{"/v1/prometheus/media/nobody", 404, `{"error":"unknown service media/nobody: it has no EndpointSlice"}`},
		{"/v1/pods/media/tracks/grpc", 404, `{"error":"service media/tracks has no port grpc; it has http (8080)"}`},
		{"/v1/pods/media/ports", 404, `{"error":"service media/ports has several ports, and the request names none: http (8080), metrics (9090)"}`},
		{"/v1/pods/me%20dia/tracks", 400, `{"error":"namespace: \"me dia\": want letters, digits, '-', '_' and '.'","field":"namespace"}`},
		{"/v1/prometheus/media/a%2Fb", 400, `{"error":"service: \"a/b\": want letters, digits, '-', '_' and '.'","field":"service"}`},
		{"/v1/pods/media/tracks/http?wait=soon", 400, `{"error":"wait: \"soon\": want a time such as 30s","field":"wait"}`},
		{"/v1/pods/media/tracks/http?wait=30", 400, `{"error":"wait: \"30\": want a time such as 30s","field":"wait"}`},
		{"/v1/pods/media/tracks/http?wait=-1s", 400, `{"error":"wait: \"-1s\": want a time such as 30s","field":"wait"}`},
		{"/v1/pods/media/tracks/http?zone=%00", 400, `{"error":"zone: \"\\x00\": want letters, digits, '-', '_' and '.'","field":"zone"}`},
		{"/v1/pods/media/tracks/http?zone=a&zone=b", 400, `{"error":"zone: comes more than once","field":"zone"}`},
		{"/v1/pods?zone=a", 400, `{"error":"zone: needs the name of a service in the path","field":"zone"}`},
		{"/v1/pods?ready=true", 400, `{"error":"ready: unknown parameter: there are wait and zone","field":"ready"}`},
		{"/v1/pods/media", 404, `{"error":"unknown path: there are GET /v1/pods, GET /v1/pods/{namespace}/{service}/{port}, GET /v1/prometheus and POST /v3/discovery:endpoints"}`},
	} {
		t.Run(tt.target, func(t *testing.T) {
			code, body, header := get(h, tt.target)
			require.Equal(t, tt.code, code)
			require.Equal(t, tt.body+"\n", body)
			require.Equal(t, "application/json", header.Get("Content-Type"))
		})
	}
	r := httptest.NewRequest(http.MethodGet, "/v1/pods", strings.NewReader("a body"))
	code, _, header := do(h, r)
	require.Equal(t, 413, code)
	require.Equal(t, "close", header.Get("Connection"))
}

// For a known path and a wrong method, the handler answers 405, and the header Allow names the
// right methods.
func TestMethods(t *testing.T) {
	h := serving(t)
	for target, allow := range map[string]string{
		"/v1/pods": "GET, HEAD", "/v1/pods/media/tracks/http": "GET, HEAD", "/v1/pods/media/tracks": "GET, HEAD",
		"/v1/prometheus/media/tracks/http": "GET, HEAD", "/v3/discovery:endpoints": "POST",
	} {
		code, body, header := do(h, httptest.NewRequest(http.MethodDelete, target, nil))
		require.Equal(t, 405, code, target)
		require.Equal(t, allow, header.Get("Allow"))
		require.Equal(t, `{"error":"method \"DELETE\": this path allows `+allow+`"}`, strings.TrimSpace(body))
	}
	code, _, _ := do(h, httptest.NewRequest(http.MethodHead, "/v1/pods/media/tracks/http", nil))
	require.Equal(t, 200, code)
	code, _, _ = do(h, httptest.NewRequest(http.MethodDelete, "/v2/pods", nil))
	require.Equal(t, 404, code)
}

func TestToken(t *testing.T) {
	var failure error
	h := &Handler{Token: func(context.Context) (string, error) { return "secret", failure }}
	h.Publish(some(), Source{})
	for _, target := range []string{"/v1/pods", "/v1/prometheus", "/nothing"} {
		code, _, header := get(h, target)
		require.Equal(t, 401, code)
		require.Equal(t, `Bearer realm="headgate"`, header.Get("WWW-Authenticate"))
		code, _, _ = get(h, target, "Authorization", "Bearer secret")
		require.NotEqual(t, 401, code)
	}
	failure = errors.New("no such file")
	code, body, _ := get(h, "/v1/pods", "Authorization", "Bearer secret")
	require.Equal(t, 500, code)
	require.Equal(t, `{"error":"the server has no token"}`+"\n", body)
}

func TestNotModified(t *testing.T) {
	h := &Handler{}
	h.Publish(group(many(1, 75)...), Source{})
	const target = "/v1/pods/media/service-000/http"
	_, plain, header := get(h, target)
	tag := header.Get("ETag")
	_, packed, header := get(h, target, "Accept-Encoding", "br, gzip;q=0.5")
	packedTag := header.Get("ETag")
	require.Equal(t, "gzip", header.Get("Content-Encoding"))
	require.Less(t, len(packed), len(plain)/5)
	z, err := gzip.NewReader(strings.NewReader(packed))
	require.NoError(t, err)
	unpacked, err := io.ReadAll(z)
	require.NoError(t, err)
	require.Equal(t, plain, string(unpacked))
	require.Equal(t, strings.TrimSuffix(tag, `"`)+`-gzip"`, packedTag, "two encodings have two strong ETags")

	for _, value := range []string{tag, packedTag, "W/" + tag, `"other", ` + tag, "*"} {
		code, body, header := get(h, target, "If-None-Match", value)
		require.Equal(t, 304, code, value)
		require.Empty(t, body)
		require.Equal(t, tag, header.Get("ETag"))
		require.Equal(t, "0", header.Get("Age"))
	}
	for _, value := range []string{"", `"other"`, strings.Trim(tag, `"`)} {
		code, _, _ := get(h, target, "If-None-Match", value)
		require.Equal(t, 200, code, value)
	}
	for _, value := range []string{"", "br", "gzip;q=0", "gzip; q=0.0"} {
		_, _, header := get(h, target, "Accept-Encoding", value)
		require.Empty(t, header.Get("Content-Encoding"), value)
	}

	// Equal content has the same ETag in another process. A change of any member changes it.
	other := &Handler{}
	other.Publish(group(many(1, 75)...), Source{})
	_, _, header = get(other, target)
	require.Equal(t, tag, header.Get("ETag"))
	changed := many(1, 75)
	changed[0].Endpoints[7].Conditions.Ready = new(bool)
	other.Publish(group(changed...), Source{})
	_, _, header = get(other, target)
	require.NotEqual(t, tag, header.Get("ETag"))
}

// While the source fails, the answers have the same content and ETag, and state their age.
func TestAgeWhileTheSourceFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serving(t)
		_, _, header := get(h, "/v1/pods/media/tracks/http")
		tag := header.Get("ETag")
		h.Publish(some(), Source{Err: errors.New("the API server does not answer"), LastContact: time.Now()})
		_, _, header = get(h, "/v1/pods/media/tracks/http")
		require.Equal(t, "1", header.Get("Age"), "a source that fails has an age of more than 0")
		time.Sleep(41500 * time.Millisecond)
		code, body, header := get(h, "/v1/pods/media/tracks/http")
		require.Equal(t, 200, code)
		require.Equal(t, tag, header.Get("ETag"))
		require.Equal(t, "42", header.Get("Age"))
		require.Contains(t, body, `"age":42,"source":{"answers":false,"error":"the API server does not answer"},"zones":[{"zone":"eu-1a"`)
		code, _, header = get(h, "/v1/pods/media/tracks/http", "If-None-Match", tag)
		require.Equal(t, 304, code)
		require.Equal(t, "42", header.Get("Age"))
		for _, target := range []string{"/v1/prometheus", "/v1/pods"} {
			_, _, header = get(h, target)
			require.Equal(t, "42", header.Get("Age"))
		}
	})
}

// A request with the parameter "wait" gets its answer when the requested pods change, and not
// before.
func TestLongPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &Handler{MaxWaiting: 3}
		services := some()
		h.Publish(services, Source{})
		began := time.Now()
		type answer struct {
			code int
			body string
			tag  string
		}
		ask := func(target, tag string) <-chan answer {
			answers := make(chan answer, 1)
			go func() {
				code, body, header := get(h, target, "If-None-Match", tag)
				answers <- answer{code, body, header.Get("ETag")}
			}()
			synctest.Wait()
			return answers
		}
		const target, inZoneA = "/v1/pods/media/tracks/http?wait=30s", "/v1/pods/media/tracks/http?wait=30s&zone=eu-1a"
		whole, zone, all := <-ask(target, ""), <-ask(inZoneA, ""), <-ask("/v1/pods?wait=30s", "")
		require.Zero(t, time.Since(began), "a client without an ETag does not wait")
		require.Equal(t, 200, (<-ask(target, `"old"`)).code)

		require.Equal(t, 304, (<-ask(target, whole.tag)).code)
		require.Equal(t, 30*time.Second, time.Since(began))
		require.Equal(t, 304, (<-ask("/v1/pods/media/tracks/http?wait=1h", whole.tag)).code)
		require.Equal(t, 30*time.Second+MaxWait, time.Since(began))
		began = time.Now()

		waitWhole, waitZone, waitAll := ask(target, whole.tag), ask(inZoneA, zone.tag), ask("/v1/pods?wait=30s", all.tag)
		require.Equal(t, 3, h.Waiting())
		require.Equal(t, 503, (<-ask(target, whole.tag)).code, "too many requests wait")

		next := group(slice("users", "10.0.1.2 eu-1a ready"))
		next["media/tracks"], next["media/idle"] = services["media/tracks"], services["media/idle"]
		h.Publish(next, Source{})
		require.NotEqual(t, all.tag, (<-waitAll).tag)
		time.Sleep(time.Second)
		require.Equal(t, 2, h.Waiting(), "another service has changed")
		h.Publish(next, Source{Err: errors.New("no answer"), LastContact: time.Now()})
		synctest.Wait()
		require.Equal(t, 2, h.Waiting(), "the condition of the source is not content")

		h.Publish(group(slice("tracks", "10.0.0.1 eu-1a ready", "10.0.0.3 eu-1a stopping")), Source{})
		got := <-waitWhole
		require.Equal(t, 200, got.code)
		require.NotContains(t, got.body, "eu-1b")
		got = <-waitZone
		require.Equal(t, 200, got.code, "the node of a pod is content")
		waitZone = ask(inZoneA, got.tag)
		h.Publish(group(slice("tracks", "10.0.0.1 eu-1a ready", "10.0.0.3 eu-1a stopping", "10.0.0.9 eu-1b ready")), Source{})
		synctest.Wait()
		require.Equal(t, 1, h.Waiting(), "another zone has changed")
		require.Equal(t, time.Second, time.Since(began))
		require.Equal(t, 304, (<-waitZone).code)
		require.Equal(t, 31*time.Second, time.Since(began), "a change elsewhere does not prolong the wait")

		waitZone = ask(inZoneA, got.tag)
		h.Publish(group(), Source{})
		require.Equal(t, 404, (<-waitZone).code)
		_, _, header := get(h, "/v1/pods")
		waitAll = ask("/v1/pods?wait=30s", header.Get("ETag"))
		h.StopWaiting()
		require.Equal(t, 304, (<-waitAll).code)
		require.Equal(t, 31*time.Second, time.Since(began))
	})
}

// A service whose pods are all gone is known, and has an empty list.
func TestServiceWithoutPods(t *testing.T) {
	h := serving(t)
	h.Publish(group(slice("tracks")), Source{})
	code, body, _ := get(h, "/v1/pods/media/tracks/http")
	require.Equal(t, 200, code)
	require.Contains(t, body, `"zones":[]`)
	code, body, _ = get(h, "/v1/prometheus/media/tracks/http")
	require.Equal(t, 200, code)
	require.Equal(t, "[]\n", body)
	code, body, _ = post(h, `{"resource_names":["media/tracks/http"]}`)
	require.Equal(t, 200, code)
	require.Contains(t, body, `"cluster_name":"media/tracks/http"}]`)
	h.Publish(group(), Source{})
	code, _, _ = get(h, "/v1/pods/media/tracks/http")
	require.Equal(t, 404, code)
	code, body, _ = get(h, "/v1/pods")
	require.Equal(t, 200, code)
	require.Contains(t, body, `"services":[]`)
}

func TestPrometheus(t *testing.T) {
	h := serving(t)
	code, body, header := get(h, "/v1/prometheus/media/tracks/http")
	require.Equal(t, 200, code)
	require.Equal(t, "application/json", header.Get("Content-Type"))
	type group struct {
		Targets []string
		Labels  map[string]string
	}
	var groups []group
	require.NoError(t, json.Unmarshal([]byte(body), &groups))
	require.Len(t, groups, 4)
	require.Equal(t, group{[]string{"10.0.0.1:8080"}, map[string]string{
		"__meta_headgate_namespace": "media", "__meta_headgate_service": "tracks", "__meta_headgate_port": "http",
		"__meta_headgate_zone": "eu-1a", "__meta_headgate_node": "node-a",
		"__meta_headgate_ready": "true", "__meta_headgate_terminating": "false",
	}}, groups[0])
	require.Equal(t, "true", groups[2].Labels["__meta_headgate_terminating"])

	code, body, _ = get(h, "/v1/prometheus")
	require.Equal(t, 200, code)
	require.NoError(t, json.Unmarshal([]byte(body), &groups))
	require.Len(t, groups, 5)
	require.Equal(t, "users", groups[4].Labels["__meta_headgate_service"])
}

func TestEnvoy(t *testing.T) {
	h := serving(t)
	code, body, _ := post(h, `{"node":{"id":"front-1"},"resource_names":["media/tracks/http"],"type_url":"`+assignmentType+`"}`)
	require.Equal(t, 200, code, body)
	var resp discoveryResponse
	require.NoError(t, json.Unmarshal([]byte(body), &resp))
	endpoint := func(address, health string) lbEndpoint {
		return lbEndpoint{envoyEndpoint{envoyAddress{socketAddress{address, 8080}}}, health}
	}
	require.Equal(t, discoveryResponse{
		VersionInfo: resp.VersionInfo, TypeURL: assignmentType,
		Resources: []assignment{{Type: assignmentType, ClusterName: "media/tracks/http", Endpoints: []localityEndpoint{
			{locality{"eu-1a"}, []lbEndpoint{endpoint("10.0.0.1", "HEALTHY"), endpoint("10.0.0.3", "DRAINING")}},
			{locality{"eu-1b"}, []lbEndpoint{endpoint("10.0.0.2", "HEALTHY"), endpoint("10.0.0.4", "UNHEALTHY")}},
		}}},
	}, resp)

	// Envoy sends the version of its last answer. The names in camel case mean the same.
	for _, request := range []string{
		`{"version_info":"` + resp.VersionInfo + `","resource_names":["media/tracks/http"]}`,
		`{"versionInfo":"` + resp.VersionInfo + `","resourceNames":["media/tracks/http"],"typeUrl":"` + assignmentType + `"}`,
	} {
		code, body, _ := post(h, request)
		require.Equal(t, 304, code)
		require.Empty(t, body)
	}
	h.Publish(group(slice("tracks", "10.0.0.1 eu-1a ready")), Source{})
	code, _, _ = post(h, `{"version_info":"`+resp.VersionInfo+`","resource_names":["media/tracks/http"]}`)
	require.Equal(t, 200, code)

	// The answer leaves out an unknown service. When the service becomes known, the version
	// changes.
	code, body, _ = post(h, `{"resource_names":["media/new"]}`)
	require.Equal(t, 200, code)
	require.NoError(t, json.Unmarshal([]byte(body), &resp))
	require.Empty(t, resp.Resources)
	code, _, _ = post(h, `{"version_info":"`+resp.VersionInfo+`","resource_names":["media/new"]}`)
	require.Equal(t, 304, code)
	h.Publish(group(slice("new")), Source{})
	code, _, _ = post(h, `{"version_info":"`+resp.VersionInfo+`","resource_names":["media/new"]}`)
	require.Equal(t, 200, code)
}

func TestWrongDiscoveryRequests(t *testing.T) {
	h := serving(t)
	for request, want := range map[string]string{
		``:                                     `{"error":"body: unexpected end of JSON input","field":"body"}`,
		`[]`:                                   `{"error":"body: an array where an object belongs","field":"body"}`,
		`{}`:                                   `{"error":"resource_names: want 1 to 1000 names","field":"resource_names"}`,
		`{"version_info": 7}`:                  `{"error":"version_info: a number where a string belongs","field":"version_info"}`,
		`{"resource_names":["tracks"]}`:        `{"error":"resource_names: \"tracks\": want namespace/service/port","field":"resource_names"}`,
		`{"resource_names":["media/tracks/"]}`: `{"error":"resource_names: \"media/tracks/\": no port after the second slash","field":"resource_names"}`,
		`{"resource_names":["media//http"]}`:   `{"error":"resource_names: service: missing","field":"resource_names"}`,
		`{"resource_names":["a/b"],"type_url":"type.googleapis.com/envoy.config.cluster.v3.Cluster"}`: `{"error":"type_url: \"type.googleapis.com/envoy.config.cluster.v3.Cluster\": want type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment","field":"type_url"}`,
	} {
		code, body, _ := post(h, request)
		require.Equal(t, 400, code, request)
		require.Equal(t, want+"\n", body, request)
	}
	code, _, _ := post(h, `{"node":"`+strings.Repeat("x", maxDiscoveryRequest)+`"}`)
	require.Equal(t, 413, code)
}
