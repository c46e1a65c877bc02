package controller

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/headgate/headgate/haproxycfg/controller/explain"
	"github.com/headgate/headgate/haproxycfg/controller/journal"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/shift"
)

// recorder contains the facts that the method "record" keeps from one attempt to apply a
// configuration to the next.
type recorder struct {
	known   bool   // whether the journal has been read
	applied string // ID of the newest entry of an applied change
	refused string // refusalKey of the newest entry, if its change was not applied
	lastErr string // the last error, so that a repeated error is logged once
}

// refusalKey returns the same key for all attempts to apply one change that end in the same way.
// The key does not contain the reason of the refusal: the text of an error may differ in each
// attempt, so with the reason in the key, each attempt would add an entry to the journal.
func refusalKey(e journal.Entry) string { return string(e.Result) + " " + e.ID }

// record appends an entry to the journal if the attempt t has applied a change, or is the first
// failed attempt for a change. It also records the configuration in force if the journal does not
// contain it. An error of the journal has no effect on the change.
func (a *applier) record(t Attempt) {
	if a.c.Journal == nil || t.Change == nil || t.Change.plan == nil || a.guard() != nil {
		return
	}
	err := a.recordAttempt(t)
	if err != nil && a.guard() != nil {
		return // the next leader writes to the journal
	}
	last := a.recorder.lastErr
	if a.recorder.lastErr = ""; err != nil {
		a.c.status.change(func(now *Status) { now.JournalErrors++ })
		if a.recorder.lastErr = err.Error(); a.recorder.lastErr != last {
			a.log.Error("the change is not in the journal", "err", err)
		}
	}
}

func (a *applier) recordAttempt(t Attempt) error {
	r := &a.recorder
	if !r.known {
		latest, err := a.c.Journal.Latest()
		if err != nil {
			return err
		}
		for _, p := range latest.Problems {
			a.log.Warn("an entry of the journal cannot be read", "err", p)
		}
		r.known, r.applied = true, latest.Applied.ID
		if latest.Entry.Result != journal.Applied {
			r.refused = refusalKey(latest.Entry)
		}
	}
	e, state := a.journalEntry(t)
	if e.Result != journal.Applied && r.refused == refusalKey(e) {
		return nil
	}
	if e.Result != "" {
		if err := a.c.Journal.Append(e, state, a.guard); err != nil {
			return err
		}
	}
	switch e.Result {
	case journal.Applied:
		r.applied, r.refused = e.ID, ""
	case journal.Refused, journal.Failed:
		r.refused = refusalKey(e)
	default:
		if t.Outcome == Unchanged {
			r.refused = "" // the change has disappeared, and would be a new one
		}
	}
	return nil
}

// journalEntry returns the journal entry for an attempt to apply a configuration. If the attempt
// has applied a change, journalEntry also returns the State that belongs to the entry. If the
// attempt needs no entry, the Result of the returned entry is "".
func (a *applier) journalEntry(t Attempt) (journal.Entry, *journal.State) {
	ch := t.Change
	e := journal.Entry{Time: t.Begin.Add(t.Duration), ID: ch.ID(), Took: t.Duration.Milliseconds()}
	switch refused := a.report.Refused; {
	case t.Outcome == Written || t.Outcome == Unchanged && a.recorder.applied != e.ID:
		e.Result, e.Changes = journal.Applied, kube.Changes{Time: e.Time, Services: []kube.ServiceChange{}, Causes: []kube.Cause{{What: "found in force"}}}
		if t.Outcome == Written && ch.Report.Changes != nil {
			e.Changes, e.Diff = *ch.Report.Changes, ch.Diff.String()
		}
		e.Reload, e.ReloadDetail = string(t.Effect.Reload), t.Effect.Detail
		if e.Reload == "" && t.Outcome == Written && a.c.Dir.Reload != nil {
			e.Reload = journal.NoReload
		}
		e.Declarations = journal.RoutesID(ch.input.Table.Routes())
		return e, &journal.State{Routes: ch.input.Table.Routes(), Report: ch.Report}
	case refused == nil || refused.ID != e.ID:
	case t.Outcome == Refused:
		e.Result, e.Changes, e.Diff = journal.Refused, *refused, ch.Diff.String()
		if a.c.ForceHint != nil {
			e.Allow = a.c.ForceHint(e.ID)
		}
	case t.Outcome == Failed:
		e.Result, e.Changes, e.Diff = journal.Failed, *refused, ch.Diff.String()
	}
	return e, nil
}

