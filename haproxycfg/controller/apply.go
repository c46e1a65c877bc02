package controller

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/kube"
)

// Outcome is the outcome of an attempt.
type Outcome string

const (
	Unchanged Outcome = "unchanged" // the configuration was in force already
	Written   Outcome = "written"   // the configuration is in force now
	Refused   Outcome = "refused"   // the change is larger than the limit
	Waits     Outcome = "waiting"   // the change needs a reload, which has to wait; Err is a *Waiting
	Failed    Outcome = "failed"    // any other error
)

// Attempt is the result of one attempt to apply the latest routes and clusters.
type Attempt struct {
	Outcome Outcome
	// Err is the reason for the Outcome. It is nil if the Outcome is Unchanged or Written.
	Err error
	// Change is the change that this attempt to apply a configuration wanted to make. It is nil if
	// the attempt failed before it had computed the change.
	Change *Change
	// Effect says whether this attempt to apply a configuration has changed HAProxy over its socket
	// or by a reload, and why it needed a reload. An attempt that failed can have an effect too.
	Effect deploy.Effect
	// Begin is the time at which the attempt to apply a configuration began. Duration is the time
	// from Begin until the attempt ended, including HAProxy's check and reload.
	Begin    time.Time
	Duration time.Duration

	retry time.Time // the time of the next attempt, if Outcome is Waits
}

// applier makes the attempts of Run to apply a configuration. Only one goroutine may use it.
type applier struct {
	c     *Controller
	log   *slog.Logger
	guard func() error // returns an error when this process may no longer write
	clock func() time.Time

	firstCause  string      // the cause that the report names for a change while input is nil
	known       bool        // whether report has been read from the directory
	report      kube.Report // report in the directory, with the refused change
	reloads     reloads
	redirected  string                // ID of the waiting change for which the method redirect has succeeded; "" if there is none
	moved       bool                  // the method redirect may have changed addresses of servers, so redirectBack must restore them
	redirectErr string                // the error of the last redirection, so that a repeated error is logged once
	checked     string                // ID of the last change that HAProxy has accepted in a check, and the version of HAProxy
	input       *kube.Input           // the input of the configuration in force; nil if another process wrote this configuration
	version     haproxycfg.Version    // for which the configuration in force was rendered
	logged      map[kube.Problem]bool // problems of the last attempt
	lastErr     string                // the error of the last attempt, so that a repeated error is logged once
	lastSaveErr string                // the error of the last recordRefusal, so that a repeated error is logged once
	recorder    recorder              // what record remembers between two attempts
	reviewed    review                // the last result of reviewHeld
}

func newApplier(c *Controller, log *slog.Logger) *applier {
	return &applier{
		c: c, log: log, guard: func() error { return nil }, clock: time.Now,
		firstCause: "started", logged: map[kube.Problem]bool{}, reloads: c.newReloads(log),
	}
}

// reset forgets what the applier knows about the configuration in force. The controller calls it
// when this process becomes the leader, or stops leading: another leader may have written a
// configuration, so the next attempt reads the report again. reset also removes the refused change
// from the status.
func (a *applier) reset() {
	a.firstCause, a.known, a.report, a.input, a.lastErr = "took the lead", false, kube.Report{}, nil, ""
	a.redirected, a.moved = "", false
	a.recorder = recorder{} // another leader may have written to the journal
	a.c.adopted = ""        // another leader may have written to FleetFile
	a.c.status.setRefused(nil, false)
	a.c.explained.Store(nil)
}

