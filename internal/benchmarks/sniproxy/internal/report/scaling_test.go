package report

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// growth returns a Scaling of three rounds. The figures are those of CPU time for a connection.
func growth() Scaling {
	s := Scaling{
		Run:  Run{Command: "make bench-scaling", Machine: "2 x Abacus", Settings: "3 rounds"},
		Axes: Axes{Cores: []int{1, 2}, Open: []int{100, 8000}, Hosts: []int{10, 1000000}},
	}
	points := func(figures map[Size][]float64) (points []Point) {
		for size, values := range figures {
			for i, v := range values {
				points = append(points, Point{Round: i + 1, Size: size, Figures: map[Metric]float64{ConnCPU: v}})
			}
		}
		return points
	}
	s.Routers = []Router{
		{Name: "nginx", Role: "peer", Version: "1.22", Points: points(map[Size][]float64{
			{1, 100, 10}: {40, 50, 60}, {1, 8000, 10}: {40, 40, 40}, {2, 100, 10}: {40, 50, 60}, {1, 100, 1000000}: {40, 40},
		})},
		{Name: "nginx", Role: "peer", Version: "1.26", Points: append(points(map[Size][]float64{
			{1, 100, 10}: {90, 90, 90}, {2, 8000, 10}: {0, 0, 0},
		}), Point{Round: 1, Size: Size{2, 100, 10}, Problem: "too many open files"})},
		{Name: "snirouter", Role: "ours", Points: points(map[Size][]float64{
			{1, 100, 10}: {20, 30, 30}, {1, 8000, 10}: {50, 60, 50}, {2, 100, 10}: {44, 45, 60}, {2, 8000, 10}: {9, 9, 9}, {1, 100, 1000000}: {20, 20},
		})},
	}
	return s
}

func TestScalingMarkdown(t *testing.T) {
	text := growth().Markdown()
	for _, line := range []string{
		"| CPU µs a connection | 100 open, 10 hosts | 8,000 open, 10 hosts | 2 processors, 100 open, 10 hosts | 2 processors, 8,000 open, 10 hosts |",
		"| CPU µs a connection | 100 open, 10 hosts | 100 open, 1,000,000 hosts |",
		"| nginx 1.22 | 50.0 (40.0–60.0) | 40.0 | 50.0 (40.0–60.0) | - |",
		"| nginx 1.26 | 90.0 | - | - | 0 |",
		"| snirouter | 30.0 (20.0–30.0) | 20.0 |",
		"- nginx 1.26, 2 processors, 100 open, 10 hosts: too many open files",
	} {
		require.Equal(t, 1, strings.Count(text, line+"\n"), "%s\n%s", line, text)
	}
	require.Equal(t, len(growingOpen)+len(growingHosts), strings.Count(text, "| snirouter ÷ best other |"))
}

// The ratios are of the same round: the ratio of the medians may lie outside of them.
func TestVersus(t *testing.T) {
	s := growth()
	for size, want := range map[Size]string{
		{1, 100, 10}:      "**0.50** (0.50–0.60) of nginx 1.22: win",
		{1, 8000, 10}:     "**1.25** (1.25–1.50) of nginx 1.22: loss",
		{2, 100, 10}:      "**1.00** (0.90–1.10) of nginx 1.22: no clear difference",
		{2, 8000, 10}:     "0 in nginx 1.26: loss",
		{1, 100, 1000000}: "**0.50** (0.50–0.50) of nginx 1.22", // too few rounds
		{1, 100, 7}:       "-",
	} {
		require.Equal(t, want, s.versus(size, ConnCPU), size)
	}
	for i := range s.Routers[2].Points {
		s.Routers[2].Points[i].Figures[ConnCPU] = 0
	}
	require.Equal(t, "0 in nginx 1.26", s.versus(Size{2, 8000, 10}, ConnCPU))
	s.Routers = s.Routers[:2]
	require.Equal(t, "-", s.versus(Size{1, 100, 10}, ConnCPU), "without our router")
	s = growth()
	s.Routers = s.Routers[2:]
	require.Equal(t, "-", s.versus(Size{1, 100, 10}, ConnCPU), "without a peer")
	s = growth()
	for i := range s.Routers[2].Points {
		s.Routers[2].Points[i].Round += 3
	}
	require.Equal(t, "-", s.versus(Size{1, 100, 10}, ConnCPU), "no round with both")
}

func TestSizeString(t *testing.T) {
	require.Equal(t, "8,000 open, 10 hosts", Size{1, 8000, 10}.String())
	require.Equal(t, "2 processors, 100 open, 1,000,000 hosts", Size{2, 100, 1000000}.String())
}
