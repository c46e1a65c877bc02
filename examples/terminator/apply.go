package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
)

// outcome is what became of an attempt to apply a state.
type outcome string

const (
	unchanged outcome = "unchanged" // the configuration was in force already
	written   outcome = "written"
	refused   outcome = "refused" // larger than -max-change
	failed    outcome = "failed"
)

// applier makes states the configuration in force. It is used by one goroutine.
type applier struct {
	settings *settings
	dir      *deploy.Dir
	log      *slog.Logger
	metrics  *metrics

	begun    string      // what causes the first apply
	known    bool        // report is that of what is in force
	report   kube.Report // as it is on disk
	input    *kube.Input // of what is in force; nil if another process made it
	said     map[kube.Problem]bool
	lastSaid string // of a failure or refusal, so that it is said once
	lastKeep string // why the report could not be written, likewise
}

func newApplier(s *settings, log *slog.Logger, m *metrics) *applier {
	a := &applier{settings: s, log: log, metrics: m, begun: "started", said: map[kube.Problem]bool{}}
	a.dir = s.dir(func(warnings []deploy.Diagnostic) {
		for _, w := range warnings {
			log.Warn("haproxy warns", "of", w)
		}
	})
	return a
}

// forget makes the next apply read what is in force: another terminator leads, or did,
// and may have written. What is refused is its business.
func (a *applier) forget() {
	a.begun, a.known, a.report, a.input, a.lastSaid = "took the lead", false, kube.Report{}, nil, ""
	a.metrics.refused(nil)
}

// permit decides on a change that is larger than -max-change, by its ID.
type permit func(id string) bool

func never(string) bool { return false }

// apply makes a state the configuration in force, or says why not.
func (a *applier) apply(ctx context.Context, in state, now time.Time, allowed permit) (outcome, error) {
	started := time.Now()
	result, err := a.attempt(ctx, in, now, allowed)
	a.metrics.applied(result, time.Since(started), time.Now())
	if err == nil {
		a.lastSaid = ""
	} else if ctx.Err() == nil && a.lastSaid != err.Error() {
		a.lastSaid = err.Error()
		log := []any{"err", err}
		if c := a.report.Refused; c != nil {
			log = append(log, "added", c.Servers.Added, "removed", c.Servers.Removed, "changed", c.Servers.Altered, "causes", c.Summary(5))
		}
		a.log.Error("the change is not in force", log...)
	}
	return result, err
}

func (a *applier) attempt(ctx context.Context, in state, now time.Time, allowed permit) (outcome, error) {
	if !a.known {
		report, err := a.settings.readReport()
		if err != nil {
			return failed, err
		}
		a.report, a.known = report, true
	}
	started := time.Now()
	b := a.settings.build(in, a.report, now)
	a.problems(b.report)
	plan, err := a.dir.Plan(b.config)
	if err != nil {
		return failed, err
	}
	a.metrics.built(b)
	if plan.Diff.Empty() {
		return a.settle(ctx, plan, in.table, b, started)
	}
	changes := kube.NewChanges(now.UTC().Truncate(time.Millisecond), a.report, b.report, plan.Diff.Servers, a.causes(b.input))
	if share := plan.Diff.ServerShare(); share > a.settings.maxChange && !allowed(plan.ID()) {
		err := tooLarge(share, a.settings.maxChange, plan.ID())
		a.keep(ctx, plan, b.report, changes, err)
		return refused, err
	}
	b.report.Changes = &changes
	if err := a.put(ctx, plan, in.table, b); err != nil {
		if ctx.Err() == nil {
			a.keep(ctx, plan, b.report, changes, err)
		}
		return failed, err
	}
	a.made(changes, started)
	return written, nil
}

// made logs a change that is in force now.
func (a *applier) made(c kube.Changes, started time.Time) {
	a.log.Info("applied", "added", c.Servers.Added, "removed", c.Servers.Removed, "changed", c.Servers.Altered,
		"servers", c.Servers.After, "services", len(c.Services), "causes", c.Summary(5), "took", time.Since(started).Round(time.Millisecond))
	for _, s := range c.Services {
		a.log.Debug("service", "ref", s.Ref, "enter", s.Enter, "leave", s.Leave, "ports", s.Ports)
	}
}

