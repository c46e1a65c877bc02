package main

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/agentcheck/drain"
	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/internal/openapitest"
)

func TestOpenAPI(t *testing.T) {
	t.Parallel()
	doc := openapitest.Load(t, "openapi.yaml")
	p := start(t, "-hosts", hostsFile(t, "a.test", "127.0.0.1:1"))
	doc.Send(t, openapitest.Remote(p.admin), "GET", "/?q=a&host=a.test", 200)

	s := &status{drain: &drain.Drainer{Settings: drain.Settings{Delay: -1, Timeout: -1}}, logger: slog.New(slog.DiscardHandler)}
	h := cli.Admin{Extra: s.handler(), Token: func() (string, error) { return "secret", nil }}.Handler()
	bearer := openapitest.Header("Authorization", "Bearer secret")
	doc.SendRefused(t, h)
	doc.Send(t, h, "POST", "/drain", 200, bearer)
	doc.Send(t, h, "DELETE", "/drain", 200, bearer)
	_, err := s.drain.Shutdown(context.Background(), nil)
	require.NoError(t, err)
	doc.Send(t, h, "DELETE", "/drain", 409, bearer)
	doc.RequireAll(t, nil)
}

// TestOpenAPIOfAdmin tests the pages that all binaries have.
func TestOpenAPIOfAdmin(t *testing.T) {
	t.Parallel()
	doc := openapitest.Load(t, "../openapi.yaml")
	var err error
	h := cli.Admin{
		Ready: func() error { return err },
		Alive: func(context.Context) error { return err },
	}.Handler()
	for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
		doc.Send(t, h, "GET", path, 200)
	}
	err = errors.New("away")
	doc.Send(t, h, "GET", "/healthz", 503)
	doc.Send(t, h, "GET", "/readyz", 503)
	doc.SendRefused(t, h)
	doc.RequireAll(t, nil)
}
