// Terminator writes the configuration of an HAProxy in front of Kubernetes clusters, and reloads
// this HAProxy. It makes the configuration from declarations of routes, and from the nodes and
// services of the clusters.
//
//	terminator -routes routes.yaml -cluster eu-1=kubeconfig:eu-1.kubeconfig -out /var/lib/headgate -http :80 -haproxy haproxy -reload master.sock
//
// It applies every change of routes and clusters until SIGTERM. With -once, it applies the
// configuration once and exits. With -diff, it prints the changes that -once would make. README.md
// describes the flags, the files and how to set up a machine.
//
// The subcommand "terminator explain" says where the requests for a host and a path go, and why.
// The subcommand "terminator journal" lists the last changes. The subcommand "terminator rollback"
// puts the routes of an earlier change into force, and holds them until "terminator release". The
// subcommand "terminator shift" moves the requests of a route from one cluster to another, step by
// step.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/controllermetrics"
	"github.com/headgate/headgate/examples/internal/kubeconn"
	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

const program = "terminator"

var commandLine = cli.Program{
	Name:    program,
	Summary: "Writes the configuration of an HAProxy in front of Kubernetes clusters, and reloads that HAProxy.",
	Readme:  readme,
	Commands: []cli.Command{
		{Example: "terminator -routes routes.yaml -cluster eu-1=kubeconfig:eu-1.kubeconfig -out out -http :80 -haproxy haproxy -reload master.sock", Exits: map[int]string{cli.ExitDiffer: "with -diff, there is a difference"}, Run: runTerminator},
		{Name: "explain", Args: "HOST[/PATH]", Summary: "Says where the requests for a host and a path go, and why.", Example: "terminator explain -admin unix:admin.sock api.example.com/tracks", Run: runExplain},
		{Name: "journal", Summary: "Lists the last changes, the newest first.", Example: "terminator journal -admin unix:admin.sock", Run: runJournal},
		{Name: "rollback", Args: "[ID]", Summary: "Puts the routes of an earlier change into force, and holds them. Without an ID, it is the last change that had other routes; while -canary tries new routes, these are withdrawn instead.", Example: "terminator rollback -admin unix:admin.sock", Exits: exitsOfOrder, Run: runRollback},
		{Name: "release", Summary: "Ends a rollback, so that the declared routes are in force again. Without a rollback, it approves the declared routes that -canary has not approved.", Example: "terminator release -admin unix:admin.sock", Exits: exitsOfOrder, Run: runRelease},
		{Name: "shift", Args: "[HOST/PATH or CLUSTER]", Summary: "Moves the requests of a route, or of all routes of a cluster, from one cluster to another, step by step; without an argument, lists all shifts.", Example: "terminator shift -admin unix:admin.sock api.example.com/tracks -to eu-2:100 -for 2h", Exits: map[int]string{cli.ExitDiffer: "the shift is paused"}, Run: runShift},
	},
}

var exitsOfOrder = map[int]string{cli.ExitDiffer: "the order is not in force yet"}

var run = commandLine.Run

func main() { cli.Main(run) }

func runTerminator(ctx context.Context, inv cli.Invocation) int {
	s, code, done := parseSettings(inv)
	if done {
		return code
	}
	var err error
	switch {
	case s.diff:
		code, err = s.printDiff(ctx, inv)
	case s.simulate:
		err = s.printSimulation(ctx, inv)
	case s.once:
		err = s.runOnce(ctx, inv)
	default:
		err = s.watch(ctx, inv)
	}
	if err != nil {
		return inv.Fail(cli.ExitFailed, program, "%v", err)
	}
	return code
}

// printDiff prints the change that runOnce would apply. It returns cli.ExitOK if runOnce would
// change neither the configuration nor another output file, and otherwise cli.ExitDiffer.
func (s *settings) printDiff(ctx context.Context, inv cli.Invocation) (code int, err error) {
	kubeconn.LogTo(nil) // the errors of Plan are enough
	defer inv.Progress("reading %d clusters", len(s.Clusters)).Stop()
	c := s.controller(s.printWarnings(inv))
	change, err := s.plan(ctx, inv, c)
	if err != nil {
		return 0, err
	}
	diff, err := c.Dir.Diff(change.Config)
	if err != nil {
		return 0, err
	}
	files, err := change.ChangedFiles()
	if err != nil {
		return 0, err
	}
	text := diff.String() + diff.Text
	for _, name := range files {
		text += "~ " + name + "\n"
	}
	if !diff.Empty() || len(files) > 0 {
		code = cli.ExitDiffer
	}
	_, err = fmt.Fprint(inv.Stdout, text)
	return code, err
}

// printSimulation prints how unevenly the configuration loads the pods of each service.
func (s *settings) printSimulation(ctx context.Context, inv cli.Invocation) error {
	kubeconn.LogTo(nil) // the errors of Plan are enough
	defer inv.Progress("reading %d clusters", len(s.Clusters)).Stop()
	c := s.controller(s.printWarnings(inv))
	change, err := s.plan(ctx, inv, c)
	if err != nil {
		return err
	}
	s.simulation.Balancers = s.Builder.Terminators
	loads, err := c.Simulate(ctx, change, s.simulation)
	if err != nil {
		return err
	}
	return controller.WriteLoads(inv.Stdout, loads)
}

