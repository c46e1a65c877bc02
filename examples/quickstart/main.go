// Quickstart runs the whole system on the loopback device of one machine, puts it
// through a day's events, and prints what was expected and what was seen.
//
//	quickstart
//
// Two clusters of five nodes each are made of the manifests in system/: every node
// has an address in 127.0.0.0/8, on which its services answer on their node ports
// and its agents on theirs. A terminator makes a configuration of routes and
// manifests, a real haproxy runs it, and clients send requests all the while. Then
// a node is cordoned, weights shift from one cluster to the other, and a node is
// replaced by a new one.
//
// With -stay it is left running, to be tried by hand. It needs haproxy on PATH and
// Linux, where all of 127.0.0.0/8 can be listened on.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/internal/haproxyproc"
)

const program = "quickstart"

func main() {
	cli.Main(func(ctx context.Context, inv cli.Invocation) int { return run(ctx, inv, haproxyproc.Find) })
}

// run is quickstart, with a way to find haproxy.
func run(ctx context.Context, inv cli.Invocation, find func() (string, error)) int {
	fs := cli.NewFlagSet(program, "quickstart")
	stay := fs.Bool("stay", false, "leave the system running afterwards, with addresses to try")
	fault := fs.String("break", "", "break one `part`, to see the checks find it: backend (one is down), weight (an agent answers a wrong one) or drain (a node does not drain)")
	network := fs.Int("network", 0, "second byte of the loopback addresses, 0 to 255, for several at once")
	if code, done := inv.Parse(fs); done {
		return code
	}
	if !validFault(*fault) {
		return inv.Fail(cli.ExitUsage, program, "-break %s: want backend, weight or drain", *fault)
	}
	if *network < 0 || *network > 255 {
		return inv.Fail(cli.ExitUsage, program, "-network %d: want 0 to 255", *network)
	}
	haproxy, err := find()
	if err != nil {
		return inv.Fail(cli.ExitUsage, program, "%v", err)
	}

	s, err := startSystem(ctx, options{haproxy: haproxy, network: *network, fault: *fault})
	if err != nil {
		return inv.Fail(cli.ExitFailed, program, "%v", err)
	}
	defer s.stop()
	steps, err := scenario(ctx, s)
	failed := printSteps(inv.Stdout, steps)
	if err != nil {
		if errors.Is(err, context.Canceled) {
			err = errors.New("interrupted")
		}
		return inv.Fail(cli.ExitFailed, program, "%v", err)
	}
	if *stay {
		s.describe(inv.Stdout)
		<-ctx.Done()
	}
	if failed > 0 {
		return inv.Fail(cli.ExitFailed, program, "%d of %d steps did not go as expected", failed, len(steps))
	}
	return cli.ExitOK
}

// step is a row of the table that quickstart prints.
type step struct {
	name, expected, seen string
	ok                   bool
}

// printSteps prints the table and returns how many steps failed.
func printSteps(w io.Writer, steps []step) (failed int) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\tstep\texpected\tseen")
	for _, s := range steps {
		mark := "ok"
		if !s.ok {
			mark = "FAILED"
			failed++
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", mark, s.name, s.expected, s.seen)
	}
	table.Flush()
	return failed
}
