package main

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/headgate/headgate/agentcheck/nodeagent"
	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/internal/openapitest"
)

// stuckDrainer is a drainer whose drain never ends.
type stuckDrainer struct{ status nodeagent.DrainStatus }

func (d stuckDrainer) Drain(ctx context.Context) (nodeagent.DrainProgress, error) {
	<-ctx.Done()
	return nodeagent.DrainProgress{Status: d.status}, ctx.Err()
}

func (stuckDrainer) EndDrain() (time.Time, bool) { return time.Time{}, true }

func TestOpenAPI(t *testing.T) {
	t.Parallel()
	doc := openapitest.Load(t, "openapi.yaml")
	bearer := openapitest.Header("Authorization", "Bearer secret")
	ctx, cancel := context.WithCancel(t.Context())
	serve := func(d drainer) cli.Admin {
		return cli.Admin{Extra: drainHandler(ctx, d, slog.New(slog.DiscardHandler)), Token: func() (string, error) { return "secret", nil }}
	}
	h := serve(&fakeDrainer{}).Handler()
	doc.SendRefused(t, h)
	doc.Send(t, h, "POST", "/drain?wait=1m", 200, bearer)
	doc.Send(t, h, "POST", "/drain?wait=soon", 400, bearer)
	doc.Send(t, h, "DELETE", "/drain", 200, bearer)
	waiting := nodeagent.DrainStatus{Requested: true}
	doc.Send(t, serve(stuckDrainer{waiting}).Handler(), "POST", "/drain?wait=1ms", 409, bearer)
	doc.Send(t, serve(stuckDrainer{}).Handler(), "POST", "/drain?wait=1ms", 504, bearer)
	cancel()
	doc.Send(t, serve(stuckDrainer{}).Handler(), "POST", "/drain?wait=1m", 503, bearer)
	doc.RequireAll(t, nil)
}
