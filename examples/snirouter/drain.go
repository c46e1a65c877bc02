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

// drain holds when the drain of the router began. The zero value is a drain that has not begun.
type drain struct {
	mu    sync.Mutex
	since time.Time
}

// begin begins the drain at the first call. It returns when the drain began.
func (d *drain) begin() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.since.IsZero() {
		d.since = time.Now()
	}
	return d.since
}

// began returns when the drain began, or the zero time.
func (d *drain) began() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.since
}

// ready returns an error for /readyz after the drain has begun.
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

// runDrain is the subcommand drain: it starts the drain of a router, and waits. A preStop hook can
// call it in a container without a shell.
func runDrain(ctx context.Context, inv cli.Invocation) int {
	fs := cli.NewFlagSet(drainProgram, "snirouter drain -admin 127.0.0.1:9801 -wait 10s")
	admin := fs.String("admin", "", "`address` of the router's admin listener, as the router has it")
	wait := fs.Duration("wait", 0, "how long the command then waits, while balancers notice /readyz")
	if code, done := inv.Parse(fs); done {
		return code
	}
	if *admin == "" {
		return inv.Fail(cli.ExitUsage, drainProgram, "-admin is needed (-h shows the flags)")
	}
	if _, _, err := net.SplitHostPort(*admin); err != nil {
		return inv.Fail(cli.ExitUsage, drainProgram, "-admin: %v", err)
	}
	if err := postDrain(ctx, *admin, inv.Stdout); err != nil {
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

func postDrain(ctx context.Context, admin string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return cli.AskAdmin(ctx, http.MethodPost, admin, "/drain", nil, out)
}
