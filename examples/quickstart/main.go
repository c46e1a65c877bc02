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
// replaced by a new one. Last, a router sends sites that end TLS themselves to where
// an API says they are, by the name that clients ask for, also while the API is down.
//
// With -stay it is left running, to be tried by hand. It needs haproxy on PATH and
// Linux, where all of 127.0.0.0/8 can be listened on.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"

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

	fmt.Fprintf(inv.Stdout, "Two clusters of %d nodes with their agents, HAProxy in front of them, requests all the while: about 20 s.\n\n", nodesPerCluster)
	s, err := startSystem(ctx, options{haproxy: haproxy, network: *network, fault: *fault})
	if err != nil {
		return inv.Fail(cli.ExitFailed, program, "%v", interrupted(err))
	}
	defer s.stop()
	t := table{w: inv.Stdout}
	t.header()
	if err := scenario(ctx, s, t.row); err != nil {
		return inv.Fail(cli.ExitFailed, program, "%v", interrupted(err))
	}
	if t.failed == 0 {
		fmt.Fprintf(inv.Stdout, "\nAll %d steps went as expected.\n", t.rows)
	}
	if *stay {
		s.describe(inv.Stdout)
		<-ctx.Done()
	} else if t.failed == 0 {
		fmt.Fprintln(inv.Stdout, "To try things by hand, run it with -stay.")
	}
	if t.failed > 0 {
		return inv.Fail(cli.ExitFailed, program, "%d of %d steps did not go as expected", t.failed, t.rows)
	}
	return cli.ExitOK
}

// interrupted says in plain words that somebody pressed Ctrl-C.
func interrupted(err error) error {
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted")
	}
	return err
}

// step is a row of the table that quickstart prints.
type step struct {
	name, expected, seen string
	ok                   bool
}

// table prints steps as they are done, in columns wide enough for most of them.
type table struct {
	w            io.Writer
	rows, failed int
}

const tableRow = "%-6s  %-55s  %-36s  %s\n"

func (t *table) header() { fmt.Fprintf(t.w, tableRow, "", "step", "expected", "seen") }

func (t *table) row(s step) {
	t.rows++
	mark := "ok"
	if !s.ok {
		mark = "FAILED"
		t.failed++
	}
	fmt.Fprintf(t.w, tableRow, mark, s.name, s.expected, s.seen)
}
