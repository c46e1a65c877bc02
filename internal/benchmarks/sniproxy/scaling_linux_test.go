package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/peer"
	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/report"
	"github.com/stretchr/testify/require"
)

// TestScaling measures at growing sizes with the router that needs no installation, and writes a
// page from the figures.
func TestScaling(t *testing.T) {
	dir := t.TempDir()
	file, page := filepath.Join(dir, "scaling.json"), filepath.Join(dir, "README.md")
	require.NoError(t, os.WriteFile(page, []byte("# Figures\n"+firstMark+"old\n"+lastMark+"## Other\n"), 0o600))
	args := []string{"-scaling", "-peers=plain", "-rounds=2", "-connections=200", "-json=" + file, "-page=" + page}
	var out strings.Builder
	require.NoError(t, printScaling(t.Context(), smoke(t, args...), &out, t.Output()))

	result, err := readScaling(file)
	require.NoError(t, err)
	cores, err := peer.Cores()
	require.NoError(t, err)
	require.Equal(t, report.Axes{Cores: upTo(min(2, len(cores)), 1), Open: []int{20, 200}, Hosts: []int{4, 20}}, result.Axes)
	require.Len(t, result.Routers, 1)
	plain := result.Routers[0]
	require.Len(t, plain.Points, 2*(2*len(result.Cores)+1))
	for _, p := range plain.Points {
		require.Empty(t, p.Problem)
		require.Greater(t, p.Figures[report.ConnCPU], 1.0)
		require.Positive(t, p.Figures[report.Ready])
	}
	for _, c := range result.Cores {
		for _, size := range result.OpenSizes(c) {
			require.Equal(t, 2, plain.At(size, report.IdleCPU).N)
			require.Equal(t, 2, plain.At(size, report.RoundTripCPU).N)
		}
	}

	text, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Equal(t, "# Figures\n"+firstMark+figuresOf(result)+lastMark+"## Other\n", string(text))
	require.Equal(t, result.Markdown(), out.String())
	require.FileExists(t, filepath.Join(dir, scalingChart))

	// The same page comes from the file of figures alone.
	require.NoError(t, printScaling(t.Context(), settings{from: file, page: page}, io.Discard, t.Output()))
	again, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Equal(t, string(text), string(again))
}

// noFigures is the text between the marks of the page before the first run.
const noFigures = "This page has no figures of `make bench-scaling`.\n"

// TestScalingPage: the page has the figures of scaling.json, or says that it has none.
func TestScalingPage(t *testing.T) {
	page, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	figures := noFigures
	result, err := readScaling("../scaling.json")
	if !errors.Is(err, os.ErrNotExist) {
		require.NoError(t, err)
		figures = figuresOf(result)
		require.FileExists(t, "../"+scalingChart)
	}
	want, err := insertFigures(string(page), figures)
	require.NoError(t, err)
	require.Equal(t, want, string(page), "go run ./sniproxy -scaling -from scaling.json -page README.md")
}

// TestReadScaling: a file that no run with -scaling has written is an error.
func TestReadScaling(t *testing.T) {
	file := filepath.Join(t.TempDir(), "result.json")
	for _, text := range []string{"", "{}", `{"base": {"cores": 1, "open": 100, "hosts": 10}, "routers": []}`, `{"cores": [1], "open": [100], "hosts": [10]}`} {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		_, err := readScaling(file)
		require.ErrorContains(t, err, file+": ", text)
	}
}

func TestInsertFigures(t *testing.T) {
	got, err := insertFigures("a\n"+firstMark+"old\n"+lastMark+"b\n", "new\n")
	require.NoError(t, err)
	require.Equal(t, "a\n"+firstMark+"new\n"+lastMark+"b\n", got)
	for _, page := range []string{"", firstMark, lastMark, lastMark + firstMark} {
		_, err := insertFigures(page, "new\n")
		require.ErrorContains(t, err, "no comments", page)
	}
}

