package report

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSpread(t *testing.T) {
	for name, test := range map[string]struct {
		values []float64
		want   Spread
	}{
		"none": {},
		"one":  {[]float64{4}, Spread{Median: 4, Min: 4, Max: 4, N: 1}},
		"odd":  {[]float64{9, -1, 4}, Spread{Median: 4, Min: -1, Max: 9, N: 3}},
		"even": {[]float64{9, 1, 4, 5}, Spread{Median: 4.5, Min: 1, Max: 9, N: 4}},
	} {
		t.Run(name, func(t *testing.T) {
			before := slices.Clone(test.values)
			require.Equal(t, test.want, SpreadOf(test.values))
			require.Equal(t, before, test.values)
		})
	}
}

func TestQuantile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[99-i] = time.Duration(i + 1)
	}
	for _, test := range []struct {
		name   string
		values []time.Duration
		q      float64
		want   time.Duration
	}{
		{"none", nil, 0.5, 0},
		{"one", []time.Duration{7}, 0.99, 7},
		{"median of two is the lower", []time.Duration{8, 7}, 0.5, 7},
		{"p50", hundred, 0.5, 50},
		{"p99", hundred, 0.99, 99},
		{"p99.5", hundred, 0.995, 100},
		{"least", hundred, 0, 1},
		{"most", hundred, 1, 100},
	} {
		t.Run(test.name, func(t *testing.T) {
			require.Equal(t, test.want, Quantile(slices.Clone(test.values), test.q))
		})
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.001: "0", -0.0001: "0", 0.014: "0.01", 0.996: "1.00", 2: "2.00", 9.87: "9.87", 16.74: "16.7", 99.96: "100.0",
		104.4: "104", 999.4: "999", 4711.5: "4,712", 1234567: "1,234,567", -3.25: "-3.25",
	} {
		require.Equal(t, want, number(v), "%v", v)
	}
	require.Equal(t, "-12,345", group(-12345))
	require.Equal(t, "123", group(123))
}

func comparison() Result {
	r := Result{
		Run:   Run{Command: "make bench-peers", Machine: "2 x Abacus", Settings: "2 rounds"},
		Sizes: Sizes{Base: Size{1, 100, 10}, Idle: Size{1, 2000, 10}, ManyOpen: Size{1, 5000, 10}, ManyHosts: Size{1, 100, 100000}},
	}
	point := func(round int, s Size, figures map[Metric]float64) Point {
		return Point{Round: round, Size: s, Figures: figures}
	}
	r.Routers = []Router{
		{Name: "slow", Role: "peer", Version: "1.2", Points: []Point{
			point(1, r.Base, map[Metric]float64{ConnCPU: 190, BulkCPU: 0.8, RoundTripP50: 30}),
			point(2, r.Base, map[Metric]float64{ConnCPU: 210, BulkCPU: 0.8, RoundTripP50: 30}),
			point(1, r.Idle, map[Metric]float64{IdleRSS: 16, OthersPercent: 2}),
			point(1, r.ManyOpen, map[Metric]float64{IdleRSS: 99, LeftFiles: 5.9, OthersPercent: 30}),
			{Size: r.ManyHosts, Problem: "not ready after 30s"},
			{Round: 2, Size: r.ManyHosts, Problem: "not ready after 31s"},
		}},
		{Name: "quick", Role: "peer", Points: []Point{
			point(1, r.Base, map[Metric]float64{ConnCPU: 100, RoundTripP50: 40}),
			point(1, r.Idle, map[Metric]float64{IdleRSS: 0.001, OthersPercent: 8}),
			point(1, r.ManyOpen, map[Metric]float64{ConnCPU: 5200}),
			point(1, r.ManyHosts, map[Metric]float64{ConnCPU: 120, ConnCount: 12}),
		}},
		{Name: "simple", Role: "baseline", Points: []Point{point(1, r.Base, map[Metric]float64{ConnCPU: 1})}},
		{Name: "mine", Role: "ours", Points: []Point{point(1, r.Base, map[Metric]float64{ConnCPU: 70})}},
	}
	return r
}

func TestBest(t *testing.T) {
	r := comparison()
	best, ok := r.Best(r.Base, ConnCPU)
	require.True(t, ok)
	require.EqualValues(t, 100, best, "of the peers only")
	_, ok = r.Best(r.Base, IdleRSS)
	require.False(t, ok)
}

func TestMarkdown(t *testing.T) {
	text := comparison().Markdown()
	for _, line := range []string{
		"`make bench-peers`",
		"2 x Abacus 2 rounds",
		"| slow 1.2 | 200 (190–210) **2.00** | 0.80 **1.00** | 16.0 | - | 30.0 **1.00** | - | - |",
		"| quick | 100 **1.00** | - | 0 | - | 40.0 **1.33** | - | - |",
		"| simple | 1.00 **0.01** | - | - | - | - | - | - |",
		"| mine | 70.0 **0.70** | - | - | - | - | - | - |",
		"| quick | 100 → 5,200 | 40.0 → - | - → - | 100 → 120 | - → - | - → - |",
		"- slow 1.2, 100 open, 100,000 hosts: not ready after 30s (and in 1 more rounds)",
		"- slow 1.2, 5,000 open, 10 hosts: keeps 5.90 descriptors a connection 2 s after the client has closed it",
		"- the machine was busy: other processes used 8.00 % of the router's processor (median; maximum 30.0 %)",
		"- quick, 100 open, 100,000 hosts: so slow that its figures come from only 12.0 connections a round",
	} {
		require.Equal(t, 1, strings.Count(text, line+"\n"), "%s\n%s", line, text)
	}
	var width int
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "| router") {
			width = strings.Count(line, "|")
		}
		if strings.HasPrefix(line, "|") {
			require.Equal(t, width, strings.Count(line, "|"), line)
		}
	}
}

func TestComplete(t *testing.T) {
	r := comparison()
	require.False(t, r.Complete())
	r.Routers = r.Routers[1:]
	require.True(t, r.Complete())
	require.False(t, Run{}.Complete())
}
