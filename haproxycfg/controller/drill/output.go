package drill

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode/utf8"
)

// maxColumns is the largest width, in characters, of the lines that the functions in this file
// write.
const maxColumns = 100

// These are the largest numbers of lines that WriteDetails prints in each list of a drill.
const (
	maxDetailLines = 8
	maxDetailWorst = MaxWorst
)

// Report is the outcome of several drills. Its JSON is stable: later versions only add members.
type Report struct {
	Results []Result `json:"drills"`
	// Violations are the limits of the policy that the drills have exceeded. An empty list means
	// that all drills meet the policy.
	Violations []Violation `json:"violations"`
}

// NewReport returns a Report with the results, and with their violations of the policy p.
func NewReport(p Policy, results []Result) Report {
	r := Report{Results: append([]Result{}, results...), Violations: []Violation{}}
	for _, result := range results {
		r.Violations = append(r.Violations, p.Judge(result)...)
	}
	return r
}

// WriteJSON writes the report as indented JSON with a final line feed.
func (r Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	return e.Encode(r)
}

// WriteTable writes a table with one row for each drill, at most 100 columns wide, and then the
// violations. These columns of the table need an explanation:
//
//   - CHANGED is the number of servers that the reloads changed.
//   - BACK is the number of servers that the reloads changed after the end of the fault.
//   - LOWEST describes the service with the lowest share of serving servers. For example, "50%, 2
//     of 4" means that it had 4 serving servers before the drill.
//   - AFTER is the number of serving servers of this service at the end.
func (r Report) WriteTable(w io.Writer) error {
	var text bytes.Buffer
	t := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "DRILL\tRELOADS\tREFUSED\tCHANGED\tBACK\tDRAINED\tLOWEST\tAFTER\tPOLICY")
	for i := range r.Results {
		x := &r.Results[i]
		lowest, after := "-", "-"
		if len(x.Worst) > 0 {
			s := x.Worst[0]
			lowest, after = fmt.Sprintf("%.0f%%, %d of %d", 100*s.Share(), s.Lowest, s.Before), fmt.Sprint(s.After)
		}
		verdict := "holds"
		for _, v := range r.Violations {
			if v.Drill == x.Drill {
				verdict = "BROKEN"
			}
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\n",
			shorten(x.Drill, 24), x.Reloads, len(x.Refusals), x.Changed, x.Moved, x.Drained, lowest, after, verdict)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, v := range r.Violations {
		text.WriteString("\n")
		wrap(&text, fmt.Sprintf("%s: %s: %s", v.Drill, v.Limit, v.Text), "", "  ")
	}
	_, err := w.Write(text.Bytes())
	return err
}

// WriteDetails writes what happens in each drill, at most 100 columns wide: the steps, the refused
// changes, the terminator's log lines, the text of /readyz, and the services with the lowest share
// of serving servers. It cuts off long lists. WriteJSON writes them completely.
func (r Report) WriteDetails(w io.Writer) error {
	var text bytes.Buffer
	for i := range r.Results {
		x := &r.Results[i]
		if i > 0 {
			text.WriteString("\n")
		}
		x.details(&text)
	}
	_, err := w.Write(text.Bytes())
	return err
}

func (x *Result) details(w *bytes.Buffer) {
	wrap(w, "== "+x.Drill+": "+x.Title, "", "   ")
	more := func(shown, all int) {
		if all > shown {
			fmt.Fprintf(w, "  %d more\n", all-shown)
		}
	}
	lines := func(title string, list []Line, further int) {
		if len(list) == 0 {
			return
		}
		fmt.Fprintln(w, title)
		shown := min(maxDetailLines, len(list))
		for _, l := range list[:shown] {
			wrap(w, fmt.Sprintf("%-9v  %s", l.At, l.Text), "  ", "             ")
		}
		more(shown, len(list)+further)
	}
	lines("what happens:", x.Steps, 0)
	lines("what the terminator logs:", x.Log, x.MoreLog)
	if x.Status != "" {
		fmt.Fprintln(w, "what /readyz says before the recovery:")
		for line := range strings.SplitSeq(x.Status, "\n") {
			wrap(w, line, "  ", "    ")
		}
	}
	var refusals []Line
	for _, r := range x.Refusals {
		until := "it stays"
		if r.Until != nil {
			until = "until " + r.Until.String()
		}
		refusals = append(refusals, Line{r.At, until + ": " + r.Reason})
	}
	lines("what is refused:", refusals, 0)
	if len(x.Worst) == 0 {
		fmt.Fprintln(w, "no service had servers before the drill")
	} else if x.Worst[0].Lowest == x.Worst[0].Before {
		fmt.Fprintf(w, "each of the %d services keeps all its servers\n", x.Services)
	} else {
		fmt.Fprintf(w, "of %d services, %d have no server at some time; the worst ones:\n", x.Services, x.Empty)
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "  SERVICE\tBEFORE\tLOWEST\tAT\tAFTER")
		for _, s := range x.Worst[:min(maxDetailWorst, len(x.Worst))] {
			if s.Lowest < s.Before {
				fmt.Fprintf(t, "  %s\t%d\t%d\t%v\t%d\n", shorten(s.String(), 64), s.Before, s.Lowest, s.LowestAt, s.After)
			}
		}
		_ = t.Flush() // a bytes.Buffer accepts everything
	}
	for _, note := range x.Notes {
		wrap(w, "note: "+note, "", "  ")
	}
}

// shorten returns the text, with at most as many characters as the argument "limit" says. If it
// cuts the text, the last character is "…".
func shorten(text string, limit int) string {
	if utf8.RuneCountInString(text) <= limit {
		return text
	}
	return string([]rune(text)[:limit-1]) + "…"
}

// wrap writes a text in lines of at most maxColumns characters, and cuts only a word that is longer
// than a line. The first line has the prefix "first", and all other lines have the prefix
// "further".
func wrap(w *bytes.Buffer, text, first, further string) {
	indent := first
	runes := []rune(text)
	for {
		room := maxColumns - utf8.RuneCountInString(indent)
		if len(runes) <= room {
			fmt.Fprintf(w, "%s%s\n", indent, string(runes))
			return
		}
		end := room
		for end > 0 && runes[end] != ' ' {
			end--
		}
		if end == 0 {
			end = room
		}
		fmt.Fprintf(w, "%s%s\n", indent, strings.TrimRight(string(runes[:end]), " "))
		runes = runes[end:]
		for len(runes) > 0 && runes[0] == ' ' {
			runes = runes[1:]
		}
		indent = further
	}
}
