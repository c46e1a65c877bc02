package unevenness

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Worst returns the smallest load, as a multiple of the mean load, that no pod exceeds with the
// given probability. The probability must be above 0 and below 1.
//
// All connections have the same load. Worst rounds the number of connections, and treats a number
// below 1 as 1. With one pod or none, it returns 1.
func Worst(pods int, connections, probability float64) float64 {
	if pods <= 1 {
		return 1
	}
	c := whole(connections)
	return float64(busiest(pods, c, probability)) * float64(pods) / float64(c)
}

// Idle returns the expected number of pods without a connection.
func Idle(pods int, connections float64) float64 {
	if pods <= 1 {
		return 0
	}
	return float64(pods) * math.Exp(float64(whole(connections))*math.Log1p(-1/float64(pods)))
}

// MaxPods bounds the search of PodsFor: it tries at most MaxPods times as many pods as the service
// has at present.
const MaxPods = 60

// PodsFor returns the smallest number of pods with which the busiest pod has at most the target
// load, a multiple of the present mean, with the given probability. The result is at least the
// present number "pods". PodsFor returns false if the service would need more than MaxPods times as
// many pods; only more connections help then.
func PodsFor(target float64, pods int, connections, probability float64) (int, bool) {
	pods = max(pods, 1)
	c := whole(connections)
	enough := func(n int) bool {
		if n == 1 {
			return target >= 1
		}
		return float64(busiest(n, c, probability))*float64(pods) <= target*float64(c)
	}
	if enough(pods) {
		return pods, true
	}
	low, high := pods, pods*MaxPods // low has too few pods
	if !enough(high) {
		return 0, false
	}
	for high-low > 1 {
		if middle := (low + high) / 2; enough(middle) {
			high = middle
		} else {
			low = middle
		}
	}
	return high, true
}

func whole(connections float64) int { return max(1, int(math.Round(connections))) }

// busiest returns the smallest number for which this is true: with the given probability, no pod
// has more connections than this number.
func busiest(pods, connections int, probability float64) int {
	// The result must hold for all pods at once with the given probability. allowed is the largest
	// probability with which one pod by itself may exceed the result.
	allowed := -math.Expm1(math.Log(probability) / float64(pods))
	n, p := float64(connections), 1/float64(pods)
	// Sum up the probabilities that a pod has exactly k connections, from large k to small k. Begin
	// with the number "top", which is so large that the probability of more connections does not
	// matter. The sum does not begin at k = 0, because the probability of 0 connections may be too
	// small for a float64.
	mean := n * p
	top := min(n, math.Ceil(mean+12*math.Sqrt(mean*(1-p))+60))
	term := math.Exp(logBinomial(n, top) + top*math.Log(p) + (n-top)*math.Log1p(-p))
	exceeded := 0.0 // the probability of k or more
	for k := top; k > 0; k-- {
		if exceeded += term; exceeded > allowed {
			return int(k)
		}
		term *= k / (n - k + 1) * (1 - p) / p
	}
	return 0
}

// logBinomial returns the logarithm of the binomial coefficient of n over k.
func logBinomial(n, k float64) float64 {
	a, _ := math.Lgamma(n + 1)
	b, _ := math.Lgamma(k + 1)
	c, _ := math.Lgamma(n - k + 1)
	return a - b - c
}

// Effective returns the number of connections with equal loads that load the pods as unevenly as
// the connections of a balancer. The connections of a balancer have different loads, because it
// reuses them. Pass the number to Worst, Idle and PodsFor.
//
// A path leads from one balancer to one node. If the threads of a balancer do not share
// connections, each thread counts as a balancer. inFlight is the mean number of requests in flight
// on each path; 0 or less means that each path has one connection.
//
// A balancer prefers the connection that it used last. So connection j of a path carries a request
// with the probability that at least j requests are in flight, for which Effective assumes a
// Poisson distribution.
func Effective(nodes, balancers int, inFlight float64) float64 {
	paths := float64(max(nodes, 0) * max(balancers, 0))
	if inFlight <= 0 {
		return paths
	}
	// weight is the probability that at least j requests are in flight on one path. below is the
	// probability of fewer than j requests.
	sum, squares := 0.0, 0.0
	below, term := 0.0, -inFlight // term is a logarithm, because exp(-inFlight) may be too small
	for j := 1.0; ; j++ {
		below += math.Exp(term)
		term += math.Log(inFlight) - math.Log(j)
		weight := 1 - below
		if weight < 1e-9 {
			break
		}
		sum += weight
		squares += weight * weight
	}
	if squares == 0 {
		return paths
	}
	return paths * sum * sum / squares
}

// Simulate makes a number of trials. In each trial, it sends each connection to a random pod. It
// returns the load of the busiest pod in each trial, as a multiple of the mean, sorted. The same
// seed gives the same loads on every machine.
func Simulate(pods, connections, trials int, seed uint64) []float64 {
	random := rand.New(rand.NewPCG(seed, 0))
	loads := make([]float64, trials)
	counts := make([]int, pods)
	for i := range loads {
		clear(counts)
		for range connections {
			counts[random.IntN(pods)]++
		}
		loads[i] = float64(slices.Max(counts)) * float64(pods) / float64(connections)
	}
	slices.Sort(loads)
	return loads
}
