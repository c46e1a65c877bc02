package main

import (
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/edgeflags"
	"github.com/headgate/headgate/haproxycfg/controller/drill"
	"github.com/headgate/headgate/internal/inputfile"
)

//go:embed README.md
var readme string // its table of flags groups the help

// maxPolicy is the largest size, in bytes, of a policy file.
const maxPolicy = 1 << 20

// settings are the values of the flags. The method "resolve" checks the values, and parses some of
// them.
type settings struct {
	edgeflags.Settings
	policyFile       string
	limits           [4]string // values of limitNames; "" if not given
	only             cli.Strings
	json, details    bool
	begin, drainText string

	// The method "resolve" sets these fields from the flags.
	policy   drill.Policy
	start    time.Time // zero without -begin
	maxDrain float64
}

// limitNames are the names of the flags that set limits for all drills. A policy file has fields
// with the same names.
var limitNames = [4]string{"min-servers", "max-below", "max-refusals", "max-reloads"}

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
	s.DefaultHTTP = ":80"
	s.Register(fs)
	fs.StringVar(&s.policyFile, "policy", "", cli.Meaning("policy", "the limits of all drills and of single drills"))
	usage := [4]string{
		"`share` of its servers that each service keeps in each drill; 50% if neither this flag nor the file of -policy sets it",
		"`duration` for which a service may have fewer servers than -min-servers; 10s if nothing sets it",
		"`number` of changes that the terminator may refuse in a drill, or off for no limit; 0 if nothing sets it",
		"`number` of reloads of HAProxy in a drill, or off for no limit; off if nothing sets it",
	}
	for i, name := range limitNames {
		fs.StringVar(&s.limits[i], name, "", usage[i])
	}
	fs.Var(&s.only, "only", cli.Meaning("only", "a drill, or a kind of drills such as zone", "all drills if missing"))
	fs.BoolVar(&s.json, "json", false, cli.Meaning("json"))
	fs.BoolVar(&s.details, "details", false, "print after the table what happens in each drill, and what the operator sees")
	fs.StringVar(&s.begin, "begin", "", "`time` at which the simulation begins, such as 2026-01-31T12:00:00Z; the present time if empty")
	fs.StringVar(&s.drainText, "max-drain", "30%", cli.Meaning("max-drain"))
}

func (s *settings) resolve() error {
	var err error
	if s.begin != "" {
		if s.start, err = time.Parse(time.RFC3339, s.begin); err != nil {
			return fmt.Errorf("-begin: %q: want a time such as 2026-01-31T12:00:00Z", s.begin)
		}
	}
	if s.maxDrain, err = cli.ParseShare(s.drainText); err != nil || s.maxDrain == 0 {
		return fmt.Errorf("-max-drain: %q: want a share above 0%%, such as 30%%", s.drainText)
	}
	if s.json && s.details {
		return errors.New("-json contains the details, so it cannot be used with -details")
	}
	if err := s.resolvePolicy(); err != nil {
		return err
	}
	return s.Resolve()
}

// resolvePolicy reads the policy file. For fields that the file does not set, it uses the values of
// the flags.
func (s *settings) resolvePolicy() error {
	base := drill.DefaultLimits
	for i, name := range limitNames {
		if s.limits[i] == "" {
			continue
		}
		if _, err := base.Set(name, s.limits[i]); err != nil {
			return fmt.Errorf("-%s: %q: %w", name, s.limits[i], err)
		}
	}
	s.policy = drill.Policy{All: base}
	if s.policyFile == "" {
		return nil
	}
	data, err := inputfile.Read(s.policyFile, maxPolicy)
	if err != nil {
		return fmt.Errorf("-policy: %w", err)
	}
	if s.policy, err = drill.ParsePolicy(s.policyFile, data, base); err != nil {
		return fmt.Errorf("-policy: %w", err)
	}
	return nil
}
