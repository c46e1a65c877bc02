package main

import (
	"fmt"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/palette/moreland"
	"gonum.org/v1/plot/plotter"

	"github.com/headgate/headgate/internal/benchmarks/chart"
)

// writeChart writes an SVG file with a row for requests a second, a row for requests in flight, and
// a column for each run. Each panel has a line for each pod. The panels of a row have the same
// scale.
func writeChart(file string, runs []result) error {
	rows := []struct {
		label string
		load  func(point) []float64
	}{{"requests a second", requestsOf}, {"requests in flight", inFlightOf}}
	panels := make([][]*plot.Plot, len(rows))
	for row, r := range rows {
		most := 0.0
		for _, run := range runs {
			p, err := panel(run, r.load)
			if err != nil {
				return err
			}
			if row == 0 {
				p.Title.Text = run.way.name
			}
			if len(panels[row]) == 0 {
				p.Y.Label.Text = r.label
			}
			if row == len(rows)-1 {
				p.X.Label.Text = "seconds"
			}
			most = max(most, p.Y.Max)
			panels[row] = append(panels[row], p)
		}
		for _, p := range panels[row] {
			p.Y.Min, p.Y.Max = 0, most
		}
	}
	return chart.Write(file, panels)
}

// panel draws the load of each pod over time; "load" returns the loads of all pods at one point.
// Lines of pods that started earlier are darker.
func panel(run result, load func(point) []float64) (*plot.Plot, error) {
	p := plot.New()
	p.Add(plotter.NewGrid())
	colors := moreland.ExtendedBlackBody().Palette(len(run.pods) + 2).Colors()
	for i := range run.pods {
		var line plotter.XYs
		for _, at := range run.points {
			if at.at >= run.started[i] {
				line = append(line, plotter.XY{X: at.at.Seconds(), Y: load(at)[i]})
			}
		}
		if _, err := chart.AddLine(p, line, colors[i+1]); err != nil {
			return nil, fmt.Errorf("draw %s: %w", run.pods[i].name, err)
		}
	}
	p.X.Min, p.X.Max = 0, run.took.Round(time.Second).Seconds()
	return p, nil
}
