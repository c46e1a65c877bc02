package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/headgate/headgate/agentcheck/nodeagent"
	"github.com/headgate/headgate/examples/internal/cli"
)

const (
	drainProgram = program + " drain"
	longestWait  = 10 * time.Minute
)

// drainer contains the methods of a *nodeagent.Agent that drainHandler calls. Tests use a fake.
type drainer interface {
	Drain(context.Context) (nodeagent.DrainProgress, error)
	EndDrain() (since time.Time, ok bool)
}

// drainHandler serves POST and DELETE of /drain. When ctx ends, the handler answers the POSTs that
// still wait. cli.Admin checks the permission before it calls the handler.
func drainHandler(ctx context.Context, d drainer, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /drain", func(w http.ResponseWriter, r *http.Request) { beginDrain(ctx, d, log, w, r) })
	mux.HandleFunc("DELETE /drain", func(w http.ResponseWriter, _ *http.Request) {
		since, ok := d.EndDrain()
		if !ok {
			fmt.Fprintln(w, "no drain command was in force")
			return
		}
		log.Info("drain command ended")
		fmt.Fprintln(w, "the drain command of "+since.UTC().Format(time.RFC3339)+" has ended")
	})
	return mux
}

// beginDrain drains the node. It answers when all HAProxies that still make checks have received
// the answer "drain", or after the duration in the parameter wait. The status means:
//
//   - 200: all these HAProxies have received the answer "drain"
//   - 409: the node waits for other nodes
//   - 504: some of these HAProxies have not received the answer
//   - 503: the agent stops
func beginDrain(stop context.Context, d drainer, log *slog.Logger, w http.ResponseWriter, r *http.Request) {
	var wait time.Duration
	if text := r.URL.Query().Get("wait"); text != "" {
		var err error
		if wait, err = time.ParseDuration(text); err != nil || wait < 0 || wait > longestWait {
			http.Error(w, fmt.Sprintf("wait=%s: want a duration, at most %s", text, longestWait), http.StatusBadRequest)
			return
		}
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(wait + 10*time.Second))
	log.Info("drain command", "wait", wait)
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	defer context.AfterFunc(stop, cancel)()
	progress, err := d.Drain(ctx)
	switch {
	case err == nil:
		fmt.Fprintln(w, progress)
	case r.Context().Err() != nil: // the client is gone
	case stop.Err() != nil:
		http.Error(w, "the agent stops; "+progress.String(), http.StatusServiceUnavailable)
	case progress.Waits():
		http.Error(w, progress.String(), http.StatusConflict)
	default:
		http.Error(w, progress.String(), http.StatusGatewayTimeout)
	}
}

// runDrain is the subcommand "nodeagent drain". It sends a request to the running agent, which then
// begins or ends a drain of the node. The subcommand works in a container that has no shell and no
// curl.
func runDrain(ctx context.Context, inv cli.Invocation) int {
	fs := cli.NewFlagSet(drainProgram)
	var admin cli.AdminFlags
	admin.RegisterClient(fs)
	timeout := fs.Duration("timeout", 10*time.Second, cli.Meaning("timeout", "the agent waits until every HAProxy that has asked lately knows of the drain, which needs seconds; 0 means no wait"))
	undo := fs.Bool("undo", false, cli.Meaning("undo"))
	if code, done := inv.Parse(fs); done {
		return code
	}
	if !admin.Given() {
		return inv.Fail(cli.ExitUsage, drainProgram, "-admin is needed (-h shows the flags)")
	}
	if *timeout < 0 || *timeout > longestWait {
		return inv.Fail(cli.ExitUsage, drainProgram, "-timeout: want at most %s", longestWait)
	}
	if err := admin.Check(); err != nil {
		return inv.Fail(cli.ExitUsage, drainProgram, "%v", err)
	}
	method, query := http.MethodPost, url.Values{"wait": {timeout.String()}}
	if *undo {
		method, query = http.MethodDelete, nil
	}
	// The agent gives up after *timeout, and its answer has the reason. The 5 s are for the way of
	// the answer.
	ctx, cancel := context.WithTimeout(ctx, *timeout+5*time.Second)
	defer cancel()
	defer inv.Progress("waiting until every HAProxy knows").Stop()
	if err := admin.Ask(ctx, method, "/drain", query, inv.Stdout); err != nil {
		return inv.Fail(cli.ExitFailed, drainProgram, "%v", err)
	}
	return cli.ExitOK
}
