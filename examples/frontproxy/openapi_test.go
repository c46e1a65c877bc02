package main

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/agentcheck/drain"
	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/internal/openapitest"
)

func TestOpenAPI(t *testing.T) {
	t.Parallel()
	doc := openapitest.Load(t, "openapi.yaml")
	synctest.Test(t, func(t *testing.T) {
		open := 0 // requests
		p := &proxy{drainer: &drain.Drainer{
			Settings: drain.Settings{Delay: -1, Timeout: time.Minute},
			Count:    func() drain.Load { return drain.Load{Requests: open} },
		}}
		h := cli.Admin{Extra: p.adminPages(t.Context()), Token: func() (string, error) { return "secret", nil }}.Handler()
		bearer := openapitest.Header("Authorization", "Bearer secret")
		doc.SendRefused(t, h)
		doc.Send(t, h, "GET", "/drain", 200)
		doc.Send(t, h, "POST", "/drain?wait=soon", 400, bearer)
		doc.Send(t, h, "POST", "/drain", 200, bearer)
		doc.Send(t, h, "DELETE", "/drain", 200, bearer)
		open = 1
		doc.Send(t, h, "POST", "/drain?wait=0s", 202, bearer)
		doc.Send(t, h, "POST", "/drain?undo", 200, bearer)
		time.AfterFunc(time.Second, func() { _, _ = p.drainer.Undo() })
		doc.Send(t, h, "POST", "/drain", 409, bearer)
		doc.Send(t, h, "POST", "/drain", 504, bearer)
		doc.Send(t, h, "POST", "/drain?stream", 200, bearer)
		_, err := p.drainer.Shutdown(t.Context(), nil)
		require.Error(t, err)
		doc.Send(t, h, "DELETE", "/drain", 409, bearer)
	})
	doc.RequireAll(t, nil)
}