// TestDrawScaling draws a result in which figures are missing.
func TestDrawScaling(t *testing.T) {
	s := report.Scaling{Axes: report.Axes{Cores: []int{1, 2}, Open: []int{100, 1000}, Hosts: []int{10, 1000}}}
	for _, r := range []report.Router{{Name: "nginx", Version: "1.22"}, {Name: "nginx", Version: "1.26"}, {Name: "no figures"}, {Name: "snirouter", Role: "ours"}} {
		for _, size := range append(s.OpenSizes(1), s.HostSizes()[1:]...) {
			if r.Name != "no figures" {
				r.Points = append(r.Points, report.Point{Size: size, Figures: map[report.Metric]float64{report.ConnCPU: 40, report.IdleRSS: -1, report.Ready: 5, report.Memory: 9}})
			}
		}
		s.Routers = append(s.Routers, r)
	}
	file := filepath.Join(t.TempDir(), scalingChart)
	require.NoError(t, drawScaling(file, s))
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, xml.Unmarshal(data, new(struct{})))
	for text, n := range map[string]int{"nginx 1.22": 1, "nginx 1.26": 1, "snirouter": 1, "no figures": 1, "NaN": 0, "known hosts": 3, "memory MiB": 1, "2 processors": 1, ">1k<": 7} {
		require.Equal(t, n, strings.Count(string(data), text), text)
	}

	look := styles(s.Routers)
	require.Equal(t, look[0].color, look[1].color)
	require.NotEqual(t, look[0].dashes, look[1].dashes)
	require.NotEqual(t, look[1].color, look[3].color)
	require.Greater(t, look[3].width, look[0].width)
}

func TestTicksOfDecades(t *testing.T) {
	var labels []string
	for _, tick := range ticksOfDecades(0.3, 25) {
		labels = append(labels, tick.Label)
	}
	require.Equal(t, []string{"0.5", "1", "2", "5", "10", "20"}, labels)
}

func TestScalingSettings(t *testing.T) {
	s, err := parse([]string{"-scaling"}, t.Output())
	require.NoError(t, err)
	require.Equal(t, scalingPeers, s.peers)
	require.Equal(t, report.Axes{Cores: []int{1, 2}, Open: []int{100, 1000, 8000}, Hosts: []int{10, 1000, 100_000, 1_000_000}}, s.axes(8))
	require.Equal(t, []int{1}, s.axes(1).Cores)
	require.Less(t, s.limit, 12*time.Minute)

	s, err = parse([]string{"-scaling", "-quick", "-rounds=2"}, t.Output())
	require.NoError(t, err)
	require.Equal(t, report.Axes{Cores: []int{1, 2}, Open: []int{100, 1000}, Hosts: []int{10, 1000, 10_000}}, s.axes(2))
	require.NotContains(t, s.peers, slowPeer)
	require.Len(t, s.peers, len(scalingPeers)-1)
	require.Equal(t, 2, s.rounds)
	require.Equal(t, time.Minute, s.limit)

	require.Equal(t, report.Size{Cores: 2, Open: 1000, Hosts: 10_000}, largestSize(growing(s.axes(2))))
}

func TestRouterCores(t *testing.T) {
	for _, test := range []struct {
		cores        []int
		router, load int
		want         []int
	}{
		{[]int{0, 1}, 0, 1, []int{0, 1}},
		{[]int{0, 1}, 1, 0, []int{1, 0}},
		{[]int{0, 1, 2, 3}, 0, 1, []int{0, 2, 3, 1}},
		{[]int{5}, 5, 5, []int{5}},
	} {
		require.Equal(t, test.want, routerCores(test.cores, test.router, test.load))
	}
}

func TestFetched(t *testing.T) {
	t.Setenv("HAPROXY_DIR", "/h")
	t.Setenv("NGINX_DIR", "")
	t.Setenv("HOME", "/home/me")
	for name, want := range map[string]string{
		"haproxy": "/h/suites/trixie/haproxy",
		"nginx":   "/home/me/.cache/headgate/nginx/trixie/nginx",
	} {
		path, err := fetched(name, "trixie")
		require.NoError(t, err)
		require.Equal(t, want, path)
		path, err = fetched(name, "")
		require.NoError(t, err)
		require.Empty(t, path)
	}
}

func TestRoundFits(t *testing.T) {
	require.True(t, roundFits(0, 0), "the first round begins in any case")
	require.True(t, roundFits(125, 100))
	require.False(t, roundFits(124, 100))
}

func TestWithoutLaterRounds(t *testing.T) {
	routers := []report.Router{{Points: []report.Point{{Round: 1}, {Round: 2}, {Round: 3}}}, {Points: []report.Point{{Round: 1}, {Round: 2}}}}
	want := []report.Point{{Round: 1}, {Round: 2}}
	for _, r := range withoutLaterRounds(routers, 2) {
		require.Equal(t, want, r.Points)
	}
}

// A router has no figures at a size for which it is not made.
func TestUnfitRouter(t *testing.T) {
	b := &bench{}
	_, err := b.start(t.Context(), peer.SNIProxy("/nonexistent", ""), report.Size{Cores: 2, Open: 1, Hosts: 1})
	require.ErrorIs(t, err, errOneThread)
	_, err = b.start(t.Context(), peer.Traefik("/nonexistent", ""), report.Size{Cores: 1, Open: 1, Hosts: 20_001})
	require.ErrorIs(t, err, errTooManyHosts)
}
