package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/headgate/headgate/agentcheck/drain"
	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/sniproxy"
)

// newDrainer returns the drainer of the router. 0 in a flag means "no delay" or "no wait", but in a
// field of drain.Settings it means the default. So newDrainer replaces 0 by -1.
func newDrainer(s settings, srv *sniproxy.Server) *drain.Drainer {
	orNone := func(d time.Duration) time.Duration {
		if d == 0 {
			return -1
		}
		return d
	}
	return &drain.Drainer{
		Settings: drain.Settings{Delay: orNone(s.drainDelay), Timeout: orNone(s.drainTimeout)},
		Count:    func() drain.Load { return drain.Load{Connections: int(srv.Load().Conns)} },
	}
}

// drainConnections carries out the drain after SIGTERM. Until the end of -drain-delay, the router
// still accepts connections. After that, it waits for the open connections to end, for at most
// -drain-timeout, and closes the remaining connections.
func (r *router) drainConnections() {
	p, _ := r.drain.Begin()
	r.log.Info("draining", "connections", p.Connections, "delay", p.DelayLeft, "timeout", r.settings.drainTimeout)
	// Shutdown calls this function as soon as -drain-delay is over. From then on, the server itself
	// ends the open connections within -drain-timeout.
	_, _ = r.drain.Shutdown(context.Background(), func() {
		ctx, cancel := context.WithTimeout(context.Background(), r.settings.drainTimeout)
		defer cancel()
		if err := r.srv.Shutdown(ctx); err != nil {
			r.log.Warn("closed the connections that had not ended in time", "err", err)
		}
		_ = r.srv.Close() // it returns after the last call of Finished
	})
}

// beginDrain answers POST /drain.
func (s *status) beginDrain(w http.ResponseWriter, r *http.Request) {
	p, first := s.drain.Begin()
	if first {
		s.logger.Info("drain command", "client", r.RemoteAddr)
	}
	fmt.Fprintf(w, "draining since %s\n", p.Since.UTC().Format(time.RFC3339))
}

// endDrain answers DELETE /drain.
func (s *status) endDrain(w http.ResponseWriter, r *http.Request) {
	before, err := s.drain.Undo()
	switch {
	case err != nil:
		http.Error(w, "the router stops; its drain cannot end", http.StatusConflict)
	case before.State == drain.Serving:
		fmt.Fprintln(w, "no drain was in force")
	default:
		s.logger.Info("drain command ended", "client", r.RemoteAddr)
		fmt.Fprintf(w, "the drain since %s has ended\n", before.Since.UTC().Format(time.RFC3339))
	}
}

const drainProgram = program + " drain"

// runDrain is the subcommand "snirouter drain", which begins or ends the drain of a running router.
// After the beginning of a drain, it exits only after -pause, so that it can be the preStop hook of
// a container without a shell.
func runDrain(ctx context.Context, inv cli.Invocation) int {
	fs := cli.NewFlagSet(drainProgram)
	var admin cli.AdminFlags
	admin.RegisterClient(fs)
	pause := fs.Duration("pause", 0, "how long the command waits after the drain has begun, while balancers notice /readyz")
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
	method := http.MethodPost
	if *undo {
		method, *pause = http.MethodDelete, 0
	}
	asking, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	defer inv.Progress("waiting until balancers notice the drain").Stop()
	if err := admin.Ask(asking, method, "/drain", nil, inv.Stdout); err != nil {
		return inv.Fail(cli.ExitFailed, drainProgram, "%v", err)
	}
	select {
	case <-time.After(*pause):
	case <-ctx.Done():
	}
	return cli.ExitOK
}
