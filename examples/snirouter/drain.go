package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/headgate/headgate/examples/internal/cli"
)

// drain knows since when the router is to get no new connections. The zero value has not
// begun.
type drain struct {
	mu    sync.Mutex
	since time.Time
}

// begin is done once; later calls change nothing. It returns when it began.
func (d *drain) begin() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.since.IsZero() {
		d.since = time.Now()
	}
	return d.since
}

// began returns when that was, the zero time for not yet.
func (d *drain) began() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.since
}

// ready is what /readyz asks.
func (d *drain) ready() error {
	if !d.began().IsZero() {
		return errors.New("draining")
	}
	return nil
}

// ServeHTTP answers POST /drain.
func (d *drain) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintf(w, "draining since %s\n", d.begin().UTC().Format(time.RFC3339))
}

const drainProgram = program + " drain"

// runDrain is the subcommand: what a preStop hook calls where there is no shell.
func runDrain(ctx context.Context, inv cli.Invocation) int {
	fs := cli.NewFlagSet(drainProgram, "snirouter drain -admin 127.0.0.1:9801 -wait 10s")
	admin := fs.String("admin", "", "`address` of the router's admin listener, as the router has it")
	wait := fs.Duration("wait", 0, "time to wait before the command ends, while balancers notice /readyz")
	if code, done := inv.Parse(fs); done {
		return code
	}
	if *admin == "" {
		return inv.Fail(cli.ExitUsage, drainProgram, "-admin is needed (-h shows the flags)")
	}
	if _, _, err := net.SplitHostPort(*admin); err != nil {
		return inv.Fail(cli.ExitUsage, drainProgram, "-admin: %v", err)
	}
	if err := ask(ctx, *admin, inv.Stdout); err != nil {
		return inv.Fail(cli.ExitFailed, drainProgram, "%v", err)
	}
	timer := time.NewTimer(*wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return cli.ExitOK
}

func ask(ctx context.Context, admin string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return cli.AskAdmin(ctx, http.MethodPost, admin, "/drain", nil, out)
}