// settle sees to what is beside a configuration that is on disk already, and to a
// reload that could not be finished before. What failed of a change after it was on
// disk is the rest of that change.
func (a *applier) settle(ctx context.Context, plan *deploy.Plan, table routes.Table, b built, started time.Time) (outcome, error) {
	first, was := a.input == nil, a.report.Refused
	b.report.Changes = a.report.Changes
	rest := was != nil && was.ID == plan.ID()
	if rest {
		changes := *was
		changes.ID, changes.Reason = "", ""
		b.report.Changes = &changes
	}
	if err := a.put(ctx, plan, table, b); err != nil {
		return failed, err
	}
	switch {
	case rest:
		a.made(*b.report.Changes, started)
		return written, nil
	case first:
		a.log.Info("the configuration is in force already", "servers", plan.Diff.Servers.After)
	case was != nil:
		a.log.Info("nothing is left of the change that was not applied", "id", was.ID)
	}
	return unchanged, nil
}

func tooLarge(share, most float64, id string) error {
	return fmt.Errorf("%.1f%% of the servers would go or change, and -max-change is %.1f%% (change %s)", 100*share, 100*most, id)
}

// put applies a plan with its files, and remembers what is in force then.
func (a *applier) put(ctx context.Context, plan *deploy.Plan, table routes.Table, b built) error {
	files, err := a.settings.beside(table, b.report)
	if err != nil {
		return err
	}
	if _, err := plan.Apply(ctx, files...); err != nil {
		return err
	}
	a.report, a.input = b.report, &b.input
	a.metrics.inForce(plan.Diff.Servers.After)
	a.metrics.refused(nil)
	return nil
}

// keep notes in the report that a change is not in force, and why. What the report
// says of services and nodes stays what is in force.
func (a *applier) keep(ctx context.Context, plan *deploy.Plan, now kube.Report, changes kube.Changes, why error) {
	changes.ID, changes.Reason = plan.ID(), why.Error()
	if last := a.report.Refused; last != nil && last.ID == changes.ID && last.Reason == changes.Reason {
		changes = *last // with the time at which it began
	}
	r := a.report
	r.Refused, r.Problems = &changes, now.Problems
	if r.Clusters == nil {
		r.Clusters, r.Services = []kube.ClusterReport{}, []kube.ServiceReport{}
	}
	a.report = r
	a.metrics.refused(&changes)
	data, err := r.AppendJSON(nil)
	if err == nil {
		_, err = a.dir.WriteBeside(ctx, haproxycfg.RenderedFile{Name: reportFile, Data: data})
	}
	was := a.lastKeep
	if a.lastKeep = ""; err != nil {
		if a.lastKeep = err.Error(); a.lastKeep != was {
			a.log.Error("the report cannot be written", "err", err)
		}
	}
}

func (a *applier) causes(after kube.Input) []kube.Cause {
	if a.input == nil {
		return []kube.Cause{{What: a.begun}}
	}
	return kube.Causes(*a.input, after)
}

// mostProblems bounds what is logged of new problems at once; the report has all.
const mostProblems = 20

// problems logs those that are new: while one thing changes again and again, what is
// wrong with others is not repeated. That a cluster is away is logged where it is found.
func (a *applier) problems(report kube.Report) {
	away := map[string]bool{}
	for _, c := range report.Clusters {
		away[c.Name] = c.Connectivity.Unreachable()
	}
	now := make(map[kube.Problem]bool, len(report.Problems))
	fresh := 0
	for _, p := range report.Problems {
		if now[p] = true; a.said[p] || p.Object == "" && away[p.Cluster] {
			continue
		}
		if fresh++; fresh > mostProblems {
			continue
		}
		if p.Warning {
			a.log.Warn("warning", "of", p.Error())
		} else {
			a.log.Error("problem", "of", p.Error())
		}
	}
	if fresh > mostProblems {
		a.log.Error("more problems, see "+reportFile, "count", fresh-mostProblems)
	}
	gone := 0
	for p := range a.said {
		if !now[p] && p.Object != "" || !now[p] && p.Cluster == "" {
			gone++
		}
	}
	if gone > 0 {
		a.log.Info("problems are gone", "count", gone, "left", len(report.Problems))
	}
	a.said = now
}
