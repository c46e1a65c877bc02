package httpapi

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/openapitest"
	"github.com/headgate/headgate/sniproxy/hostlookup"
)

func TestOpenAPI(t *testing.T) {
	t.Parallel()
	doc := openapitest.Load(t, "openapi.yaml")
	token, tokenErr := "secret", error(nil)
	h := &Handler{Token: func(context.Context) (string, error) { return token, tokenErr }}
	bearer := openapitest.Header("Authorization", "Bearer secret")

	doc.Send(t, h, "GET", "/hosts/a.example", 503, bearer)
	doc.Send(t, h, "GET", "/changes", 503, bearer)
	hosts, err := hostlookup.NewHosts(map[string]hostlookup.Endpoint{"a.example": {App: "a", Addr: "10.0.0.1"}, "*.b.example": {Addr: "b"}})
	require.NoError(t, err)
	_, err = h.Publish(hosts)
	require.NoError(t, err)
	etag := doc.Send(t, h, "GET", "/hosts/A.example.", 200, bearer).Header().Get("ETag")
	doc.Send(t, h, "GET", "/hosts/x.b.example", 200, bearer)
	doc.Send(t, h, "GET", "/hosts/a.example", 304, bearer, openapitest.Header("If-None-Match", etag))
	doc.Send(t, h, "GET", "/hosts/c.example", 404, bearer)
	doc.Send(t, h, "GET", "/hosts/-", 404, bearer)
	doc.Send(t, h, "GET", "/changes", 200, bearer)
	version := h.history.snapshot().version
	hosts, err = hostlookup.NewHosts(map[string]hostlookup.Endpoint{"a.example": {App: "b", Addr: "10.0.0.2"}})
	require.NoError(t, err)
	_, err = h.Publish(hosts)
	require.NoError(t, err)
	changed := doc.Send(t, h, "GET", "/changes?since="+version, 200, bearer)
	require.Contains(t, changed.Body.String(), "max_age", "the answer has all members")
	doc.Send(t, h, "GET", "/changes?wait=soon", 400, bearer)
	for _, path := range []string{"/hosts/a.example", "/changes"} {
		doc.Send(t, h, "GET", path, 401)
		doc.Send(t, h, "GET", path, 413, openapitest.Body("text/plain", "x"))
	}
	tokenErr = errors.New("no file")
	for _, path := range []string{"/hosts/a.example", "/changes"} {
		doc.Send(t, h, "GET", path, 500, bearer)
	}
	doc.RequireAll(t, nil)
}