// apply makes one attempt to apply the configuration of the given routes, clusters and certificates
// (the argument "in"). It logs the error of the attempt, unless the previous attempt failed with
// the same error.
func (a *applier) apply(ctx context.Context, in inputs, now time.Time, allowed permit) Attempt {
	t := Attempt{Begin: a.clock()}
	t.Change, t.Outcome, t.Err = a.attempt(ctx, in, now, allowed)
	if t.Change != nil {
		t.Change.completeReport()
	}
	t.Duration = a.clock().Sub(t.Begin)
	if t.Change != nil && t.Change.plan != nil {
		t.Effect = t.Change.plan.Effect()
	}
	var waiting *Waiting
	if errors.As(t.Err, &waiting) {
		t.retry = waiting.Until
		if poll := now.Add(pollInterval(t.Duration)); waiting.OldWorkers > 0 && poll.Before(t.retry) {
			t.retry = poll
		}
	}
	if t.Err == nil || waiting != nil {
		a.lastErr = ""
	} else if !a.cutOff(ctx) && a.lastErr != t.Err.Error() {
		a.lastErr = t.Err.Error()
		attrs := []any{"err", t.Err}
		if c := a.report.Refused; c != nil {
			attrs = append(attrs, "added", c.Servers.Added, "removed", c.Servers.Removed, "changed", c.Servers.Altered, "causes", c.Summary(5))
		}
		a.log.Error("the change is not in force", attrs...)
	}
	a.c.noteTried(in, t)
	a.observe(t)
	a.reviewHeld(ctx, in, t)
	if a.c.Attempted != nil {
		a.c.Attempted(t)
	}
	return t
}

// cutOff reports whether an attempt to apply a change was interrupted, because ctx has ended or
// because this process may no longer write. The error of an interrupted attempt does not mean that
// the change is faulty.
func (a *applier) cutOff(ctx context.Context) bool { return ctx.Err() != nil || a.guard() != nil }

func (a *applier) attempt(ctx context.Context, in inputs, now time.Time, allowed permit) (*Change, Outcome, error) {
	if !a.known {
		report, err := a.c.readReport()
		if err != nil {
			return nil, Failed, err
		}
		a.report, a.known = report, true
	}
	begin := a.clock()
	if _, err := a.c.adopt(ctx, in); err != nil {
		return nil, Failed, err
	}
	by, err := a.c.orders()
	if err != nil {
		return nil, Failed, err
	}
	by = a.c.withCanary(in, by)
	ch, err := a.c.planFirst(ctx, in, by, a.report, a.causes, now)
	a.logProblems(ch.Report)
	if err != nil {
		return ch, Failed, err
	}
	if by.held.permits(a.report) {
		allowed = always
	}
	if err := a.c.refusal(ch, allowed); err != nil {
		a.endWait(ctx, ch)
		a.recordRefusal(ctx, ch, err, true)
		return ch, Refused, err
	}
	first, refused := a.input == nil, a.report.Refused
	reloads := ch.plan.Reloads()
	if !reloads {
		a.endWait(ctx, ch)
	} else if err := a.check(ctx, ch, now); err != nil {
		if !a.cutOff(ctx) {
			a.endWait(ctx, ch)
			a.recordRefusal(ctx, ch, err, false)
		}
		return ch, Failed, err
	} else if waiting := a.reloads.admit(ctx, now); waiting != nil {
		a.redirect(ctx, ch)
		return ch, Waits, waiting
	}
	err = a.commit(ctx, ch)
	var refusedReload *deploy.ReloadError
	effect := ch.plan.Effect()
	reloads = reloads || effect.Reload != ""
	if effect.Reload == deploy.ReloadSocket && !a.cutOff(ctx) {
		a.log.Error("HAProxy was reloaded, because a change over its socket failed", "detail", effect.Detail)
	}
	if reloads && (err == nil || errors.As(err, &refusedReload)) {
		a.reloads.reloaded(ctx, a.clock())
		a.redirected, a.moved = "", false // the new worker has the addresses of its configuration
	} else if !reloads {
		a.reloads.count(ctx) // after the change, which need not wait for the number
	}
	if err != nil {
		if !ch.Diff.Empty() && !a.cutOff(ctx) {
			a.recordRefusal(ctx, ch, err, false)
		}
		return ch, Failed, err
	}
	switch {
	case !ch.Diff.Empty() || ch.late:
		a.logApplied(ch.Report.Changes, ch.plan.Effect(), begin)
		return ch, Written, nil
	case first:
		a.log.Info("the configuration is in force already", "servers", ch.Diff.Servers.After)
	case refused != nil:
		a.log.Info("the change that was not applied has disappeared", "id", refused.ID)
	}
	return ch, Unchanged, nil
}

