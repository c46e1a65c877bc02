// Package chart draws plots to SVG files.
package chart

import (
	"bytes"
	"fmt"
	"image/color"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Write draws rows of plots to an SVG file. All rows have the same number of plots. A plot is 8 cm
// wide and 6 cm high.
func Write(file string, plots [][]*plot.Plot) error {
	rows, cols := len(plots), len(plots[0])
	width, height := vg.Length(cols)*8*vg.Centimeter, vg.Length(rows)*6*vg.Centimeter
	canvas := vgsvg.New(width, height)
	dc := draw.New(canvas)
	dc.FillPolygon(color.White, []vg.Point{{}, {X: width}, {X: width, Y: height}, {Y: height}})
	tiles := draw.Tiles{Rows: rows, Cols: cols, PadX: vg.Points(12), PadY: vg.Points(12), PadTop: vg.Points(8), PadBottom: vg.Points(8), PadLeft: vg.Points(8), PadRight: vg.Points(8)}
	for row, canvases := range plot.Align(plots, tiles, dc) {
		for col := range canvases {
			plots[row][col].Draw(canvases[col])
		}
	}
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return fmt.Errorf("draw %s: %w", file, err)
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}

// AddLine adds a line of 1 point width to a plot. If there are no points, AddLine adds nothing and
// returns nil and no error.
func AddLine(p *plot.Plot, points plotter.XYs, c color.Color) (*plotter.Line, error) {
	if len(points) == 0 {
		return nil, nil
	}
	line, err := plotter.NewLine(points)
	if err != nil {
		return nil, err
	}
	line.Color = c
	line.Width = vg.Points(1)
	p.Add(line)
	return line, nil
}