// recordShifts appends an entry about changed shifts to the journal. failed is the reason why
// HAProxy may not follow the new shifts. It is nil if HAProxy follows them.
func (c *Controller) recordShifts(last, next shift.State, failed error) {
	if c.Journal == nil {
		return
	}
	now := time.Now()
	changes := kube.Changes{Time: now.UTC().Truncate(time.Millisecond), Services: []kube.ServiceChange{}}
	for _, s := range next.Shifts {
		if before, ok := last.Find(s.Route); !ok || before.String() != s.String() {
			changes.Causes = append(changes.Causes, kube.Cause{Object: "Shift", What: s.String()})
		}
	}
	for _, s := range last.Shifts {
		if _, ok := next.Find(s.Route); ok {
			continue
		}
		end := "undone"
		if !now.Before(s.Expires()) {
			end = "expired"
		}
		changes.Causes = append(changes.Causes, kube.Cause{Object: "Shift", What: s.Route + ": declared weights, " + end})
	}
	if last.ClosePoints != next.ClosePoints {
		changes.Causes = append(changes.Causes, kube.Cause{Object: "Connections", What: "closed after " + shift.FormatPercent(next.ClosePoints) + " of the responses"})
	}
	if len(changes.Causes) == 0 {
		return
	}
	if more := len(changes.Causes) - maxShiftCauses; more > 0 {
		changes.Causes, changes.MoreCauses = changes.Causes[:maxShiftCauses], more
	}
	if failed != nil {
		changes.Reason = failed.Error()
	}
	if err := c.Journal.Append(journal.Entry{Time: now, Result: journal.Shifted, Changes: changes}, nil, c.Dir.Guard); err != nil {
		c.status.change(func(now *Status) { now.JournalErrors++ })
		c.logger().Error("the change of a shift is not in the journal", "err", err)
	}
}

// maxShiftCauses is the largest number of shifts in an entry of the journal.
const maxShiftCauses = 100

// ExplainAt says where the requests for a target went at the earlier time "at". It reads this from
// Journal. The Explanation has the names of backends and servers that Builder would choose now, and
// contains neither states of servers nor shifts of routes. The error wraps journal.ErrUnknown if
// the journal does not reach back so far.
func (c *Controller) ExplainAt(at time.Time, target explain.Target) (explain.Explanation, error) {
	if c.Journal == nil {
		return explain.Explanation{}, fmt.Errorf("%w: there is no journal", journal.ErrUnknown)
	}
	past, err := c.Journal.At(at)
	if err != nil {
		return explain.Explanation{}, err
	}
	table, problems := routes.New(past.State.Routes...)
	report := past.State.Report
	report.Applied, report.Changes = &kube.Applied{ID: past.Entry.ID, Time: past.Entry.Time}, &past.Entry.Changes
	if past.Refused != nil {
		report.Refused = &past.Refused.Changes
	}
	builder := c.Builder
	builder.Edge.Regions = regionsOf(table)
	e := explain.Explain(explain.Input{Builder: builder, Table: table, Report: report}, target)
	e.Time = at
	note := fmt.Sprintf("this was in force at %s, after the change of %s", journal.FormatTime(at), journal.FormatTime(past.Entry.Time))
	if past.Next != nil {
		note += ", until the change of " + journal.FormatTime(past.Next.Time)
	}
	e.Notes = append(e.Notes, note)
	for _, p := range past.Problems {
		e.Notes = append(e.Notes, "an entry of the journal cannot be read, and may have changed this: "+p.Error())
	}
	for _, p := range problems {
		e.Notes = append(e.Notes, "a route of the journal cannot be read: "+p.Error())
	}
	e.AddError("the journal does not contain them")
	return e, nil
}

// regionsOf returns the regions that the routes of the table name, without networks. The journal does
// not contain the regions of an earlier time.
func regionsOf(table routes.Table) (regions routes.Regions) {
	for _, r := range table.Routes() {
		for _, p := range r.Prefer {
			if p.Region != "" && !regions.Has(p.Region) {
				regions.Regions = append(regions.Regions, routes.Region{Name: p.Region})
			}
		}
	}
	return regions
}

// JournalHandler returns a handler of GET /journal. It answers with one line for each entry of
// Journal, the newest entry first, or with JSON if the parameter format is json. The status is 503
// if the directory cannot be read.
func (c *Controller) JournalHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /journal", func(w http.ResponseWriter, r *http.Request) {
		format := r.URL.Query().Get("format")
		if format != "" && format != "text" && format != "json" {
			http.Error(w, "format: want text or json", http.StatusBadRequest)
			return
		}
		data, err := AppendJournal(nil, c.Journal, format == "json")
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if format == "json" {
			w.Header().Set("Content-Type", "application/json")
		}
		w.Write(data)
	})
	return mux
}

// AppendJournal appends all entries of a journal to dst, the newest first. It writes them as lines.
// If asJSON is true, it writes a JSON object with the lists "entries" and "problems" instead; a
// problem is an entry that cannot be read. A nil journal has no entries.
func AppendJournal(dst []byte, j *journal.Dir, asJSON bool) ([]byte, error) {
	list := struct {
		Entries  []journal.Entry `json:"entries"`
		Problems []string        `json:"problems"`
	}{[]journal.Entry{}, []string{}}
	if j != nil {
		entries, problems, err := j.List()
		if err != nil {
			return dst, err
		}
		slices.Reverse(entries)
		list.Entries = append(list.Entries, entries...)
		for _, p := range problems {
			list.Problems = append(list.Problems, p.Error())
		}
	}
	if asJSON {
		data, err := json.MarshalIndent(list, "", "  ")
		return append(append(dst, data...), '\n'), err
	}
	for _, e := range list.Entries {
		dst = append(append(dst, e.String()...), '\n')
	}
	for _, p := range list.Problems {
		dst = fmt.Appendf(dst, "an entry cannot be read: %s\n", p)
	}
	return dst, nil
}