// runOnce applies the configuration once. It prints "written" or "unchanged".
func (s *settings) runOnce(ctx context.Context, inv cli.Invocation) error {
	kubeconn.LogTo(nil) // the errors of Plan are enough
	defer inv.Progress("applying the routes and %d clusters", len(s.Clusters)).Stop()
	c := s.controller(s.printWarnings(inv))
	change, err := s.plan(ctx, inv, c)
	if err != nil {
		return err
	}
	c.Logger = inv.Logger(s.logFormat, slog.LevelInfo) // the log says why a reload waits
	outcome, err := c.Apply(ctx, change)
	switch {
	case outcome == controller.Refused:
		return fmt.Errorf("%w: -diff shows the change, and -force applies it", err)
	case err != nil:
		return err
	}
	fmt.Fprintf(inv.Stdout, "%s: %s\n", s.out, outcome)
	return nil
}

// plan returns the change that Controller.Plan finds. It prints the problems in the report of the
// change. With -strict, plan returns an error if one of them is not a warning.
func (s *settings) plan(ctx context.Context, inv cli.Invocation, c *controller.Controller) (*controller.Change, error) {
	change, err := c.Plan(ctx, program+" -once")
	if change == nil {
		return nil, err
	}
	problems := 0
	for _, p := range change.Report.Problems {
		kind := "problem"
		if p.Warning {
			kind = "warning"
		} else {
			problems++
		}
		fmt.Fprintf(inv.Stderr, "%s: %s: %v\n", program, kind, p)
	}
	if err == nil && s.strict && problems > 0 {
		err = fmt.Errorf("-strict: %d problems, and nothing is written", problems)
	}
	return change, err
}

func (s *settings) printWarnings(inv cli.Invocation) func([]deploy.Diagnostic) {
	return func(warnings []deploy.Diagnostic) {
		for _, w := range warnings {
			fmt.Fprintf(inv.Stderr, "%s: haproxy warns: %v\n", program, w)
		}
	}
}

// watch applies every change of routes and clusters until ctx ends.
func (s *settings) watch(ctx context.Context, inv cli.Invocation) error {
	level := slog.LevelInfo
	if s.verbose {
		level = slog.LevelDebug
	}
	log := inv.Logger(s.logFormat, level)
	kubeconn.LogTo(log)
	cli.ReadAgainOnHangup(ctx, log)
	defer kubeconn.LogTo(nil)
	c := s.controller(func(warnings []deploy.Diagnostic) {
		for _, w := range warnings {
			log.Warn("haproxy warns", "of", w)
		}
	})
	m := controllermetrics.New(program, c.Status)
	m.Shifts(c.Shifts)
	if worker := s.counters(); s.Builder.Edge.Global.Observe && worker.Stats.Path+worker.Master.Path != "" {
		m.Observe(worker.Worker, log)
	}
	c.Logger, c.Attempted = log, m.Attempted
	if s.lease != nil {
		s.lease.Logger, c.Elector = log, s.lease
	}
	c.ForceHint, c.Canary = s.forceHint, s.fleet.Canary(s.out, s.Builder.Edge, s.counters().Worker)

	group, ctx := errgroup.WithContext(ctx)
	shifts := c.ShiftRunner(s.counters().Worker)
	group.Go(func() error { shifts.Run(ctx); return nil })
	if s.admin.Wanted(ctx) {
		pages := http.NewServeMux()
		pages.Handle("/force", c.ForceHandler())
		for _, path := range []string{"/hold", "/rollback", "/release"} {
			pages.Handle(path, c.HoldHandler())
		}
		pages.Handle("/report.json", c.ReportHandler())
		pages.Handle("/explain", c.ExplainHandler(s.worker()))
		pages.Handle("/journal", c.JournalHandler())
		pages.Handle("/{$}", c.StatusHandler("", s.worker(), s.admin.Curl))
		pages.Handle("/traffic", controller.TrafficHandler(s.counters().WorkerStats))
		pages.Handle("/", shifts.Handler(routes.CanonicalName))
		admin := cli.Admin{
			Gatherer: m, Extra: pages,
			Ready:  func() error { return c.Status().Ready() },
			Detail: func() string { return c.Status().String() },
		}
		listeners, err := s.admin.Listen(ctx, &admin)
		if err != nil {
			return err
		}
		group.Go(func() error { return admin.Serve(ctx, listeners...) })
	}
	log.Info("following", "clusters", len(s.Clusters), "routes", len(s.Routes), "out", s.out)
	group.Go(func() error { return c.Run(ctx) })
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	log.Info("stopped; the configuration stays in force")
	return nil
}

// counters returns the sockets on which HAProxy shows its counters: the stats socket and, with
// -reload, the master socket. The program prefers the master socket, because only the user that
// starts HAProxy may use the stats socket.
func (s *settings) counters() *deploy.Runtime {
	return &deploy.Runtime{
		Stats:  runtimeapi.Socket{Path: s.Builder.Edge.Global.StatsSocket, Timeout: time.Second},
		Master: runtimeapi.Socket{Path: s.reload, Timeout: time.Second},
	}
}

// forceHint returns a text that tells the operator how to apply the refused change with this ID.
func (s *settings) forceHint(id string) string {
	if command := s.admin.Curl(http.MethodPost, "/force?id="+id); command != "" {
		return "to apply it: " + command
	}
	return "to apply it: terminator -once -force with the same flags"
}
