package main

import (
	_ "embed"
	"errors"
	"flag"
	"time"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/edgeflags"
	"github.com/headgate/headgate/examples/internal/fleetflags"
	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/controller/fleet/configmap"
	"github.com/headgate/headgate/haproxycfg/controller/lease"
	"github.com/headgate/headgate/nodeselect/unevenness"
)

//go:embed README.md
var readme string // its table of flags groups the help

// settings are the values of the flags. The method "resolve" checks the values, and parses some of
// them.
type settings struct {
	edgeflags.Settings
	out                  string // directory
	once, diff, simulate bool   // none: follow changes
	simulation           controller.Simulation
	strict               bool // with once or diff
	force                bool
	reload               string // master socket; "" for none
	groupReadsKeys       bool
	quiet, maxWait       time.Duration
	maxReloadWait        time.Duration
	maxOldWorkers        int
	verbose              bool
	logFormat            cli.LogFormat
	admin                cli.AdminFlags
	fleet                fleetflags.Flags

	// The method resolveFleet sets these fields.
	lease  *lease.Elector   // nil without -lease
	orders *configmap.Store // nil without -fleet
}

func parseSettings(inv cli.Invocation) (s *settings, code int, done bool) {
	fs := cli.NewFlagSet(program)
	s = &settings{}
	s.register(fs)
	if code, done := inv.Parse(fs); done {
		return nil, code, true
	}
	if err := s.resolve(); err != nil {
		return nil, inv.Fail(cli.ExitUsage, program, "%v (-h shows the flags)", err), true
	}
	return s, cli.ExitOK, false
}

func (s *settings) register(fs *flag.FlagSet) {
	s.Settings.Register(fs)
	fs.StringVar(&s.out, "out", "", cli.Meaning("out"))
	fs.BoolVar(&s.once, "once", false, "make the configuration once and end; without -once and -diff, follow all changes")
	fs.BoolVar(&s.diff, "diff", false, "print what would change, and write nothing")
	fs.BoolVar(&s.simulate, "simulate", false, "print how unevenly the pods of each service are loaded, from the EndpointSlices of all clusters, and write nothing")
	fs.Float64Var(&s.simulation.InFlight, "in-flight", 1, "with -simulate, mean `number` of requests in flight for each service, node and terminator; 0 means one connection each")
	fs.Float64Var(&s.simulation.Connections, "connections", 0, "with -simulate, `number` of effective connections of each service, from all terminators to all nodes; 0 means that it follows from -in-flight")
	fs.Float64Var(&s.simulation.Target, "target", unevenness.DefaultTarget, "with -simulate, `load` that the busiest pod may have, as a multiple of the mean")
	fs.BoolVar(&s.strict, "strict", false, "with -once or -diff, exit with status 1 if there are problems, and write nothing")
	fs.BoolVar(&s.force, "force", false, cli.Meaning("force", "with -once for this run, otherwise for the first change; not with -lease"))
	fs.StringVar(&s.reload, "reload", "", cli.Meaning("reload", "if empty, nothing is reloaded"))

	fs.BoolVar(&s.groupReadsKeys, "group-reads-keys", false, "let the group of the terminator read new files with private keys, for an HAProxy that starts as another user of this group; without it, HAProxy must start as the user of the terminator or as root")
	fs.IntVar(&s.maxOldWorkers, "max-old-workers", 16, "`number` of replaced HAProxy processes that still have connections, from which on a reload waits until one of them ends; 0 means no limit")
	fs.DurationVar(&s.maxReloadWait, "max-reload-wait", 10*time.Minute, "longest time that a reload waits at -max-old-workers; then the terminator ends the oldest process, which cuts its streams, or with -fragment ends none; 0 means no wait")
	fs.DurationVar(&s.quiet, "quiet", 100*time.Millisecond, cli.Meaning("quiet"))
	fs.DurationVar(&s.maxWait, "max-wait", time.Second, cli.Meaning("max-wait"))
	s.admin.Register(fs, "/metrics, /healthz, /readyz, /report.json, /explain, /journal, /traffic, /hold and /shifts", "POST /force, /rollback, /release and /shift")
	s.fleet.Register(fs)
	fs.BoolVar(&s.verbose, "verbose", false, "log details too")
	s.logFormat.Register(fs)
}

// resolve checks the values of all flags, and parses values that are strings, such as addresses.
func (s *settings) resolve() error {
	switch {
	case s.out == "":
		return errors.New("-routes, -cluster and -out are needed")
	case s.admin.Check() != nil:
		return s.admin.Check()
	case s.simulate && (s.once || s.diff):
		return errors.New("-simulate cannot be used with -once or -diff")
	case !(s.simulation.InFlight >= 0) || !(s.simulation.Connections >= 0) || !(s.simulation.Target > 0):
		return errors.New("-in-flight and -connections must not be negative, and -target must be more than 0")
	case s.once && s.diff:
		return errors.New("-once writes, -diff does not: want one of them, or neither to follow all changes")
	case s.strict && !s.once && !s.diff:
		return errors.New("-strict needs -once or -diff")
	case s.Builder.Edge.Global.StateFile != "" && s.reload == "":
		return errors.New("-state-file needs -reload: the file is written just before a reload, and a stale file is worse than none")
	case s.maxOldWorkers < 0 || s.maxReloadWait < 0:
		return errors.New("-max-old-workers and -max-reload-wait must not be negative")
	case s.quiet < 0 || s.maxWait < 0:
		return errors.New("-quiet and -max-wait must not be negative")
	}
	if err := s.Resolve(); err != nil {
		return err
	}
	if err := s.fleet.CheckCanary(!s.once && !s.diff && !s.simulate, s.reload != ""); err != nil {
		return err
	}
	return s.resolveFleet()
}
