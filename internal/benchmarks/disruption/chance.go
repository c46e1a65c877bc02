package main

import "math"

// randomBatch returns the largest number of random nodes that may be taken away at a time. With
// this number, the expected number of services that lose more than "limit" nodes is at most 0.01.
func randomBatch(s setting, limit int) int {
	batch := 1
	for batch < s.nodes && float64(s.services)*(1-atMost(s, batch+1, limit)) <= 0.01 {
		batch++
	}
	return batch
}

// largestWave estimates how many nodes of a cluster with random services can go away together. A
// set of nodes can go if no service loses more than "limit" nodes. largestWave returns the largest
// n with an expected number of such sets of n nodes of at least e^-5 (0.007). So a larger set
// probably does not exist.
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
