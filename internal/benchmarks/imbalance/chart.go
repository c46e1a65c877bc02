package main

import (
	"bytes"
	"fmt"
	"image/color"
	"os"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/palette/moreland"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// writeChart writes an SVG file with two rows: requests a second, and requests in flight. Each run
// has a column, so each row has one panel for each run. In a panel, each pod has a line. The panels
// of a row have the same scale.
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
	width, height := vg.Length(len(runs))*8*vg.Centimeter, vg.Length(len(rows))*6*vg.Centimeter
	canvas := vgsvg.New(width, height)
	dc := draw.New(canvas)
	dc.FillPolygon(color.White, []vg.Point{{}, {X: width}, {X: width, Y: height}, {Y: height}})
	tiles := draw.Tiles{Rows: len(rows), Cols: len(runs), PadX: vg.Points(12), PadY: vg.Points(12), PadTop: vg.Points(8), PadBottom: vg.Points(8), PadLeft: vg.Points(8), PadRight: vg.Points(8)}
	for row, canvases := range plot.Align(panels, tiles, dc) {
		for col := range canvases {
			panels[row][col].Draw(canvases[col])
		}
	}
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return fmt.Errorf("draw the chart: %w", err)
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}

// panel draws one line for each pod: the load of the pod over time. For one point in time, the
// function load returns the loads of all pods. Lines of pods that started earlier are darker.
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
		if len(line) == 0 {
			continue
		}
		l, err := plotter.NewLine(line)
		if err != nil {
			return nil, fmt.Errorf("draw %s: %w", run.pods[i].name, err)
		}
		l.Color = colors[i+1]
		l.Width = vg.Points(1)
		p.Add(l)
	}
	p.X.Min, p.X.Max = 0, run.took.Round(time.Second).Seconds()
	return p, nil
}
