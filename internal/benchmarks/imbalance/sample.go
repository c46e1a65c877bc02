package main

import (
	"context"
	"math"
	"time"
)

// A point has the load of each pod in one short period. Element i of each slice is the load of pod
// i.
type point struct {
	at       time.Duration // since the start of the load
	requests []float64     // requests a second
	inFlight []float64     // mean number of requests in flight
}

const (
	pointTime  = 250 * time.Millisecond
	sampleTime = 5 * time.Millisecond
)

// sample measures the load of the pods at regular times until ctx ends, and returns one point for
// each time.
func sample(ctx context.Context, pods []*pod) []point {
	var points []point
	start := time.Now()
	ticker := time.NewTicker(sampleTime)
	defer ticker.Stop()
	before := make([]int64, len(pods))
	inFlight := make([]float64, len(pods))
	samples, last := 0, start
	for {
		select {
		case <-ctx.Done():
			return points
		case <-ticker.C:
		}
		for i, p := range pods {
			inFlight[i] += float64(p.inFlight.Load())
		}
		samples++
		now := time.Now()
		took := now.Sub(last)
		if took < pointTime {
			continue
		}
		p := point{at: now.Sub(start), requests: make([]float64, len(pods)), inFlight: make([]float64, len(pods))}
		for i := range pods {
			n := pods[i].requests.Load()
			p.requests[i] = float64(n-before[i]) / took.Seconds()
			p.inFlight[i] = inFlight[i] / float64(samples)
			before[i], inFlight[i] = n, 0
		}
		points = append(points, p)
		samples, last = 0, now
	}
}

// spread describes how evenly a load is spread over pods.
type spread struct {
	cv      float64 // coefficient of variation: standard deviation divided by mean; 0 if all are equal
	maxMean float64 // the largest load divided by the mean
	idle    int     // pods without load
}

// spreadOf returns the spread of the loads. If all loads are 0, the fields cv and maxMean are NaN.
func spreadOf(loads []float64) spread {
	var sum, most float64
	s := spread{}
	for _, l := range loads {
		sum += l
		most = max(most, l)
		if l == 0 {
			s.idle++
		}
	}
	mean := sum / float64(len(loads))
	var squares float64
	for _, l := range loads {
		squares += (l - mean) * (l - mean)
	}
	s.cv = math.Sqrt(squares/float64(len(loads))) / mean
	s.maxMean = most / mean
	return s
}

// means returns the mean load of each pod. It leaves out the points whose time is before the
// argument "from".
func means(points []point, from time.Duration, load func(point) []float64) []float64 {
	var sums []float64
	n := 0
	for _, p := range points {
		if p.at < from {
			continue
		}
		if sums == nil {
			sums = make([]float64, len(load(p)))
		}
		for i, l := range load(p) {
			sums[i] += l
		}
		n++
	}
	for i := range sums {
		sums[i] /= float64(n)
	}
	return sums
}

func requestsOf(p point) []float64 { return p.requests }
func inFlightOf(p point) []float64 { return p.inFlight }
