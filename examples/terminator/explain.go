package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/kubeconn"
	"github.com/headgate/headgate/haproxycfg/controller/explain"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// explainCommand is "terminator explain". With -admin, it asks a running terminator. Without -admin,
// it reads the same inputs as -diff.
type explainCommand struct {
	settings
	output string
	target explain.Target
}

func (c *explainCommand) register(fs *flag.FlagSet) {
	c.settings.register(fs)
	fs.StringVar(&c.output, "o", "text", "`format` of the output: text or json")
}

// runExplain is the subcommand "terminator explain".
func runExplain(ctx context.Context, inv cli.Invocation) int {
	name := program + " explain"
	c := explainCommand{settings: settings{diff: true}}
	fs := cli.NewFlagSet(name, "terminator explain -admin unix:admin.sock api.example.com/tracks")
	c.register(fs)
	argument, others := cli.CutArgument(fs, inv.Args)
	inv.Args = others
	if code, done := inv.Parse(fs); done {
		return code
	}
	if err := c.check(argument); err != nil {
		return inv.Fail(cli.ExitUsage, name, "%v (-h shows the flags)", err)
	}
	if err := c.run(ctx, inv); err != nil {
		return inv.Fail(cli.ExitFailed, name, "%v", err)
	}
	return cli.ExitOK
}

func (c *explainCommand) check(argument string) (err error) {
	if c.output != "text" && c.output != "json" {
		return fmt.Errorf("-o: %q: want text or json", c.output)
	}
	if c.target, err = explain.ParseTarget(argument); err != nil {
		return err
	}
	if c.admin.Given() {
		return c.admin.Check()
	}
	if c.once || c.simulate || c.force {
		return errors.New("-once, -simulate and -force cannot be used here")
	}
	c.diff = true // the inputs are read once, and nothing is written
	return c.resolve()
}

func (c *explainCommand) run(ctx context.Context, inv cli.Invocation) error {
	if c.admin.Given() {
		query := url.Values{"host": {c.target.Host}, "path": {c.target.Path}, "format": {c.output}}
		return c.admin.Ask(ctx, http.MethodGet, "/explain", query, inv.Stdout)
	}
	kubeconn.LogTo(nil) // the errors of Plan are enough
	controller := c.controller(c.printWarnings(inv))
	change, err := controller.Plan(ctx, program+" explain")
	if err != nil {
		return err
	}
	e, err := controller.ExplainChange(ctx, change, c.target, c.worker())
	if err != nil {
		return err
	}
	text := e.AppendText(nil)
	if c.output == "json" {
		if text, err = json.MarshalIndent(e, "", "  "); err != nil {
			return err
		}
		text = append(text, '\n')
	}
	_, err = inv.Stdout.Write(text)
	return err
}

// worker returns a function that finds the socket of HAProxy's worker. It returns nil if neither
// -stats-socket nor -reload is set.
func (s *settings) worker() func(context.Context) (runtimeapi.Socket, error) {
	counters := s.counters()
	if counters.Stats.Path+counters.Master.Path == "" {
		return nil
	}
	return counters.Worker
}
