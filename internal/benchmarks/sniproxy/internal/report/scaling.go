package report

import (
	"fmt"
	"strconv"
	"strings"
)

// Scaling is the outcome of a run that measures routers at growing sizes.
type Scaling struct {
	Run
	Axes
}

// Axes are the sizes of a Scaling, each in ascending order. A run varies the number of open
// connections for each number of processors. It varies the number of host names with one processor
// and few open connections.
type Axes struct {
	Cores []int `json:"cores"`
	Open  []int `json:"open"`
	Hosts []int `json:"hosts"`
}

// OpenSizes returns the sizes with growing numbers of open connections, and few host names.
func (a Axes) OpenSizes(cores int) (sizes []Size) {
	for _, open := range a.Open {
		sizes = append(sizes, Size{Cores: cores, Open: open, Hosts: a.Hosts[0]})
	}
	return sizes
}

// HostSizes returns the sizes with growing numbers of host names. The first size is also the first
// of OpenSizes.
func (a Axes) HostSizes() (sizes []Size) {
	for _, hosts := range a.Hosts {
		sizes = append(sizes, Size{Cores: a.Cores[0], Open: a.Open[0], Hosts: hosts})
	}
	return sizes
}

// growingOpen lists the tables at growing numbers of open connections, and growingHosts the tables at
// growing numbers of host names. Each element is the figure and the title of one table.
var (
	growingOpen = []column{
		{title: "CPU µs a connection", what: ConnCPU},
		{title: "CPU µs a round trip", what: RoundTripCPU},
		{title: "RSS KiB an idle connection", what: IdleRSS},
		{title: "CPU ms a second, all connections idle", what: IdleCPU},
	}
	growingHosts = []column{
		{title: "CPU µs a connection", what: ConnCPU},
		{title: "ready after ms", what: Ready},
		{title: "memory MiB", what: Memory},
	}
)

// IdleSizes returns the sizes at which the memory of one connection is measured: all sizes of
// OpenSizes except the first one, which has the fewest connections. Most of these few connections
// use memory that the router has kept from the connections of the warm-up, so the growth of the
// memory does not show what a connection needs.
func (a Axes) IdleSizes(cores int) []Size { return a.OpenSizes(cores)[1:] }

// Markdown returns the result as text with a table for each figure.
func (s Scaling) Markdown() string {
	var open, idle []Size
	for _, cores := range s.Cores {
		open = append(open, s.OpenSizes(cores)...)
		idle = append(idle, s.IdleSizes(cores)...)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "`%s`\n\n%s %s\n", s.Command, s.Machine, s.Settings)
	for _, c := range growingOpen {
		sizes := open
		if c.what == IdleRSS {
			sizes = idle
		}
		b.WriteString("\n" + s.table(c, sizes))
	}
	for _, c := range growingHosts {
		b.WriteString("\n" + s.table(c, s.HostSizes()))
	}
	b.WriteString("\nEach cell has the median of the rounds, with the lowest and the highest round in brackets. " +
		"The last row divides the figure of snirouter by the figure of the best other router in the same round. " +
		"A win is a ratio below 1 in every round. A loss is a ratio above 1 in every round.\n")
	if problems := s.problems(append(open, s.HostSizes()[1:]...)); problems != "" {
		b.WriteString("\n" + problems)
	}
	return b.String()
}

func (s Scaling) table(c column, sizes []Size) string {
	header, last := []string{c.title}, []string{"snirouter ÷ best other"}
	for _, size := range sizes {
		header = append(header, size.String())
		last = append(last, s.versus(size, c.what))
	}
	rows := [][]string{header}
	for _, r := range s.Routers {
		row := []string{r.Title()}
		for _, size := range sizes {
			if at := r.At(size, c.what); at.N > 0 {
				row = append(row, at.String())
			} else {
				row = append(row, "-")
			}
		}
		rows = append(rows, row)
	}
	return markdown(append(rows, last))
}

// fewestRounds is the least number of rounds with which the method "versus" calls a ratio a win or a
// loss.
const fewestRounds = 3

// versus returns a cell with the ratio of our router to the best peer, and the name of this peer. The
// cell has no ratio if the figure of the peer is nearly zero. It is "-" if no round has both figures.
func (s Scaling) versus(size Size, m Metric) string {
	ours, peer, ok := s.contenders(size, m)
	switch at := ours.At(size, m); {
	case !ok:
		return "-"
	case peer.At(size, m).Median >= 0.01:
	case at.N >= fewestRounds && at.Min >= 0.01:
		return "0 in " + peer.Title() + ": loss"
	default:
		return "0 in " + peer.Title()
	}
	ratio := SpreadOf(ratios(ours, peer, size, m))
	verdict := ""
	switch {
	case ratio.N == 0: // no round has both figures
		return "-"
	case ratio.N < fewestRounds:
	case ratio.Max < 1:
		verdict = ": win"
	case ratio.Min > 1:
		verdict = ": loss"
	default:
		verdict = ": no clear difference"
	}
	return "**" + strconv.FormatFloat(ratio.Median, 'f', 2, 64) + "** (" + strconv.FormatFloat(ratio.Min, 'f', 2, 64) +
		"–" + strconv.FormatFloat(ratio.Max, 'f', 2, 64) + ") of " + peer.Title() + verdict
}

// contenders returns our router, and the peer with the lowest median of the figure m.
func (r Run) contenders(s Size, m Metric) (ours, peer Router, ok bool) {
	best, haveBest := r.Best(s, m)
	for _, router := range r.Routers {
		switch at := router.At(s, m); {
		case at.N == 0:
		case router.Role == "ours":
			ours, ok = router, haveBest
		case router.Role == "peer" && at.Median == best:
			peer = router
		}
	}
	return ours, peer, ok
}

// ratios divides the figures of the router "ours" by the figures of the router "peer", in each round
// that has both.
func ratios(ours, peer Router, s Size, m Metric) (values []float64) {
	for _, a := range ours.Points {
		for _, b := range peer.Points {
			x, haveX := a.Figures[m]
			y, haveY := b.Figures[m]
			if a.Size == s && b.Size == s && a.Round == b.Round && haveX && haveY && y != 0 {
				values = append(values, x/y)
			}
		}
	}
	return values
}
