package main

import (
	"context"
	"errors"
	"flag"
	"net/http"
	"net/url"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/haproxycfg/controller"
)

// journalCommand is "terminator journal". With -admin, it requests the journal from a running
// terminator. Without -admin, it reads the journal in the directory that -out names.
type journalCommand struct {
	settings // the command has only -out and -admin of these flags
	json     bool
}

func (c *journalCommand) register(fs *flag.FlagSet) {
	c.admin.RegisterClient(fs)
	fs.StringVar(&c.out, "out", "", cli.Meaning("out", "without -admin, the command reads the journal in it"))
	fs.BoolVar(&c.json, "json", false, cli.Meaning("json"))
}

// runJournal is the subcommand "terminator journal". It lists the last changes, the newest first.
func runJournal(ctx context.Context, inv cli.Invocation) int {
	name := program + " journal"
	var c journalCommand
	fs := cli.NewFlagSet(name)
	c.register(fs)
	if code, done := inv.Parse(fs); done {
		return code
	}
	if err := c.check(); err != nil {
		return inv.Fail(cli.ExitUsage, name, "%v (-h shows the flags)", err)
	}
	if err := c.run(ctx, inv); err != nil {
		return inv.Fail(cli.ExitFailed, name, "%v", err)
	}
	return cli.ExitOK
}

func (c *journalCommand) check() error {
	if c.admin.Given() == (c.out != "") {
		return errors.New("want either -admin or -out")
	}
	return c.admin.Check()
}

func (c *journalCommand) run(ctx context.Context, inv cli.Invocation) error {
	if c.admin.Given() {
		return c.admin.Ask(ctx, http.MethodGet, "/journal", url.Values{"format": {formatOf(c.json)}}, inv.Stdout)
	}
	text, err := controller.AppendJournal(nil, c.journal(), c.json)
	if err != nil {
		return err
	}
	_, err = inv.Stdout.Write(text)
	return err
}
