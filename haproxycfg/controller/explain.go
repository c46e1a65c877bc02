package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/headgate/headgate/haproxycfg/controller/explain"
	"github.com/headgate/headgate/haproxycfg/controller/journal"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// explainable holds the input of Explain: facts about the last attempt to apply a configuration. An
// explainable does not change: the method "observe" stores a new explainable.
type explainable struct {
	table  routes.Table // the routes in force, or the planned routes if planned is true
	latest kube.Input   // the input of the last attempt
	// declared are the latest declarations. While an operator holds earlier routes in force, the
	// field latest.Table contains the held routes, and declared still contains the declarations.
	declared routes.Table
	report   kube.Report // the report on table; its field Refused is the change that Limit has refused
	waiting  *Waiting    // why the change of the last attempt waits
	planned  bool        // this process has not applied a configuration yet
	// problems are the problems in the input of the last attempt to apply a configuration. The
	// configuration of this attempt may not be in force.
	problems []kube.Problem
}

// observe stores the input of Explain after an attempt to apply a configuration.
func (a *applier) observe(t Attempt) {
	x := &explainable{report: a.report, waiting: waitingOf(t.Err)}
	last := a.c.explained.Load()
	switch {
	case t.Change != nil:
		x.latest, x.declared, x.problems = t.Change.input, t.Change.declared, t.Change.Report.Problems
	case last != nil:
		x.latest, x.declared, x.problems = last.latest, last.declared, last.problems
	default:
		return
	}
	if a.input != nil {
		x.table = a.input.Table
	} else {
		x.table, x.planned = x.latest.Table, true
		if t.Change != nil {
			refused := a.report.Refused
			x.report = t.Change.Report
			x.report.Refused = refused
		}
	}
	a.c.explained.Store(x)
}

func waitingOf(err error) (w *Waiting) {
	errors.As(err, &w)
	return w
}

// ErrNotExplained means that no attempt to apply a configuration has ended yet, so Explain knows no
// routes.
var ErrNotExplained = errors.New("controller: no attempt has ended yet")

// Explain says where the requests for a target go with the configuration in force. Before this
// process has applied a configuration, Explain uses the configuration that the process wants to
// apply. If another process leads, Explain returns ErrNotLeading. Call Explain only while Run is
// running.
//
// worker returns the socket of the HAProxy worker from which Explain reads the states of servers,
// such as the method Worker of a deploy.Runtime. If worker is nil or HAProxy does not answer, the
// Explanation says so.
func (c *Controller) Explain(ctx context.Context, target explain.Target, worker func(context.Context) (runtimeapi.Socket, error)) (explain.Explanation, error) {
	if status := c.Status(); !status.Leading {
		if status.Leader != "" {
			return explain.Explanation{}, fmt.Errorf("%w: %s", ErrNotLeading, status.Leader)
		}
		return explain.Explanation{}, ErrNotLeading
	}
	x := c.explained.Load()
	if x == nil {
		return explain.Explanation{}, ErrNotExplained
	}
	in := explain.Input{
		Table: x.table, Clusters: x.latest.Clusters, Report: x.report, Planned: x.planned, Latest: &x.declared,
	}
	return c.explain(ctx, in, x.latest.Regions, target, x.waiting, worker)
}

// ExplainChange says where the requests for a target go with the configuration of a Change that
// Plan returned. If the Change is empty, this configuration is in force. Apart from this,
// ExplainChange works like Explain.
func (c *Controller) ExplainChange(ctx context.Context, ch *Change, target explain.Target, worker func(context.Context) (runtimeapi.Socket, error)) (explain.Explanation, error) {
	in := explain.Input{Table: ch.input.Table, Clusters: ch.input.Clusters, Report: ch.Report, Planned: !ch.Diff.Empty()}
	return c.explain(ctx, in, ch.input.Regions, target, nil, worker)
}

func (c *Controller) explain(ctx context.Context, in explain.Input, regions routes.Regions, target explain.Target, waiting *Waiting, worker func(context.Context) (runtimeapi.Socket, error)) (explain.Explanation, error) {
	in.Time, in.Builder, in.Allow = time.Now(), c.Builder, c.ForceHint
	by, err := c.orders()
	if err != nil {
		return explain.Explanation{}, err
	}
	in.Builder.Edge.Regions = regions
	addShifts(&in.Builder.Edge, by.state.Shifts)
	in.Backend = c.Dir.InForce(edge.Router).Backend
	e := explain.Explain(in, target)
	if by.held != nil {
		e.Notes = append(e.Notes, by.held.hold.String())
	}
	if k := c.Status().Canary; k != nil {
		e.Notes = append(e.Notes, k.String())
	}
	if waiting != nil {
		e.Notes = append(e.Notes, "a change is not in force yet: "+waiting.Error())
	}
	if err := askServers(ctx, &e, worker); err != nil {
		e.AddError(err.Error())
	}
	return e, nil
}

// askServers asks the running HAProxy for the states of the servers, and adds them to e.
func askServers(ctx context.Context, e *explain.Explanation, worker func(context.Context) (runtimeapi.Socket, error)) error {
	if worker == nil {
		return errors.New("there is no socket of HAProxy")
	}
	backends := e.AskBackends()
	if len(backends) == 0 {
		return nil
	}
	socket, err := worker(ctx)
	if err != nil {
		return err
	}
	var stats []runtimeapi.Stat
	var failed error
	for _, name := range backends {
		rows, err := socket.ServerStats(ctx, name)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("backend %s: %w", name, err))
			continue
		}
		stats = append(stats, rows...)
	}
	e.AddStats(stats)
	return failed
}

// ExplainHandler returns a handler of GET /explain?host=HOST&path=PATH. It answers with the
// Explanation of Explain: as text, or as JSON with format=json. A missing path means "/". With
// at=TIME (see journal.ParseTime), the handler calls ExplainAt instead. The status is 400 for a
// wrong parameter, 404 if the journal does not reach back to TIME, and 503 for another error.
func (c *Controller) ExplainHandler(worker func(context.Context) (runtimeapi.Socket, error)) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /explain", func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		format := query.Get("format")
		if format != "" && format != "text" && format != "json" {
			http.Error(w, "format: want text or json", http.StatusBadRequest)
			return
		}
		target, err := explain.NewTarget(query.Get("host"), query.Get("path"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var e explain.Explanation
		if text := query.Get("at"); text != "" {
			at, parseErr := journal.ParseTime(text, time.Now())
			if parseErr != nil {
				http.Error(w, "at: "+parseErr.Error(), http.StatusBadRequest)
				return
			}
			e, err = c.ExplainAt(at, target)
		} else {
			e, err = c.Explain(r.Context(), target, worker)
		}
		if errors.Is(err, journal.ErrUnknown) {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		if err != nil {
			w.Header().Set("Retry-After", "2")
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		writeExplanation(w, e, format)
	})
	return mux
}

func writeExplanation(w http.ResponseWriter, e explain.Explanation, format string) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if format != "json" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Write(e.AppendText(nil))
		return
	}
	data, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(data, '\n'))
}
