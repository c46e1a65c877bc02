package main

import (
	"fmt"
	"image/color"
	"math"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"

	"github.com/headgate/headgate/internal/benchmarks/chart"
	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/report"
)

// panel is one plot of the chart: a figure at growing sizes.
type panel struct {
	title string
	what  report.Metric
	sizes []report.Size
	x     string
	value func(report.Size) int // the value of a size on the axis x
}

// drawScaling draws the medians of the figures as lines, with bars from the lowest to the highest
// round. The lines of all versions of a router have the same color.
func drawScaling(file string, s report.Scaling) error {
	few, most := s.Cores[0], s.Cores[len(s.Cores)-1]
	open := func(size report.Size) int { return size.Open }
	hosts := func(size report.Size) int { return size.Hosts }
	var plots [][]*plot.Plot
	for _, row := range [][]panel{
		{
			{title: "CPU µs a connection", what: report.ConnCPU, sizes: s.OpenSizes(few), x: "open connections", value: open},
			{title: fmt.Sprintf("CPU µs a connection, %d processors", most), what: report.ConnCPU, sizes: s.OpenSizes(most), x: "open connections", value: open},
			{title: "CPU µs a round trip", what: report.RoundTripCPU, sizes: s.OpenSizes(few), x: "open connections", value: open},
			{title: "RSS KiB an idle connection", what: report.IdleRSS, sizes: s.IdleSizes(few), x: "open connections", value: open},
		},
		{
			{title: "CPU µs a connection", what: report.ConnCPU, sizes: s.HostSizes(), x: "known hosts", value: hosts},
			{title: "ready after ms", what: report.Ready, sizes: s.HostSizes(), x: "known hosts", value: hosts},
			{title: "memory MiB", what: report.Memory, sizes: s.HostSizes(), x: "known hosts", value: hosts},
		},
	} {
		var drawn []*plot.Plot
		for _, p := range row {
			one, err := p.draw(s.Routers)
			if err != nil {
				return err
			}
			drawn = append(drawn, one)
		}
		plots = append(plots, drawn)
	}
	names, err := legend(s.Routers)
	if err != nil {
		return err
	}
	plots[1] = append(plots[1], names)
	return chart.Write(file, plots)
}

// legend returns a plot that has only the names of the routers, with their lines.
func legend(routers []report.Router) (*plot.Plot, error) {
	drawn := plot.New()
	drawn.HideAxes()
	drawn.Legend.Top, drawn.Legend.Left, drawn.Legend.Padding = true, true, vg.Points(4)
	for i, style := range styles(routers) {
		line, err := plotter.NewLine(plotter.XYs{{}, {}})
		if err != nil {
			return nil, err
		}
		style.apply(line)
		drawn.Legend.Add(routers[i].Title(), line)
	}
	return drawn, nil
}

// draw returns the plot of a panel. Both axes are logarithmic, because the figures of the routers
// differ by orders of magnitude.
func (p panel) draw(routers []report.Router) (*plot.Plot, error) {
	drawn := plot.New()
	drawn.Title.TextStyle.Font.Size = vg.Points(10)
	drawn.Title.Text, drawn.X.Label.Text = p.title, p.x
	drawn.Add(plotter.NewGrid())
	for i, style := range styles(routers) {
		points := p.points(routers[i])
		line, err := chart.AddLine(drawn, points.XYs, style.color)
		if err != nil {
			return nil, err
		}
		if line == nil {
			continue
		}
		style.apply(line)
		bars, err := plotter.NewYErrorBars(points)
		if err != nil {
			return nil, err
		}
		bars.Color = style.color
		drawn.Add(bars)
	}
	// A router without a figure at some size must not make the axis shorter.
	drawn.X.Min, drawn.X.Max = float64(p.value(p.sizes[0])), float64(p.value(p.sizes[len(p.sizes)-1]))
	drawn.X.Scale, drawn.X.Tick.Marker = plot.LogScale{}, p.ticks()
	if drawn.Y.Min > 0 && drawn.Y.Min < drawn.Y.Max { // false if there is no line
		drawn.Y.Scale, drawn.Y.Tick.Marker = plot.LogScale{}, plot.TickerFunc(ticksOfDecades)
	}
	return drawn, nil
}

// ticksOfDecades returns ticks with labels at 1, 2 and 5 times each power of ten.
func ticksOfDecades(low, high float64) (ticks []plot.Tick) {
	for decade := math.Pow10(int(math.Floor(math.Log10(low)))); decade <= high; decade *= 10 {
		for _, factor := range []float64{1, 2, 5} {
			if v := factor * decade; v >= low && v <= high {
				ticks = append(ticks, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'g', -1, 64)})
			}
		}
	}
	return ticks
}

// ticks returns a tick for each size. Its label has k for thousands and M for millions.
func (p panel) ticks() (ticks plot.ConstantTicks) {
	for _, size := range p.sizes {
		n, unit := p.value(size), ""
		for _, next := range []string{"k", "M"} {
			if n >= 1000 && n%1000 == 0 {
				n, unit = n/1000, next
			}
		}
		ticks = append(ticks, plot.Tick{Value: float64(p.value(size)), Label: strconv.Itoa(n) + unit})
	}
	return ticks
}

// spreads are the medians that a line connects. The YErrors of a median are its distances to the
// lowest and to the highest round.
type spreads struct {
	plotter.XYs
	plotter.YErrors
}

func (p panel) points(r report.Router) (s spreads) {
	for _, size := range p.sizes {
		at := r.At(size, p.what)
		if at.N == 0 {
			continue
		}
		s.XYs = append(s.XYs, plotter.XY{X: float64(p.value(size)), Y: at.Median})
		s.YErrors = append(s.YErrors, struct{ Low, High float64 }{at.Median - at.Min, at.Max - at.Median})
	}
	return s
}

// style is the look of the line of a router.
type style struct {
	color  color.Color
	dashes []vg.Length
	width  vg.Length
}

func (s style) apply(line *plotter.Line) {
	line.Color, line.Dashes, line.Width = s.color, s.dashes, s.width
}

// styles returns a style for each router. Routers with the same name have the same color and
// different dashes. The line of our router is thick.
func styles(routers []report.Router) []style {
	colors := make(map[string]int)
	versions := make(map[string]int)
	list := make([]style, len(routers))
	for i, r := range routers {
		if _, ok := colors[r.Name]; !ok {
			colors[r.Name] = len(colors)
		}
		list[i] = style{color: plotutil.Color(colors[r.Name]), dashes: plotutil.Dashes(versions[r.Name]), width: vg.Points(1)}
		if r.Role == "ours" {
			list[i].width = vg.Points(2.5)
		}
		versions[r.Name]++
	}
	return list
}