// check lets HAProxy check the configuration of the change. Call check before the methods "admit",
// which ends workers, and "redirect", which takes requests away. So a change that HAProxy rejects
// has no effect.
//
// check does nothing if the same version of HAProxy has accepted the same change already. It also
// does nothing if the change must wait for its reload and "redirect" has nothing to do.
func (a *applier) check(ctx context.Context, ch *Change, now time.Time) error {
	if err := a.guard(); err != nil {
		return err
	}
	id := ch.ID() + " " + a.c.version.String()
	if a.checked == id || a.reloads.pace.next().After(now) && !a.redirects(ch) {
		return nil
	}
	if err := ch.plan.Check(ctx); err != nil {
		return err
	}
	a.checked = id
	return a.guard() // the check can take seconds
}

// The method "redirects" reports whether the method "redirect" has something to do for the change:
// the change removes or alters servers, or redirect has run for an earlier change.
func (a *applier) redirects(ch *Change) bool {
	servers := ch.Diff.Servers
	return a.redirected != ch.ID() && (a.moved || servers.Removed+servers.Altered > 0)
}

// redirect runs while a change waits for its reload. It makes HAProxy send no more requests to the
// servers that the change removes.
func (a *applier) redirect(ctx context.Context, ch *Change) {
	if !a.redirects(ch) {
		return
	}
	a.redirected, a.moved = "", true
	a.c.status.setChanging()
	err := ch.plan.Redirect(ctx)
	a.warnOfRedirect("servers that the waiting change removes may still get requests", err)
	if err == nil {
		a.redirected = ch.ID()
	}
}

// warnOfRedirect logs the error of redirect or redirectBack. It logs nothing if err is nil, or if
// the last call had the same error.
func (a *applier) warnOfRedirect(what string, err error) {
	text := ""
	if err != nil {
		text = what + ": " + err.Error()
	}
	if text != "" && text != a.redirectErr {
		a.log.Warn(what, "err", err)
	}
	a.redirectErr = text
}

// endWait is called when no change waits for a reload any more. It forgets when the last wait
// began, so that the time limit of the next wait counts from the beginning of that next wait. It
// also calls redirectBack, so that all servers in force get requests again.
func (a *applier) endWait(ctx context.Context, ch *Change) {
	a.reloads.since, a.reloads.paced = time.Time{}, time.Time{}
	a.redirectBack(ctx, ch)
}

// redirectBack undoes the method "redirect" when no change waits any more: all servers in force
// receive requests again. If this process has not called redirect, redirectBack does nothing, with
// one exception.
//
// Until this process has applied its first configuration, redirectBack always restores the servers,
// because an earlier process may have called redirect. In this case, it ignores an error, because
// HAProxy may not be running yet.
func (a *applier) redirectBack(ctx context.Context, ch *Change) {
	if !a.moved && a.input != nil {
		return
	}
	a.redirected = ""
	if err := ch.plan.RedirectBack(ctx); err != nil && a.moved {
		a.warnOfRedirect("servers in force may get no requests", err)
		return
	}
	a.moved, a.redirectErr = false, ""
}

func (a *applier) causes(after *Change) []kube.Cause {
	causes := causesOfHold(a.report.Held, after.held)
	if a.input == nil {
		return append(causes, kube.Cause{What: a.firstCause})
	}
	causes = append(causes, kube.Causes(*a.input, after.input)...)
	if v := a.c.version; v != a.version {
		causes = append(causes, kube.Cause{What: "HAProxy is version " + v.String()})
	}
	return causes
}

