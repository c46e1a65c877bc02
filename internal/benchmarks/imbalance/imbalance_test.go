package main

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSpread(t *testing.T) {
	require.Equal(t, spread{cv: 0, maxMean: 1}, spreadOf([]float64{5, 5, 5}))
	require.Equal(t, spread{cv: 1, maxMean: 2, idle: 1}, spreadOf([]float64{0, 4}))
}

func TestMeansLeaveOutEarlyPoints(t *testing.T) {
	points := []point{{at: 1, requests: []float64{100, 0}}, {at: 2, requests: []float64{1, 2}}, {at: 3, requests: []float64{3, 4}}}
	require.Equal(t, []float64{2, 3}, means(points, 2, requestsOf))
}

func TestPodWorksOnAFewRequestsAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPod(0, netip.AddrPort{})
		start := time.Now()
		for range 2 * concurrency {
			go p.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
		}
		synctest.Wait()
		require.EqualValues(t, 2*concurrency, p.inFlight.Load())
		require.Len(t, p.working, concurrency)
		for p.inFlight.Load() > 0 {
			time.Sleep(time.Millisecond)
		}
		require.EqualValues(t, 2*concurrency, p.requests.Load())
		require.GreaterOrEqual(t, time.Since(start), 2*shortest)
	})
}

func TestSample(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPod(0, netip.AddrPort{})
		ctx, cancel := context.WithTimeout(t.Context(), 3*pointTime+time.Millisecond)
		defer cancel()
		p.inFlight.Store(2)
		go func() {
			for range 100 {
				p.requests.Add(1)
				time.Sleep(10 * time.Millisecond)
			}
		}()
		points := sample(ctx, []*pod{p})
		require.Len(t, points, 3)
		for _, at := range points {
			require.InDelta(t, 100, at.requests[0], 5)
			require.Equal(t, []float64{2}, at.inFlight)
		}
		time.Sleep(time.Second)
	})
}

func TestSlicesNameEveryPod(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, writeSlice(dir, []*pod{newPod(0, netip.MustParseAddrPort("127.0.0.1:1000")), newPod(1, netip.MustParseAddrPort("127.0.0.1:1001"))}))
	data, err := os.ReadFile(filepath.Join(dir, "slices.json"))
	require.NoError(t, err)
	var list struct {
		Items []struct{ Ports []struct{ Port int } }
	}
	require.NoError(t, json.Unmarshal(data, &list))
	require.Len(t, list.Items, 2)
	require.Equal(t, 1001, list.Items[1].Ports[0].Port)
}

func TestChartIsAPicture(t *testing.T) {
	file := filepath.Join(t.TempDir(), "chart.svg")
	r := result{
		way: way{name: "a way"}, pods: []*pod{newPod(0, netip.AddrPort{}), newPod(1, netip.AddrPort{})}, started: []time.Duration{0, time.Second}, took: 2 * time.Second,
		points: []point{{at: 0, requests: []float64{1, 0}, inFlight: []float64{1, 0}}, {at: time.Second, requests: []float64{2, 1}, inFlight: []float64{1, 1}}},
	}
	require.NoError(t, writeChart(file, []result{r, r}))
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(data), "a way")
	for d := xml.NewDecoder(strings.NewReader(string(data))); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else {
			require.NoError(t, err)
		}
	}
}
