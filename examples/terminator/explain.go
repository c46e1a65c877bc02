package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/kubeconn"
	"github.com/headgate/headgate/haproxycfg/controller/explain"
	"github.com/headgate/headgate/haproxycfg/controller/journal"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// explainCommand is "terminator explain". With -admin, it requests the explanation from a running
// terminator. With -at, it uses the journal. Without both flags, it uses the same inputs as -diff.
type explainCommand struct {
	settings
	json   bool
	at     string // "" means now
	target explain.Target

	time time.Time // the parsed text of the field at; zero means now
}

func (c *explainCommand) register(fs *flag.FlagSet) {
	c.settings.register(fs)
	fs.BoolVar(&c.json, "json", false, cli.Meaning("json"))
	fs.StringVar(&c.at, "at", "", "explain what was in force at this `time`, from the journal in -out: a time such as 2026-05-01T12:00:00Z, or how long ago, such as 90m")
}

// runExplain is the subcommand "terminator explain".
func runExplain(ctx context.Context, inv cli.Invocation) int {
	name := program + " explain"
	c := explainCommand{settings: settings{diff: true}}
	fs := cli.NewFlagSet(name)
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
	if c.target, err = explain.ParseTarget(argument); err != nil {
		return err
	}
	if c.at != "" {
		if c.time, err = journal.ParseTime(c.at, time.Now()); err != nil {
			return fmt.Errorf("-at: %w", err)
		}
	}
	if c.admin.Given() {
		return c.admin.Check()
	}
	if c.once || c.simulate || c.force {
		return errors.New("-once, -simulate and -force cannot be used here")
	}
	if c.at != "" && c.out != "" && len(c.Routes) == 0 { // the journal has the routes
		return nil
	}
	c.diff = true // the inputs are read once, and nothing is written
	return c.resolve()
}

// formatOf returns the name of a format in requests to a running terminator.
func formatOf(json bool) string {
	if json {
		return "json"
	}
	return "text"
}

func (c *explainCommand) run(ctx context.Context, inv cli.Invocation) error {
	defer inv.Progress("explaining %s%s", c.target.Host, c.target.Path).Stop()
	if c.admin.Given() {
		query := url.Values{"host": {c.target.Host}, "path": {c.target.Path}, "format": {formatOf(c.json)}}
		if c.at != "" {
			query.Set("at", c.at)
		}
		return c.admin.Ask(ctx, http.MethodGet, "/explain", query, inv.Stdout)
	}
	kubeconn.LogTo(nil) // the errors of Plan are enough
	e, err := c.explain(ctx, inv)
	if err != nil {
		return err
	}
	text := e.AppendText(nil)
	if c.json {
		if text, err = json.MarshalIndent(e, "", "  "); err != nil {
			return err
		}
		text = append(text, '\n')
	}
	_, err = inv.Stdout.Write(text)
	return err
}

func (c *explainCommand) explain(ctx context.Context, inv cli.Invocation) (explain.Explanation, error) {
	controller := c.controller(c.printWarnings(inv))
	if c.at != "" {
		return controller.ExplainAt(c.time, c.target)
	}
	change, err := controller.Plan(ctx, program+" explain")
	if err != nil {
		return explain.Explanation{}, err
	}
	return controller.ExplainChange(ctx, change, c.target, c.worker())
}

// worker returns a function that finds the socket of HAProxy's worker. If neither -stats-socket nor
// -reload is set, worker returns nil.
func (s *settings) worker() func(context.Context) (runtimeapi.Socket, error) {
	counters := s.counters()
	if counters.Stats.Path+counters.Master.Path == "" {
		return nil
	}
	return counters.Worker
}
