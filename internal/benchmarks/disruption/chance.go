package main

import "math"

// randomBatch returns the number of random nodes that may be taken away at a time. It is the
// largest number with which, on average, at most 0.01 services lose more nodes than the limit
// allows.
func randomBatch(s setting, limit int) int {
	batch := 1
	for batch < s.nodes && float64(s.services)*(1-atMost(s, batch+1, limit)) <= 0.01 {
		batch++
	}
	return batch
}

// largestWave estimates how many nodes with random services can go away together without exceeding
// the limit for any service. It returns the largest n for which the expected number of sets of n
// nodes that do not exceed the limit is at least e^-5 (0.007). So it is improbable that a larger
// set exists.
func largestWave(s setting, limit int) int {
	for size := s.nodes; size > 1; size-- {
		if logBinomial(s.nodes, size)+float64(s.services)*math.Log(atMost(s, size, limit)) > -5 {
			return size
		}
	}
	return 1
}

// atMost returns the probability that a service has lost at most "limit" of its nodes. The service
// has s.size random nodes of the cluster, and "nodes" nodes of the cluster are away.
func atMost(s setting, nodes, limit int) float64 {
	p := 0.0
	for j := 0; j <= min(limit, nodes, s.size); j++ {
		if s.size-j <= s.nodes-nodes {
			p += math.Exp(logBinomial(nodes, j) + logBinomial(s.nodes-nodes, s.size-j) - logBinomial(s.nodes, s.size))
		}
	}
	return min(p, 1)
}

func logBinomial(n, k int) float64 {
	a, _ := math.Lgamma(float64(n) + 1)
	b, _ := math.Lgamma(float64(k) + 1)
	c, _ := math.Lgamma(float64(n-k) + 1)
	return a - b - c
}
