package report

import (
	"fmt"
	"strings"
)

// Paired is the outcome of a run with many short rounds, in which all routers run at the same time.
type Paired struct {
	Run
	Size
}

// pairedFigures lists the figures of a Paired, each with the title of its column.
var pairedFigures = []column{
	{title: "CPU µs a connection", what: ConnCPU},
	{title: "CPU µs a round trip", what: RoundTripCPU},
	{title: "round trip p50 µs", what: RoundTripP50},
}

// Markdown returns the result as text with a table. Beside each figure, the table has the ratio of our
// router to the router of the row. Such a ratio compares two figures of the same round.
func (p Paired) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "`%s`\n\n%s %s\n\n", p.Command, p.Machine, p.Settings)
	var ours Router
	for _, r := range p.Routers {
		if r.Role == "ours" {
			ours = r
		}
	}
	header := []string{"router"}
	for _, c := range pairedFigures {
		header = append(header, c.title, "snirouter ÷ router")
	}
	rows := [][]string{header}
	for _, r := range p.Routers {
		row := []string{r.Title()}
		for _, c := range pairedFigures {
			ratio := "1"
			if r.Role != "ours" {
				ratio = quartiles(ratios(ours, r, p.Size, c.what))
			}
			row = append(row, quartiles(r.values(p.Size, c.what)), ratio)
		}
		rows = append(rows, row)
	}
	b.WriteString(markdown(rows))
	fmt.Fprintf(&b, "\nMedian of the rounds, with the lower and the upper quartile in brackets; %s.\n", p.Size)
	if problems := p.problems([]Size{p.Size}); problems != "" {
		b.WriteString("\n" + problems)
	}
	return b.String()
}

// quartiles returns the median of the values, with the lower and the upper quartile in brackets. It
// returns "-" if there are no values.
func quartiles(values []float64) string {
	if len(values) == 0 {
		return "-"
	}
	return fmt.Sprintf("%s (%s–%s)", number(SpreadOf(values).Median), number(Quantile(values, 0.25)), number(Quantile(values, 0.75)))
}
