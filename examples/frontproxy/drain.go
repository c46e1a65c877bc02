package main

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/headgate/headgate/agentcheck/drain"
	"github.com/headgate/headgate/examples/internal/cli"
)

const drainProgram = program + " drain"

// adminPages serves /drain; see drain.Control. When ctx ends, it answers the requests that wait for
// the end of the drain. cli.Admin checks the permission before it calls the handler.
func (p *proxy) adminPages(ctx context.Context) http.Handler {
	control := drain.Control{Drainer: p.drainer, Allow: func(*http.Request) bool { return true }}
	mux := http.NewServeMux()
	mux.HandleFunc("/drain", func(w http.ResponseWriter, r *http.Request) {
		// Remove the read time-out of the connection, because it would end a request that waits. If
		// the request has a body, the time-out must stay: net/http reads the body, and a client
		// could send the body slowly.
		if r.ContentLength == 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
		}
		waiting, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		control.ServeHTTP(w, r.WithContext(waiting))
	})
	return mux
}

// runDrain is the subcommand "frontproxy drain". It makes the running program drain, prints the
// progress, and returns at the end of the drain. It works in a container that has no shell and no
// curl.
func runDrain(ctx context.Context, inv cli.Invocation) int {
	fs := cli.NewFlagSet(drainProgram)
	var admin cli.AdminFlags
	admin.RegisterClient(fs)
	undo := fs.Bool("undo", false, cli.Meaning("undo"))
	if code, done := inv.Parse(fs); done {
		return code
	}
	if !admin.Given() {
		return inv.Fail(cli.ExitUsage, drainProgram, "-admin is needed (-h shows the flags)")
	}
	if err := admin.Check(); err != nil {
		return inv.Fail(cli.ExitUsage, drainProgram, "%v", err)
	}
	if *undo {
		if err := admin.Ask(ctx, http.MethodDelete, "/drain", nil, inv.Stdout); err != nil {
			return inv.Fail(cli.ExitFailed, drainProgram, "%v", err)
		}
		return cli.ExitOK
	}
	if err := admin.Ask(ctx, http.MethodPost, "/drain", url.Values{"stream": {""}}, inv.Stdout); err != nil {
		return inv.Fail(cli.ExitFailed, drainProgram, "%v", err)
	}
	var state bytes.Buffer
	if err := admin.Ask(ctx, http.MethodGet, "/drain", nil, &state); err != nil {
		return cli.ExitOK // the program has ended
	}
	if !strings.HasPrefix(state.String(), "done") {
		return cli.ExitFailed
	}
	return cli.ExitOK
}
