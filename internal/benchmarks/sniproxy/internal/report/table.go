package report

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

type column struct {
	title string
	at    Size
	what  Metric
}

// Markdown returns the result as text with tables in Markdown.
func (r Result) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "`%s`\n\n%s %s\n\n", r.Command, r.Machine, r.Settings)
	b.WriteString(r.figures())
	fmt.Fprintf(&b, "\nMedian (lowest–highest) of the rounds; the bold figure is the ratio to the best peer of the run. %s connections open and %s hosts known; for an idle connection %s are open.\n\n",
		group(r.Base.Open), group(r.Base.Hosts), group(r.Idle.Open))
	b.WriteString(r.growth())
	sizes := slices.Compact([]Size{r.Base, r.Idle, r.ManyOpen, r.ManyHosts})
	if problems := r.problems(sizes); problems != "" {
		b.WriteString("\n" + problems)
	}
	return b.String()
}

func (r Result) figures() string {
	columns := []column{
		{"CPU µs a connection", r.Base, ConnCPU},
		{"CPU s a GiB", r.Base, BulkCPU},
		{"RSS KiB an idle connection", r.Idle, IdleRSS},
		{"descriptors", r.Idle, IdleFiles},
		{"round trip p50 µs", r.Base, RoundTripP50},
		{"p99 µs", r.Base, RoundTripP99},
		{"CPU µs a round trip", r.Base, RoundTripCPU},
	}
	header := []string{"router"}
	for _, c := range columns {
		header = append(header, c.title)
	}
	rows := [][]string{header}
	for _, router := range r.Routers {
		row := []string{router.Title()}
		for _, c := range columns {
			row = append(row, r.cell(router, c))
		}
		rows = append(rows, row)
	}
	return markdown(rows)
}

func (r Result) cell(router Router, c column) string {
	at := router.At(c.at, c.what)
	if at.N == 0 {
		return "-"
	}
	text := at.String()
	// Leave out the ratio if the best figure is nearly zero, because the ratio would have no
	// meaning.
	if best, ok := r.Best(c.at, c.what); ok && best >= 0.01 {
		text += " **" + strconv.FormatFloat(at.Median/best, 'f', 2, 64) + "**"
	}
	return text
}

func (r Result) growth() string {
	open := fmt.Sprintf("%s → %s open: ", group(r.Base.Open), group(r.ManyOpen.Open))
	hosts := fmt.Sprintf("%s → %s hosts: ", group(r.Base.Hosts), group(r.ManyHosts.Hosts))
	columns := []struct {
		title string
		to    Size
		what  Metric
	}{
		{open + "CPU µs a connection", r.ManyOpen, ConnCPU},
		{open + "round trip p50 µs", r.ManyOpen, RoundTripP50},
		{open + "CPU µs a round trip", r.ManyOpen, RoundTripCPU},
		{hosts + "CPU µs a connection", r.ManyHosts, ConnCPU},
		{hosts + "ready after ms", r.ManyHosts, Ready},
		{hosts + "memory MiB", r.ManyHosts, Memory},
	}
	header := []string{"router"}
	for _, c := range columns {
		header = append(header, c.title)
	}
	rows := [][]string{header}
	for _, router := range r.Routers {
		row := []string{router.Name}
		for _, c := range columns {
			row = append(row, median(router.At(r.Base, c.what))+" → "+median(router.At(c.to, c.what)))
		}
		rows = append(rows, row)
	}
	return markdown(rows)
}

// problems returns the lines below the tables: which measurements are missing at the sizes, and
// what else a reader of the tables must know.
func (r Run) problems(sizes []Size) string {
	var lines []string
	for _, router := range r.Routers {
		for _, s := range sizes {
			add := func(format string, args ...any) {
				lines = append(lines, fmt.Sprintf("- %s, %s: ", router.Title(), s)+fmt.Sprintf(format, args...)+"\n")
			}
			if problems := router.problems(s); len(problems) > 1 {
				add("%s (and in %d more rounds)", problems[0], len(problems)-1)
			} else if len(problems) == 1 {
				add("%s", problems[0])
			}
			if left := router.At(s, LeftFiles); left.Median >= 0.1 {
				add("keeps %s descriptors a connection 2 s after the client has closed it", number(left.Median))
			}
			if at := router.At(s, ConnCount); at.N > 0 && at.Min < 200 {
				add("so slow that its figures come from only %s connections a round", number(at.Min))
			}
		}
	}
	if others := r.others(); others.Median >= 5 {
		lines = append(lines, fmt.Sprintf("- the machine was busy: other processes used %s %% of the router's processor (median; maximum %s %%)\n",
			number(others.Median), number(others.Max)))
	}
	return strings.Join(lines, "")
}

// problems returns the problems in the measurements of the router at the size s, in the order of
// the rounds.
func (r Router) problems(s Size) []string {
	var problems []string
	for _, p := range r.Points {
		if p.Size == s && p.Problem != "" {
			problems = append(problems, p.Problem)
		}
	}
	return problems
}

// The method "others" returns the share of the time, in percent, during which other programs than
// the router used the router's processor. The result is the median and the range of this share over
// all measurements.
func (r Run) others() Spread {
	var all []float64
	for _, router := range r.Routers {
		for _, p := range router.Points {
			if v, ok := p.Figures[OthersPercent]; ok {
				all = append(all, v)
			}
		}
	}
	return SpreadOf(all)
}

func median(s Spread) string {
	if s.N == 0 {
		return "-"
	}
	return number(s.Median)
}

// String returns the median, and the lowest and the highest value if they differ.
func (s Spread) String() string {
	text := number(s.Median)
	if low, high := number(s.Min), number(s.Max); low != high {
		text += " (" + low + "–" + high + ")"
	}
	return text
}

// String describes the size. It omits the number of processors if this number is 1.
func (s Size) String() string {
	text := group(s.Open) + " open, " + group(s.Hosts) + " hosts"
	if s.Cores > 1 {
		text = group(s.Cores) + " processors, " + text
	}
	return text
}

// The function "number" formats v with three digits, of which at most two are after the point. If v
// has more than three digits before the point, the function rounds v to an integer.
func number(v float64) string {
	if v == 0 || math.Abs(v) < 0.005 {
		return "0"
	}
	before := max(0, int(math.Floor(math.Log10(math.Abs(v))))+1)
	if text := strconv.FormatFloat(v, 'f', min(2, max(0, 3-before)), 64); before < 4 {
		return text
	}
	return group(int(math.Round(v)))
}

// group formats n with a comma before each group of three digits.
func group(n int) string {
	digits := strconv.Itoa(n)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

func markdown(rows [][]string) string {
	var b strings.Builder
	for i, row := range rows {
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
		if i == 0 {
			b.WriteString("|---" + strings.Repeat("|---:", len(row)-1) + "|\n")
		}
	}
	return b.String()
}