// commit applies the change. After success it keeps the report and the input of the change,
// because the next change is compared with them.
func (a *applier) commit(ctx context.Context, ch *Change) error {
	a.c.status.setChanging()
	if _, err := ch.apply(ctx); err != nil {
		return err
	}
	a.report, a.input, a.version = ch.Report, &ch.input, a.c.version
	a.c.status.setInForce(ch.Diff.Servers.After)
	return nil
}

// recordRefusal writes a change that Limit has refused (byLimit), or that could not be applied,
// into the report in the directory. It also replaces the problems in the report. The rest of the
// report still describes the configuration in force.
func (a *applier) recordRefusal(ctx context.Context, ch *Change, why error, byLimit bool) {
	ch.completeReport()
	refused := *ch.Report.Changes
	refused.ID, refused.Reason, refused.Losses = ch.ID(), why.Error(), &ch.Losses
	if last := a.report.Refused; last != nil && last.ID == refused.ID && last.Reason == refused.Reason {
		refused = *last // with the time of the first refusal
	}
	r := a.report
	r.Refused, r.Problems = &refused, ch.Report.Problems
	if r.Clusters == nil {
		r.Clusters, r.Services = []kube.ClusterReport{}, []kube.ServiceReport{}
	}
	a.report = r
	a.c.status.setRefused(&refused, byLimit)
	data, err := r.AppendJSON(nil)
	if err == nil {
		_, err = a.c.Dir.WriteAuxiliary(ctx, haproxycfg.RenderedFile{Name: ReportFile, Data: data})
	}
	last := a.lastSaveErr
	if a.lastSaveErr = ""; err != nil {
		if a.lastSaveErr = err.Error(); a.lastSaveErr != last {
			a.log.Error("the report cannot be written", "err", err)
		}
	}
}

// logApplied logs the change c, which HAProxy runs now. It also logs whether HAProxy got the change
// over its socket or by a reload.
func (a *applier) logApplied(c *kube.Changes, effect deploy.Effect, begin time.Time) {
	var how []any
	switch {
	case effect.Reload != "":
		how = []any{"reload", effect.Reload, "because", effect.Detail}
	case effect.OverSocket():
		how = []any{"without reload", true}
	}
	a.log.With(how...).Info("applied", "added", c.Servers.Added, "removed", c.Servers.Removed, "changed", c.Servers.Altered,
		"servers", c.Servers.After, "services", len(c.Services), "causes", c.Summary(5), "took", a.clock().Sub(begin).Round(time.Millisecond))
	for _, s := range c.Services {
		a.log.Debug("service", "ref", s.Ref, "enter", s.Enter, "leave", s.Leave, "ports", s.Ports)
	}
}

// maxLoggedProblems is the largest number of new problems that one attempt to apply a configuration
// logs. The report contains all problems.
const maxLoggedProblems = 20

// logProblems logs the problems in the report that the previous attempt to apply a configuration
// did not have. It leaves out clusters that do not answer, because connectivityLog logs them.
func (a *applier) logProblems(report kube.Report) {
	away := map[string]bool{}
	for _, c := range report.Clusters {
		away[c.Name] = c.Connectivity.Unreachable()
	}
	now := make(map[kube.Problem]bool, len(report.Problems))
	fresh := 0
	for _, p := range report.Problems {
		if now[p] = true; a.logged[p] || p.Object == "" && away[p.Cluster] {
			continue
		}
		if fresh++; fresh > maxLoggedProblems {
			continue
		}
		if p.Warning {
			a.log.Warn("warning", "of", p.Error())
		} else {
			a.log.Error("problem", "of", p.Error())
		}
	}
	if fresh > maxLoggedProblems {
		a.log.Error("more problems, see "+ReportFile, "count", fresh-maxLoggedProblems)
	}
	gone := 0
	for p := range a.logged {
		if !now[p] && (p.Object != "" || p.Cluster == "") {
			gone++
		}
	}
	if gone > 0 {
		a.log.Info("problems are solved", "count", gone, "left", len(report.Problems))
	}
	a.logged = now
}
