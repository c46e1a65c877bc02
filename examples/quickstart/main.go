// Quickstart runs the whole system on the loopback device of one machine, changes it as operators
// do, and prints the expected and the observed behaviour.
//
//	quickstart
//
// The manifests in system/ describe two clusters of five nodes each. Every node has an address in
// 127.0.0.0/8, with the node ports of its services and the agent ports. A Controller writes the
// configuration of a real haproxy, and clients send requests during the whole run.
//
// The scenario cordons a node, shifts weights from one cluster to the other, and replaces a node.
// At the end, it tests an SNI router with an HTTP API, also while the API fails.
//
// With -stay the system runs until Ctrl-C. Quickstart needs haproxy on PATH, and Linux, where a
// program can listen on every address in 127.0.0.0/8.
package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/internal/haproxyproc"
)

const program = "quickstart"

//go:embed README.md
var readme string // its table of flags groups the help

var commandLine = cli.Program{
	Name:    program,
	Summary: "Runs two clusters with their agents, HAProxy and an SNI router on this machine, changes them, and checks what clients see.",
	Readme:  readme,
	Commands: []cli.Command{{
		Example: "quickstart -stay",
		Exits:   map[int]string{cli.ExitFailed: "a step did not go as expected, or the system could not start"},
		Run:     func(ctx context.Context, inv cli.Invocation) int { return run(ctx, inv, haproxyproc.Find) },
	}},
}

func main() { cli.Main(commandLine.Run) }

// run runs quickstart. The function "find" returns the path of the haproxy binary.
func run(ctx context.Context, inv cli.Invocation, find func() (string, error)) int {
	fs := cli.NewFlagSet(program)
	stay := fs.Bool("stay", false, "keep the system running afterwards, and print commands to try")
	fault := fs.String("break", "", "break one `part`, so that a step fails: backend (a service is down on one node), weight (agents report a wrong weight) or drain (a node does not drain)")
	network := fs.Int("network", 0, "second `byte` of the loopback addresses, 0 to 255, so that several quickstarts can run at once")
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

	fmt.Fprintf(inv.Stdout, "Starting two clusters of %d nodes with their agents, HAProxy in front of them, and clients. This takes about 20 s.\n\n", nodesPerCluster)
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
		fmt.Fprintln(inv.Stdout, "To try the system by hand, run it with -stay.")
	}
	if t.failed > 0 {
		return inv.Fail(cli.ExitFailed, program, "%d of %d steps did not go as expected", t.failed, t.rows)
	}
	return cli.ExitOK
}

// interrupted returns the error "interrupted" if Ctrl-C caused err, and err otherwise.
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

// table prints a row for each step as soon as the step is done. If a text is wider than its column,
// the rest of the row moves to the right.
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
