// Package scenario runs named scenarios one after another and reports the outcome of each.
package scenario

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Scenario is one part of the test, in an environment E.
type Scenario[E any] struct {
	// Name is one word. About is a sentence for the list of scenarios.
	Name, About string
	// Within is the time limit of Run. 0 means three minutes.
	Within time.Duration
	// Long means that Select returns the scenario only if somebody names it.
	Long bool
	// Run runs the scenario. It must add a row to the report for each assertion. If Run returns an
	// error, the report gets a failed row with the error.
	Run func(ctx context.Context, env E, report *Report) error
}

// Row is one assertion: an expected effect, the time until the effect occurred, and the requests of
// the client in that time.
type Row struct {
	Scenario, What string
	// Took is the time until the effect occurred. 0 means that the time does not matter.
	Took time.Duration
	// Within is the longest allowed Took on an idle machine. 0 means no limit. On a busy machine,
	// Report.Add multiplies Within by the slowness of the machine, unless Scaled is set.
	Within time.Duration
	// Scaled means that Within already considers the slowness of the machine.
	Scaled bool
	// Requests and Failed count the requests of the client. Both are 0 without load. A row with a
	// failed request has failed.
	Requests, Failed int
	// Err is the reason why the assertion does not hold. nil means that there is no such reason;
	// the assertion may still fail because of Failed or Took.
	Err error
}

// OK reports whether the assertion holds.
func (r Row) OK() bool {
	return r.Err == nil && r.Failed == 0 && (r.Within == 0 || r.Took <= r.Within)
}

// Report contains the rows of one scenario.
type Report struct {
	scenario string
	rows     []Row
	slowness func() float64 // see Run
	logf     func(format string, args ...any)
}

// Add adds a row and logs it.
func (r *Report) Add(row Row) {
	row.Scenario = r.scenario
	if slow := r.slowness(); slow > 1 && !row.Scaled {
		row.Within = time.Duration(slow * float64(row.Within)).Round(10 * time.Millisecond)
	}
	r.rows = append(r.rows, row)
	verdict := "ok"
	if !row.OK() {
		verdict = "FAILED"
	}
	r.logf("%s: %s: %s %s", row.Scenario, row.What, verdict, cells(row)[2])
	if row.Err != nil {
		r.logf("%s: %v", row.Scenario, row.Err)
	}
}

// Logf writes a line to the log.
func (r *Report) Logf(format string, args ...any) {
	r.logf("%s: %s", r.scenario, fmt.Sprintf(format, args...))
}

// Select returns the scenarios that are listed in names, separated by commas. The result has the
// order of the list "all". If names is "", Select returns all scenarios that are not Long.
func Select[E any](all []Scenario[E], names string) ([]Scenario[E], error) {
	if names == "" {
		return slices.DeleteFunc(slices.Clone(all), func(s Scenario[E]) bool { return s.Long }), nil
	}
	wanted := make(map[string]bool)
	for name := range strings.SplitSeq(names, ",") {
		wanted[strings.TrimSpace(name)] = true
	}
	var selected []Scenario[E]
	for _, s := range all {
		if wanted[s.Name] {
			selected = append(selected, s)
			delete(wanted, s.Name)
		}
	}
	for name := range wanted {
		return nil, fmt.Errorf("scenario: no scenario %q", name)
	}
	return selected, nil
}

// Run runs scenarios in order, and returns the rows of all their reports. After each scenario, Run
// calls "check". If check returns an error, the environment is broken, and Run adds a failed row.
// When ctx has ended, each remaining scenario has one failed row, "not run".
//
// Before each scenario, Run calls "watch", which begins to measure how slow the machine is, and
// returns two functions. "slowness" returns a factor: 2 means that a computation has taken twice as
// long as on an idle machine. "stop" ends the measurement.
func Run[E any](ctx context.Context, env E, scenarios []Scenario[E], check func() error,
	watch func(context.Context) (slowness func() float64, stop func()), logf func(format string, args ...any),
) []Row {
	var rows []Row
	for _, s := range scenarios {
		slowness, stop := watch(ctx)
		report := &Report{scenario: s.Name, slowness: slowness, logf: logf}
		if err := ctx.Err(); err != nil {
			stop()
			report.Add(Row{What: "not run", Err: context.Cause(ctx)})
			rows = append(rows, report.rows...)
			continue
		}
		within := s.Within
		if within == 0 {
			within = 3 * time.Minute
		}
		logf("%s: %s", s.Name, s.About)
		start := time.Now()
		sctx, cancel := context.WithTimeout(ctx, within)
		err := s.Run(sctx, env, report)
		cancel()
		if err != nil {
			report.Add(Row{What: "ran to its end", Err: err})
		}
		if err := check(); err != nil {
			report.Add(Row{What: "nothing ended by itself", Err: err})
		}
		stop()
		logf("%s: took %s; the machine was %.1f times slower than idle", s.Name, duration(time.Since(start)), max(slowness(), 1))
		rows = append(rows, report.rows...)
	}
	return rows
}

// Failed reports whether a row failed, or whether there is no row.
func Failed(rows []Row) bool {
	return len(rows) == 0 || slices.ContainsFunc(rows, func(r Row) bool { return !r.OK() })
}

var header = [...]string{"scenario", "what", "took", "at most", "requests", "failed", "ok"}

// WriteTable writes rows as a table of plain text.
func WriteTable(w io.Writer, rows []Row) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, strings.Join(header[:], "\t"))
	for i, cell := range header {
		if i > 0 {
			fmt.Fprint(tw, "\t")
		}
		fmt.Fprint(tw, strings.Repeat("-", len(cell)))
	}
	fmt.Fprintln(tw)
	for _, r := range rows {
		c := cells(r)
		fmt.Fprintln(tw, strings.Join(c[:], "\t"))
	}
	return tw.Flush()
}

func cells(r Row) [len(header)]string {
	c := [len(header)]string{r.Scenario, r.What, duration(r.Took), duration(r.Within), "-", "-", "ok"}
	if r.Requests > 0 || r.Failed > 0 {
		c[4], c[5] = fmt.Sprint(r.Requests), fmt.Sprint(r.Failed)
	}
	if !r.OK() {
		c[6] = "FAILED"
	}
	return c
}

// duration formats a duration with about three digits.
func duration(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	default:
		return d.Round(10 * time.Millisecond).String()
	}
}
