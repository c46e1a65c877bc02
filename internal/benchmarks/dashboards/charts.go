package main

import (
	"context"
	"fmt"
	"math"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"

	"github.com/headgate/headgate/internal/benchmarks/chart"
)

// charts contains, for the file of each dashboard, the titles of the panels that the chart of this
// dashboard shows.
var charts = map[string][]string{
	"edge.json":       {"Requests by status", "Nodes that drain", "Weights from agents"},
	"router.json":     {"Connections by outcome", "Lookups by source", "Calls of the host API"},
	"frontproxy.json": {"Busiest pods", "Pods by state", "Unevenness"},
}

// units contains, for each of Grafana's names of units, the text that a chart shows for it.
var units = map[string]string{"reqps": "requests/s", "cps": "1/s", "percent": "%"}

// scenario changes the systems one after another, so that the charts show these changes.
func (l *lab) scenario(ctx context.Context) error {
	steps := []struct {
		text   string
		change func() error
	}{
		{"only 4 of 6 pods are ready", func() error { return l.writeSlice(4) }},
		{"the host API ends", func() error { return l.hostAPI() }},
		{"node n1 is cordoned", func() error { return l.writeCluster(1, 100) }},
		{"the weight of tracks is 50%", func() error { return l.writeCluster(1, 50) }},
		{"all pods are ready", func() error { return l.writeSlice(pods) }},
		{"node n1 is uncordoned", func() error { return l.writeCluster(0, 50) }},
		{"the host API starts", func() error { return l.startHostAPI(ctx) }},
		{"two more hosts", func() error { return l.writeRoutes(4) }},
	}
	begin := time.Now()
	for _, step := range steps {
		if !sleep(ctx, 10*time.Second) {
			return ctx.Err()
		}
		fmt.Printf("%3.0f s: %s\n", time.Since(begin).Seconds(), step.text)
		if err := step.change(); err != nil {
			return err
		}
	}
	if !sleep(ctx, 15*time.Second) {
		return ctx.Err()
	}
	return nil
}

// drawCharts draws a chart for each dashboard, from the results of the queries of some panels.
func drawCharts(ctx context.Context, p *prometheus, dashboards []dashboard, dir string, begin, end time.Time) error {
	for _, d := range dashboards {
		var row []*plot.Plot
		for _, title := range charts[d.file] {
			drawn, err := d.draw(ctx, p, title, begin, end)
			if err != nil {
				return fmt.Errorf("%s: panel %q: %w", d.file, title, err)
			}
			row = append(row, drawn)
		}
		if err := chart.Write(filepath.Join(dir, strings.TrimSuffix(d.file, ".json")+".svg"), [][]*plot.Plot{row}); err != nil {
			return err
		}
	}
	return nil
}

// draw returns a plot of a panel.
func (d *dashboard) draw(ctx context.Context, prom *prometheus, title string, begin, end time.Time) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text = title, "seconds"
	p.Add(plotter.NewGrid())
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.TextStyle.Font.Size = vg.Points(8)
	lines, most := 0, 0.0
	for _, panel := range d.Panels {
		if panel.Title != title {
			continue
		}
		p.Y.Label.Text = units[panel.FieldConfig.Defaults.Unit]
		for _, target := range panel.Targets {
			expr, err := expand(target.Expr)
			if err != nil {
				return nil, err
			}
			var data struct{ Result []sample }
			if err := prom.get(ctx, "/api/v1/query_range", url.Values{
				"query": {expr}, "step": {"1"},
				"start": {strconv.FormatInt(begin.Unix(), 10)}, "end": {strconv.FormatInt(end.Unix(), 10)},
			}, &data); err != nil {
				return nil, err
			}
			for _, s := range data.Result {
				var points plotter.XYs
				peak := 0.0
				for _, at := range s.Values {
					if v := at.value(); !math.IsNaN(v) {
						points = append(points, plotter.XY{X: at.seconds() - float64(begin.Unix()), Y: v})
						peak = max(peak, v)
					}
				}
				if peak == 0 { // a line of zeros would only add a name to the legend
					continue
				}
				line, err := chart.AddLine(p, points, plotutil.Color(lines))
				if err != nil {
					return nil, err
				}
				p.Legend.Add(legend(target.LegendFormat, s.Metric), line)
				lines++
				most = max(most, peak)
			}
		}
	}
	if lines == 0 {
		return nil, errNoData
	}
	p.X.Min, p.X.Max = 0, end.Sub(begin).Round(time.Second).Seconds()
	p.Y.Min, p.Y.Max = 0, most*(1.1+0.15*float64(lines)) // room for the legend
	return p, nil
}

// legend replaces the names of labels in a legend by the values of these labels.
func legend(format string, labels map[string]string) string {
	return regexp.MustCompile(`\{\{\w+\}\}`).ReplaceAllStringFunc(format, func(name string) string { return labels[strings.Trim(name, "{}")] })
}
