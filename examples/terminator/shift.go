package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/shift"
)

// exitPaused is the exit status of "terminator shift" if errors have paused the shift.
const exitPaused = 3

// shiftCommand is "terminator shift": it sends requests to the admin listener of a running terminator.
type shiftCommand struct {
	admin                  cli.AdminFlags
	to, steps, maxErrors   string
	hold                   time.Duration
	minRequests            int
	undo, resume, detached bool
	closePercent           string
	route                  string // "" means all routes
}

func (c *shiftCommand) register(fs *flag.FlagSet) {
	c.admin.RegisterClient(fs)
	fs.StringVar(&c.to, "to", "", "move the route to `CLUSTER:PERCENT`")
	fs.StringVar(&c.steps, "steps", "1,5,25,50,100", "`percentages` of the steps, in ascending order; steps above the target are left out")
	fs.DurationVar(&c.hold, "hold", shift.DefaultHold, "`time` for which each step is held")
	fs.StringVar(&c.maxErrors, "max-errors", shift.FormatPercent(shift.DefaultMaxErrors), "`percentage` by which the share of 5xx responses of the cluster may exceed that of the other clusters; more pauses the shift, and 100 never does")
	fs.IntVar(&c.minRequests, "min-requests", shift.DefaultMinRequests, "`number` of requests that the cluster must get in a step before its errors count")
	fs.BoolVar(&c.undo, "undo", false, "return the route to its declared weights at once")
	fs.BoolVar(&c.resume, "resume", false, "begin the step that errors have ended again")
	fs.BoolVar(&c.detached, "detach", false, "do not wait until the route has moved; the terminator moves it anyway")
	fs.StringVar(&c.closePercent, "close", "", "close the client's connection after this `percentage` of all responses; the terminator needs -closable")
}

// runShift is the subcommand "terminator shift". Without a route, it lists all shifts.
func runShift(ctx context.Context, inv cli.Invocation) int {
	var c shiftCommand
	fs := cli.NewFlagSet(program+" shift", "terminator shift -admin unix:admin.sock api.example.com/tracks -to eu-2:100")
	c.register(fs)
	c.route, inv.Args = cutRoute(fs, inv.Args)
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

// cutRoute returns the first argument that is neither a flag nor the value of a flag, and the other
// arguments. So the route may come before, between or after the flags.
func cutRoute(fs *flag.FlagSet, args []string) (route string, others []string) {
	for i := 0; i < len(args); i++ {
		if !strings.HasPrefix(args[i], "-") {
			return args[i], slices.Concat(args[:i], args[i+1:])
		}
		f := fs.Lookup(strings.TrimLeft(args[i], "-"))
		if f == nil { // unknown, or -name=value
			continue
		}
		if b, ok := f.Value.(interface{ IsBoolFlag() bool }); !ok || !b.IsBoolFlag() {
			i++
		}
	}
	return "", args
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
		return errors.New("-to, -undo and -resume need a route, such as api.example.com/tracks")
	}
	var err error
	if c.route != "" {
		if c.route, err = routeName(c.route); err != nil {
			return err
		}
	}
	if c.to != "" {
		_, err = shift.ParseQuery(c.route, c.query())
	} else if c.closePercent != "" {
		_, err = shift.ParsePercent(c.closePercent)
	}
	return err
}

func (c *shiftCommand) query() url.Values {
	return url.Values{
		"route": {c.route}, "to": {c.to}, "steps": {c.steps}, "hold": {c.hold.String()},
		"max-errors": {c.maxErrors}, "min-requests": {fmt.Sprint(c.minRequests)},
	}
}

// routeName returns the normal form of the name of a route.
func routeName(name string) (string, error) {
	host, path, exact, err := routes.ParseName(name)
	r := routes.Route{Host: host, Path: path, Exact: exact}
	return r.Name(), err
}

func (c *shiftCommand) run(ctx context.Context, inv cli.Invocation) (code int, err error) {
	route := url.Values{"route": {c.route}}
	var state shift.State
	switch {
	case c.to != "":
		state, err = c.ask(ctx, http.MethodPost, "/shift", c.query())
	case c.undo:
		state, err = c.ask(ctx, http.MethodPost, "/shift/undo", route)
	case c.resume:
		state, err = c.ask(ctx, http.MethodPost, "/shift/resume", route)
	case c.closePercent != "":
		state, err = c.ask(ctx, http.MethodPost, "/shift/close", url.Values{"percent": {c.closePercent}})
	default:
		state, err = c.ask(ctx, http.MethodGet, "/shifts", nil)
	}
	switch {
	case err != nil:
		return 0, err
	case c.undo:
		fmt.Fprintf(inv.Stdout, "%s: declared weights\n", c.route)
		return cli.ExitOK, nil
	case (c.to != "" || c.resume) && !c.detached:
		return c.follow(ctx, inv, state)
	}
	for _, s := range state.Shifts {
		if c.route == "" || c.route == s.Route {
			fmt.Fprintln(inv.Stdout, s)
		}
	}
	if c.route == "" {
		fmt.Fprintf(inv.Stdout, "connections: closed after %s of the responses\n", shift.FormatPercent(state.ClosePoints))
	}
	return cli.ExitOK, nil
}

// follow prints a line for each step of the route, until it has moved or is paused. If ctx ends, the
// terminator still moves the route. If somebody gives the shift another target, follow returns an
// error: the caller may switch the old cluster off after a success.
func (c *shiftCommand) follow(ctx context.Context, inv cli.Invocation, state shift.State) (code int, err error) {
	last := ""
	begun, _ := state.Find(c.route)
	for {
		s, ok := state.Find(c.route)
		if !ok {
			return 0, errors.New("somebody has undone the shift")
		}
		if s.Cluster != begun.Cluster || s.Target() != begun.Target() {
			return 0, fmt.Errorf("somebody has changed the shift: %s", s)
		}
		if line := s.String(); line != last {
			fmt.Fprintf(inv.Stdout, "%s %s\n", time.Now().Format(time.TimeOnly), line)
			last = line
		}
		switch s.Status {
		case shift.Done:
			return cli.ExitOK, nil
		case shift.Paused:
			return exitPaused, nil
		}
		select {
		case <-ctx.Done():
			return 0, errors.New("interrupted; the terminator continues, and -undo returns to the declared weights")
		case <-time.After(followInterval):
		}
		if now, err := c.ask(ctx, http.MethodGet, "/shifts", nil); err == nil {
			state = now
		} else if ctx.Err() == nil {
			return 0, err
		}
	}
}

// followInterval is the time between two requests for the state of a shift.
const followInterval = 500 * time.Millisecond

func (c *shiftCommand) ask(ctx context.Context, method, path string, query url.Values) (shift.State, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var out bytes.Buffer
	if err := c.admin.Ask(ctx, method, path, query, &out); err != nil {
		return shift.State{}, err
	}
	return shift.ParseState(out.Bytes())
}
