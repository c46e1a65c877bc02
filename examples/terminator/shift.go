package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"time"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/shift"
)

// shiftCommand is "terminator shift". It sends requests to the admin listener of a running
// terminator.
type shiftCommand struct {
	admin                  cli.AdminFlags
	to, steps, maxErrors   string
	hold, length           time.Duration
	minRequests            int
	undo, resume, detached bool
	closePercent           string
	route, cluster         string // both "" means all routes

	// The method "check" sets these fields from the flags.
	order       shift.Order
	closePoints int
}

func (c *shiftCommand) register(fs *flag.FlagSet) {
	c.admin.RegisterClient(fs)
	fs.StringVar(&c.to, "to", "", "move the route, or all routes of the cluster, to `CLUSTER:PERCENT`")
	fs.DurationVar(&c.length, "for", 0, "time after which the shift ends by itself, at most 72h; needed with -to")
	fs.StringVar(&c.steps, "steps", "1,5,25,50,100", "`percentages` of the steps, in ascending order; steps above the target are left out")
	fs.DurationVar(&c.hold, "hold", shift.DefaultHold, "time for which each step is held")
	fs.StringVar(&c.maxErrors, "max-errors", shift.FormatPercent(shift.DefaultMaxErrors), "`percentage` by which the share of 5xx responses of the cluster may exceed that of the other clusters; more pauses the shift, and 100 never does")
	fs.IntVar(&c.minRequests, "min-requests", shift.DefaultMinRequests, "`number` of requests that the cluster must get in a step before its errors count")
	fs.BoolVar(&c.undo, "undo", false, cli.Meaning("undo", "the route, or the routes of the cluster, return to the declared weights at once"))
	fs.BoolVar(&c.resume, "resume", false, "begin the step that errors have ended again")
	fs.BoolVar(&c.detached, "detach", false, "do not wait until the route has moved; the terminator moves it anyway")
	fs.StringVar(&c.closePercent, "close", "", "close the client's connection after this `percentage` of all responses; the terminator needs -closable")
}

// runShift is the subcommand "terminator shift". Without a route, it lists all shifts.
func runShift(ctx context.Context, inv cli.Invocation) int {
	var c shiftCommand
	fs := cli.NewFlagSet(program + " shift")
	c.register(fs)
	c.route, inv.Args = cli.CutArgument(fs, inv.Args)
	if code, done := inv.Parse(fs); done {
		return code
	}
	err := c.check()
	if err != nil {
		return inv.Fail(cli.ExitUsage, program+" shift", "%v (-h shows the flags)", err)
	}
	code, err := c.run(ctx, inv)
	if err != nil {
		return inv.Fail(cli.ExitFailed, program+" shift", "%v", err)
	}
	return code
}

func (c *shiftCommand) check() error {
	given := 0
	for _, b := range []bool{c.to != "", c.undo, c.resume, c.closePercent != ""} {
		if b {
			given++
		}
	}
	switch {
	case !c.admin.Given():
		return errors.New("-admin is needed")
	case c.admin.Check() != nil:
		return c.admin.Check()
	case given > 1:
		return errors.New("want one of -to, -undo, -resume and -close")
	case c.closePercent != "" && c.route != "":
		return errors.New("-close concerns all routes, so it allows no route")
	case given == 1 && c.closePercent == "" && c.route == "":
		return errors.New("-to, -undo and -resume need a route, such as api.example.com/tracks, or a cluster")
	case c.to != "" && c.length == 0:
		return errors.New("-to needs -for, the time after which the shift ends by itself, such as -for 2h")
	}
	var err error
	if c.route, c.cluster, err = shift.ParseSubject(c.route, routes.CanonicalName); err != nil {
		return err
	}
	if c.to != "" {
		c.order, err = shift.ParseQuery(c.route, url.Values{
			"cluster": {c.cluster}, "to": {c.to}, "for": {c.length.String()}, "steps": {c.steps}, "hold": {c.hold.String()},
			"max-errors": {c.maxErrors}, "min-requests": {fmt.Sprint(c.minRequests)},
		})
	} else if c.closePercent != "" {
		c.closePoints, err = shift.ParsePercent(c.closePercent)
	}
	return err
}

func (c *shiftCommand) run(ctx context.Context, inv cli.Invocation) (code int, err error) {
	defer inv.Progress("waiting for the terminator").Stop()
	client := shift.Client{Do: func(ctx context.Context, method, path string, query url.Values) ([]byte, error) {
		var out bytes.Buffer
		err := c.admin.Ask(ctx, method, path, query, &out)
		return out.Bytes(), err
	}}
	var state shift.State
	var left []shift.Left
	switch {
	case c.to != "":
		state, left, err = client.Start(ctx, c.order)
	case c.undo:
		state, err = client.Undo(ctx, c.route, c.cluster)
	case c.resume:
		state, err = client.Resume(ctx, c.route, c.cluster)
	case c.closePercent != "":
		state, err = client.Close(ctx, c.closePoints)
	default:
		state, err = client.State(ctx)
	}
	if err != nil {
		return 0, err
	}
	for _, l := range left {
		fmt.Fprintf(inv.Stdout, "%s stays: %s\n", l.Route, l.Reason)
	}
	switch {
	case c.undo:
		fmt.Fprintf(inv.Stdout, "%s: declared weights\n", cmp.Or(c.route, c.cluster))
		return cli.ExitOK, nil
	case (c.to != "" || c.resume) && !c.detached:
		return c.follow(ctx, inv, client, state)
	}
	for _, s := range state.Shifts {
		if s.Concerns(c.route, c.cluster) {
			fmt.Fprintln(inv.Stdout, s)
		}
	}
	if c.route+c.cluster == "" {
		fmt.Fprintf(inv.Stdout, "connections: closed after %s of the responses\n", shift.FormatPercent(state.ClosePoints))
	}
	return cli.ExitOK, nil
}

// follow prints a line for each step of the shifts, until all are done or one is paused.
func (c *shiftCommand) follow(ctx context.Context, inv cli.Invocation, client shift.Client, state shift.State) (code int, err error) {
	status, err := client.Follow(ctx, state, c.route, c.cluster, func(s shift.Shift) {
		fmt.Fprintf(inv.Stdout, "%s %s\n", time.Now().Format(time.TimeOnly), s)
	})
	switch {
	case ctx.Err() != nil:
		return 0, errors.New("interrupted; the terminator continues, and -undo returns to the declared weights")
	case err != nil:
		return 0, err
	case status == shift.Paused:
		return cli.ExitDiffer, nil
	}
	return cli.ExitOK, nil
}
