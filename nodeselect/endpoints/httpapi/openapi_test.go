package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/openapitest"
)

func TestOpenAPI(t *testing.T) {
	t.Parallel()
	doc := openapitest.Load(t, "openapi.yaml")
	var tokenErr error
	h := &Handler{Token: func(context.Context) (string, error) { return "secret", tokenErr }}
	bearer := openapitest.Header("Authorization", "Bearer secret")
	question := func(names string) openapitest.Option {
		return openapitest.Body("application/json", `{"resource_names": [`+names+`]}`)
	}

	gets := []string{
		"/v1/pods", "/v1/pods/media/tracks", "/v1/pods/media/tracks/http",
		"/v1/prometheus", "/v1/prometheus/media/tracks", "/v1/prometheus/media/tracks/http",
	}
	const post = "/v3/discovery:endpoints"
	for _, path := range gets {
		doc.Send(t, h, "GET", path, 503, bearer)
	}
	doc.Send(t, h, "POST", post, 503, bearer, question(`"media/tracks/http"`))

	h.Publish(some(), Source{})
	for i, path := range gets {
		etag := doc.Send(t, h, "GET", path, 200, bearer).Header().Get("ETag")
		if i < 3 {
			doc.Send(t, h, "GET", path, 304, bearer, openapitest.Header("If-None-Match", etag))
		}
		doc.Send(t, h, "GET", path, 401)
		doc.Send(t, h, "GET", path, 413, openapitest.Body("text/plain", "x"))
	}
	for _, path := range []string{"/v1/pods?wait=soon", "/v1/pods/media/a%20b", "/v1/pods/media/a%20b/http", "/v1/prometheus/media/a%20b", "/v1/prometheus/media/a%20b/http"} {
		doc.Send(t, h, "GET", path, 400, bearer)
	}
	for _, path := range []string{"/v1/pods/media/none", "/v1/pods/media/none/http", "/v1/prometheus/media/none", "/v1/prometheus/media/none/http"} {
		doc.Send(t, h, "GET", path, 404, bearer)
	}
	answer := doc.Send(t, h, "POST", post, 200, bearer, question(`"media/tracks/http", "media/none"`))
	var discovered discoveryResponse
	require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &discovered))
	doc.Send(t, h, "POST", post, 304, bearer, openapitest.Body("application/json", `{"resource_names": ["media/tracks/http", "media/none"], "version_info": "`+discovered.VersionInfo+`"}`))
	doc.Send(t, h, "POST", post, 400, bearer, question(""))
	doc.Send(t, h, "POST", post, 401, question(""))

	// Send each path a method that it does not support. The document lists this answer, 405, at the
	// method that the path supports.
	for _, path := range append(gets, post) {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("DELETE", path, nil)
		bearer(r)
		h.ServeHTTP(w, r)
		require.Equal(t, 405, w.Code)
		documented := "GET"
		if path == post {
			documented = "POST"
		}
		doc.Check(t, documented, path, w.Code, w.Header(), w.Body.Bytes())
	}
	h.Publish(some(), Source{Err: errors.New("the source is away")})
	doc.Send(t, h, "GET", "/v1/pods", 200, bearer)
	tokenErr = errors.New("no file")
	for _, path := range gets {
		doc.Send(t, h, "GET", path, 500)
	}
	doc.Send(t, h, "POST", post, 500, question(""))
	doc.RequireAll(t, nil)
}
