package report

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPairedMarkdown(t *testing.T) {
	size := Size{1, 100, 10}
	router := func(name, role string, values ...float64) Router {
		r := Router{Name: name, Role: role}
		for i, v := range values {
			r.Points = append(r.Points, Point{Round: i + 1, Size: size, Figures: map[Metric]float64{ConnCPU: v}})
		}
		return r
	}
	text := Paired{Size: size, Run: Run{Command: "make bench-peers", Routers: []Router{
		router("nginx", "peer", 40, 80, 60, 100),
		router("snirouter", "ours", 30, 80, 90, 50),
		{Name: "HAProxy", Role: "peer", Points: []Point{{Round: 1, Size: size, Problem: "ended"}}},
	}}}.Markdown()
	// The ratios of the rounds are 0.75, 1, 1.5 and 0.5.
	require.Contains(t, text, "| nginx | 70.0 (40.0–80.0) | 0.88 (0.50–1.00) | - | - | - | - |\n")
	require.Contains(t, text, "| snirouter | 65.0 (30.0–80.0) | 1 | - | 1 | - | 1 |\n")
	require.Contains(t, text, "| HAProxy | - | - | - | - | - | - |\n")
	require.Contains(t, text, "- HAProxy, 100 open, 10 hosts: ended\n")
}
