package keeper_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/headgate/headgate/internal/openapitest"
	"github.com/headgate/headgate/nodeselect/disruption/gate/keeper"
)

func TestOpenAPI(t *testing.T) {
	t.Parallel()
	doc := openapitest.Load(t, "openapi.yaml")
	l := newLab()
	var tokenErr error
	h := &keeper.Handler{Keeper: l.keeper(), Token: func(context.Context) (string, error) { return "secret", tokenErr }}
	bearer := openapitest.Header("Authorization", "Bearer secret")
	grant := func(node, holder string) openapitest.Option {
		return openapitest.Body("application/json", `{"nodes": ["`+node+`"], "holder": "`+holder+`", "ttl": "30m"}`)
	}
	form := func(text string) openapitest.Option {
		return openapitest.Body("application/x-www-form-urlencoded", text)
	}

	doc.Send(t, h, "GET", "/v1/may?node=n0", 200, bearer)
	doc.Send(t, h, "GET", "/v1/may", 400, bearer)
	doc.Send(t, h, "GET", "/v1/may?node=n0&node=n1", 409, bearer)
	doc.Send(t, h, "GET", "/v1/wave", 200, bearer)
	doc.Send(t, h, "GET", "/v1/picture", 200, bearer)
	doc.Send(t, h, "POST", "/v1/grants", 400, bearer, grant("n0", ""))
	doc.Send(t, h, "POST", "/v1/grants", 201, bearer, grant("n0", "one"))
	doc.Send(t, h, "POST", "/v1/grants", 409, bearer, grant("n0", "two"))
	doc.Send(t, h, "POST", "/v1/grants", 409, bearer, grant("n1", "two"))
	doc.Send(t, h, "GET", "/v1/may?node=n1", 409, bearer)
	doc.Send(t, h, "GET", "/v1/grants", 200, bearer)
	doc.Send(t, h, "DELETE", "/v1/grants/n0?holder=two", 409, bearer)
	doc.Send(t, h, "DELETE", "/v1/grants/n0?holder=one", 204, bearer)
	doc.Send(t, h, "DELETE", "/v1/grants/n0", 404, bearer)

	doc.Send(t, h, "GET", "/", 401)
	doc.Send(t, h, "POST", "/login", 401, form("token=wrong"))
	doc.Send(t, h, "POST", "/login", 403, form("token=secret"), openapitest.Header("Sec-Fetch-Site", "cross-site"))
	cookie := doc.Send(t, h, "POST", "/login", 303, form("token=secret")).Result().Cookies()[0]
	withCookie := func(r *http.Request) { r.AddCookie(cookie) }
	doc.Send(t, h, "GET", "/", 200, withCookie)
	doc.Send(t, h, "POST", "/logout", 403, openapitest.Header("Sec-Fetch-Site", "cross-site"))
	doc.Send(t, h, "POST", "/logout", 303, withCookie)

	for _, target := range []string{"GET /v1/may?node=n0", "GET /v1/wave", "GET /v1/picture", "GET /v1/grants", "POST /v1/grants", "DELETE /v1/grants/n0"} {
		method, path, _ := strings.Cut(target, " ")
		doc.Send(t, h, method, path, 401)
	}
	l.mu.Lock()
	l.err = errors.New("edge: no answer")
	l.mu.Unlock()
	l.fake.Fail = func(string, string) (before, after error) { return errors.New("no API server"), nil }
	for _, target := range []string{"GET /v1/may?node=n0", "GET /v1/wave", "GET /v1/picture", "GET /v1/grants", "DELETE /v1/grants/n0"} {
		method, path, _ := strings.Cut(target, " ")
		doc.Send(t, h, method, path, 503, bearer)
	}
	doc.Send(t, h, "POST", "/v1/grants", 503, bearer, grant("n5", "one"))
	doc.Send(t, h, "GET", "/", 503, withCookie)
	tokenErr = errors.New("no file")
	doc.Send(t, h, "POST", "/login", 503, form("token=secret"))
	doc.Send(t, h, "POST", "/logout", 503)
	doc.RequireAll(t, nil)
}
