package nodeselect

import (
	"math"
	"slices"
)

const (
	// maxNodeWeight is the largest Node.Weight.
	maxNodeWeight = 256
	// weightTolerance is a share of the mean load of all pods. If the load of each pod differs from
	// the mean load by at most this share, weighByPods keeps the present weights.
	weightTolerance = 0.25
)

// weighByPods returns the nodes with weights in proportion to their pods. The sorted list "pods"
// contains the name of a node once for each of its pods. If current contains the same nodes with
// weights that keep the load of each pod within weightTolerance, the nodes keep these weights.
func weighByPods(nodes, current []Node, pods []string) []Node {
	counts := make([]int, len(nodes))
	most := 0
	for i, n := range nodes {
		from, _ := slices.BinarySearch(pods, n.Name)
		for from+counts[i] < len(pods) && pods[from+counts[i]] == n.Name {
			counts[i]++
		}
		most = max(most, counts[i])
	}
	nodes = slices.Clone(nodes) // Pick may return nodes that others use too
	if kept := weightsOf(nodes, current); kept != nil && goodWeights(kept, counts) {
		for i := range nodes {
			nodes[i].Weight = kept[i]
		}
		return nodes
	}
	for i := range nodes {
		nodes[i].Weight = counts[i]
		if most > maxNodeWeight {
			nodes[i].Weight = max(1, (counts[i]*maxNodeWeight+most/2)/most)
		}
	}
	return nodes
}

// weightsOf returns the weight of each node in the list "current". It returns nil if the list
// "current" contains other nodes than the list "nodes", or if a node has no weight. Both lists are
// sorted by name.
func weightsOf(nodes, current []Node) []int {
	if len(nodes) != len(current) {
		return nil
	}
	weights := make([]int, len(nodes))
	for i := range nodes {
		if nodes[i].Identity != current[i].Identity || current[i].Weight < 1 {
			return nil
		}
		weights[i] = current[i].Weight
	}
	return weights
}

// goodWeights reports whether the load of each pod differs from the mean load of all pods by at
// most weightTolerance. weights and pods contain the weight and the number of pods of each node.
// Each node gets requests in proportion to its weight, and spreads them evenly over its pods.
func goodWeights(weights, pods []int) bool {
	weight, all := 0, 0
	for i := range weights {
		weight += weights[i]
		all += pods[i]
	}
	for i := range weights {
		load := float64(weights[i]*all) / float64(weight*pods[i])
		if pods[i] == 0 || math.Abs(load-1) > weightTolerance {
			return false
		}
	}
	return true
}
