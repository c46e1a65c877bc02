package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli/clitest"
	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/controller/journal"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/haproxycfg/shift"
	"github.com/headgate/headgate/internal/openapitest"
)

// TestOpenAPI sends requests to a terminator with a real HAProxy.
func TestOpenAPI(t *testing.T) {
	doc := openapitest.Load(t, "openapi.yaml")
	w := newShiftWorld(t)
	h := openapitest.Remote(w.admin)
	bearer := openapitest.Header("Authorization", "Bearer "+clitest.Token)
	doc.SendRefused(t, h)

	w.eventually("the report is in force", func() bool { code, _ := w.do("GET", "/report.json"); return code == 200 })
	doc.Send(t, h, "GET", "/", 200)
	doc.Send(t, h, "GET", "/hold", 200)
	doc.Send(t, h, "GET", "/report.json", 200)
	doc.Send(t, h, "GET", "/explain?host=api.example.com&path=/tracks", 200)
	doc.Send(t, h, "GET", "/explain?host=api.example.com&format=json", 200)
	doc.Send(t, h, "GET", "/explain?host=-", 400)
	doc.Send(t, h, "GET", "/explain?host=api.example.com&at=2001-01-01T00:00:00Z", 404)
	doc.Send(t, h, "GET", "/journal", 200)
	doc.Send(t, h, "GET", "/journal?format=json", 200)
	doc.Send(t, h, "GET", "/journal?format=xml", 400)
	doc.Send(t, h, "GET", "/traffic?addr=127.0.0.1", 200)
	doc.Send(t, h, "GET", "/traffic", 400)

	route := "?route=" + url.QueryEscape("api.example.com/tracks")
	doc.Send(t, h, "GET", "/shifts", 200)
	doc.Send(t, h, "POST", "/shift"+route+"&to=eu-2:5%25", 400, bearer)
	doc.Send(t, h, "POST", "/shift?route=none.example&to=eu-2:5%25&for=1h", 409, bearer)
	doc.Send(t, h, "POST", "/shift"+route+"&to=eu-2:5%25&for=1h", 200, bearer)
	doc.Send(t, h, "POST", "/shift/resume"+route, 409, bearer)
	doc.Send(t, h, "POST", "/shift/undo"+route, 200, bearer)
	doc.Send(t, h, "POST", "/shift?cluster=eu-1&to=eu-2:5%25&for=1h", 200, bearer)
	doc.Send(t, h, "POST", "/shift/undo?cluster=eu-1", 200, bearer)
	for _, path := range []string{"/shift/undo", "/shift/resume"} {
		doc.Send(t, h, "POST", path+"?route=-", 400, bearer)
	}
	doc.Send(t, h, "POST", "/shift/undo?route=none.example", 409, bearer)
	doc.Send(t, h, "POST", "/shift/close?percent=5%25", 200, bearer)
	doc.Send(t, h, "POST", "/shift/close?percent=much", 400, bearer)

	doc.Send(t, h, "POST", "/force", 200, bearer)
	doc.Send(t, h, "POST", "/force?id=", 400, bearer)
	doc.Send(t, h, "POST", "/rollback?force=maybe", 400, bearer)
	doc.Send(t, h, "POST", "/rollback?id=none", 404, bearer)
	doc.Send(t, h, "POST", "/release", 404, bearer)
	w.replace("routes.yaml", shiftRoutes+"- host: new.example.com\n  backends:\n  - {cluster: eu-1, namespace: media, service: tracks, port: http}\n")
	w.eventually("HAProxy serves the new host", func() bool { return w.status("new.example.com") == 200 })
	w.eventually("the change is in the journal", func() bool {
		_, lines := w.journal("-admin", w.admin)
		return strings.Contains(lines[0], "new.example.com/: added")
	})
	doc.Send(t, h, "POST", "/rollback?by=ada&reason=test", 200, bearer)
	held := doc.Send(t, h, "GET", "/hold", 200)
	require.Contains(t, held.Body.String(), "ada", "the document describes a hold, and not only null")
	doc.Send(t, h, "POST", "/release?by=ada", 200, bearer)

	sendToAFailingTerminator(t, doc)
	doc.RequireAll(t, map[string]string{
		"POST /force 202":        "needs an attempt that takes longer than 25 s",
		"POST /force 409":        "TestWatchRefusesAndIsForced requires it",
		"POST /rollback 409":     "TestHoldHandler of package controller requires it",
		"POST /shift/resume 200": "needs a shift that errors have paused, as in TestShift",
	})
}

// sendToAFailingTerminator sends requests to the handlers of a Controller that does not run, and
// whose files and HAProxy cannot be read.
func sendToAFailingTerminator(t *testing.T, doc *openapitest.Document) {
	broken := errors.New("broken")
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	c := &controller.Controller{Dir: &deploy.Dir{Path: file}, Journal: &journal.Dir{Path: file}}
	for path, h := range map[string]http.Handler{
		"GET /journal":               c.JournalHandler(),
		"GET /report.json":           c.ReportHandler(),
		"GET /explain?host=a.test":   c.ExplainHandler(nil),
		"GET /traffic?addr=10.0.0.1": controller.TrafficHandler(func(context.Context) ([][]runtimeapi.Stat, error) { return nil, broken }),
		"POST /force":                c.ForceHandler(),
		"POST /rollback":             c.HoldHandler(),
		"POST /release":              c.HoldHandler(),
	} {
		method, target, _ := strings.Cut(path, " ")
		doc.Send(t, h, method, target, 503, openapitest.Context(canceled(t)))
	}
	shifts := (&shift.Runner{Control: brokenControl{broken}}).Handler(nil)
	for _, path := range []string{"GET /shifts", "POST /shift?route=a.test&to=eu-2:5%25&for=1h", "POST /shift/undo?route=a.test", "POST /shift/resume?route=a.test", "POST /shift/close?percent=5%25"} {
		method, target, _ := strings.Cut(path, " ")
		doc.Send(t, shifts, method, target, 502)
	}
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// brokenControl is a shift.Control that always fails.
type brokenControl struct{ err error }

func (c brokenControl) Shifts() (shift.State, error) { return shift.State{}, c.err }

func (c brokenControl) SetShifts(context.Context, shift.State, shift.State) error { return c.err }

func (c brokenControl) CheckShift(string, string) error { return nil }
