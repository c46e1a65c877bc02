package drill

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
)

// maxLines bounds Result.Log.
const maxLines = 1000

// recorder collects what happens in a run, for the Result. Until somebody calls the method "begin",
// it stores only the report in force.
type recorder struct {
	zero    time.Time // the time of the first step; zero before the call of begin
	now     time.Time
	report  *kube.Report // the report of the configuration in force
	reloads int
	changes int // servers that reloads have added, removed or altered
	moved   int // the same, since the recovery
	waits   int
	drained int
	fixed   bool // the recovery has begun
	status  string

	refusals []Refusal
	lines    []Line
	more     int

	services []history
	index    map[routes.Ref]int // into services
}

// history is the number of serving servers of a service over time.
type history struct {
	ref    routes.Ref
	before int
	points []point // the number from each time on; sorted by time
}

type point struct {
	at      time.Duration // since the first step
	serving int
}

// begin forgets everything that happened before the first step, except the report in force.
func (r *recorder) begin(zero time.Time) { *r = recorder{zero: zero, now: zero, report: r.report} }

func (r *recorder) reload() { r.reloads++ }

// recover notes that the fault ends now. status is the text of /readyz just before this moment.
func (r *recorder) recover(status string) { r.fixed, r.status = true, status }

func (r *recorder) attempted(a controller.Attempt) {
	r.now = a.Begin
	switch a.Outcome {
	case controller.Written, controller.Unchanged:
		r.report = &a.Change.Report
		n := a.Change.Diff.Servers
		if sum := n.Added + n.Removed + n.Altered; a.Outcome == controller.Written {
			r.changes += sum
			if r.fixed {
				r.moved += sum
			}
		}
		r.end()
	case controller.Refused, controller.Failed:
		refusal := Refusal{At: Offset(r.now.Sub(r.zero)), Reason: a.Err.Error(), Failed: a.Outcome == controller.Failed}
		if !refusal.Failed {
			refusal.ID = a.Change.ID()
		}
		if n := len(r.refusals); n > 0 && r.refusals[n-1].Until == nil && r.refusals[n-1].same(refusal) {
			return
		}
		r.end()
		r.refusals = append(r.refusals, refusal)
	case controller.Waits:
		r.waits++
		r.end()
	}
}

// end notes that the Controller no longer refuses the change that it refused last.
func (r *recorder) end() {
	if n := len(r.refusals); n > 0 && r.refusals[n-1].Until == nil {
		until := Offset(r.now.Sub(r.zero))
		r.refusals[n-1].Until = &until
	}
}

// look counts the serving servers of each service. The argument "now" is the present time of the
// drill.
func (r *recorder) look(now time.Time, t *truth) {
	r.now = now
	at := now.Sub(r.zero)
	first := r.index == nil // before the first step
	if first {
		r.index = map[routes.Ref]int{}
	}
	counts := make([]int, len(r.services))
	drained := 0
	for i := range r.report.Services {
		s := &r.report.Services[i]
		serving, draining := t.serving(s)
		drained += draining
		k, ok := r.index[s.Ref]
		switch {
		case ok:
			counts[k] = serving
		case first:
			r.index[s.Ref] = len(r.services)
			r.services = append(r.services, history{ref: s.Ref, before: serving})
			counts = append(counts, serving)
		}
	}
	r.drained = max(r.drained, drained)
	for k, n := range counts {
		h := &r.services[k]
		if last := len(h.points) - 1; last < 0 || h.points[last].serving != n {
			h.points = append(h.points, point{at, n})
		}
	}
}

// logger returns a logger that adds each line to the recorder, with the time since the first step.
// The argument "now" is a function that returns the present time of the drill.
func (r *recorder) logger(now func() time.Time) *slog.Logger {
	return slog.New(&lineHandler{r: r, now: now})
}

// lineHandler is a slog.Handler that adds lines to the recorder, in the form of slog.TextHandler.
type lineHandler struct {
	r   *recorder
	now func() time.Time
}

// Enabled implements slog.Handler.
func (h *lineHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo
}

// Handle implements slog.Handler.
func (h *lineHandler) Handle(ctx context.Context, record slog.Record) error {
	if h.r.zero.IsZero() {
		return nil
	}
	if len(h.r.lines) == maxLines {
		h.r.more++
		return nil
	}
	var text bytes.Buffer
	record.Time = time.Time{} // TextHandler leaves it out
	if err := slog.NewTextHandler(&text, nil).Handle(ctx, record); err != nil {
		return err
	}
	h.r.lines = append(h.r.lines, Line{At: Offset(h.now().Sub(h.r.zero)), Text: strings.TrimSuffix(text.String(), "\n")})
	return nil
}

// WithAttrs implements slog.Handler. The Controller never calls it.
func (h *lineHandler) WithAttrs([]slog.Attr) slog.Handler { return h }

// WithGroup implements slog.Handler. The Controller never calls it.
func (h *lineHandler) WithGroup(string) slog.Handler { return h }
