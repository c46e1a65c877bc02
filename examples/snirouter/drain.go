package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/headgate/headgate/examples/internal/cli"
)

// drain is the state of the router's drain. The zero value means that no drain has begun.
type drain struct {
	mu       sync.Mutex
	since    time.Time
	stopping bool // the drain cannot end any more
}

// begin begins the drain, unless it has begun before. The result since is the time when the drain
// began. The result first is true if this call began it. The argument stopping is true when the
// router stops; after that, the method end cannot end the drain.
func (d *drain) begin(stopping bool) (since time.Time, first bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopping = d.stopping || stopping
	if d.since.IsZero() {
		d.since, first = time.Now(), true
	}
	return d.since, first
}

// end ends the drain. The result since is the time when the drain began, or zero if there was no
// drain. If the result stopping is true, end has not ended the drain, because the router stops.
func (d *drain) end() (since time.Time, stopping bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	since = d.since
	if !d.stopping {
		d.since = time.Time{}
	}
	return since, d.stopping
}

// began returns when the drain began, or zero if there is no drain.
func (d *drain) began() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.since
}

// ready returns the error for /readyz, which is nil unless there is a drain.
func (d *drain) ready() error {
	if !d.began().IsZero() {
		return errors.New("draining")
	}
	return nil
}

// beginDrain answers POST /drain.
func (s *status) beginDrain(w http.ResponseWriter, r *http.Request) {
	since, first := s.drain.begin(false)
	if first {
		s.logger.Info("drain command", "client", r.RemoteAddr)
	}
	fmt.Fprintf(w, "draining since %s\n", since.UTC().Format(time.RFC3339))
}

// endDrain answers DELETE /drain.
func (s *status) endDrain(w http.ResponseWriter, r *http.Request) {
	since, stopping := s.drain.end()
	switch {
	case stopping:
		http.Error(w, "the router stops; its drain cannot end", http.StatusConflict)
	case since.IsZero():
		fmt.Fprintln(w, "no drain was in force")
	default:
		s.logger.Info("drain command ended", "client", r.RemoteAddr)
		fmt.Fprintf(w, "the drain since %s has ended\n", since.UTC().Format(time.RFC3339))
	}
}

const drainProgram = program + " drain"

// runDrain is the subcommand drain. It starts or ends the drain of a running router; after the
// start it waits for -wait. A preStop hook can call it in a container without a shell.
func runDrain(ctx context.Context, inv cli.Invocation) int {
	fs := cli.NewFlagSet(drainProgram, "snirouter drain -admin unix:/run/headgate/snirouter.sock -wait 10s")
	var admin cli.AdminFlags
	admin.RegisterClient(fs)
	wait := fs.Duration("wait", 0, "how long the command then waits, while balancers notice /readyz")
	off := fs.Bool("off", false, "end the drain (undo it) instead, at once")
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
	if *off {
		method, *wait = http.MethodDelete, 0
	}
	asking, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := admin.Ask(asking, method, "/drain", nil, inv.Stdout); err != nil {
		return inv.Fail(cli.ExitFailed, drainProgram, "%v", err)
	}
	select {
	case <-time.After(*wait):
	case <-ctx.Done():
	}
	return cli.ExitOK
}
