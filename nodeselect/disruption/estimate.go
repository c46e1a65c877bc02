package disruption

import (
	"fmt"
	"math"
	"slices"
	"sort"
)

// Estimate is an estimate of the number of waves until all candidates have been away once. The
// nodes of one wave are away at the same time.
type Estimate struct {
	// Waves is the number of waves in which a greedy plan replaces all candidates if all subsets
	// stay as they are; the nodes of one wave are away at the same time. Do not follow this plan,
	// because replaced nodes change the subsets. README.md compares estimates with simulated
	// replacements.
	Waves int `json:"waves"`
	// Bound is a lower bound of the number of waves that replace all candidates. It is the
	// first-moment bound: if a hash chooses the subsets at random, the expected number of plans
	// with fewer waves is below e^-5 (0.007). It is no proof for the present subsets.
	Bound int `json:"bound"`
	// Stuck is the number of candidates that are in no wave, because they would exceed a limit even
	// if no other node were away.
	Stuck int `json:"stuck,omitempty"`
}

// String returns the estimate in words.
func (e Estimate) String() string {
	text := fmt.Sprintf("about %d waves; at least %d with high probability (first-moment bound)", e.Waves, e.Bound)
	if e.Stuck > 0 {
		text += fmt.Sprintf("; %d nodes may not go in any wave", e.Stuck)
	}
	return text
}

// Estimate estimates in how many waves all candidates can be replaced, if all nodes of a wave are
// back before the next wave, and no other node is away. steps is the number of steps of simulated
// annealing for each wave; see Wave.
func (s *State) Estimate(candidates []string, steps int) Estimate {
	present := s.allPresent()
	var e Estimate
	var known []int32
	for _, name := range candidates {
		i, ok := s.index[name]
		if !ok {
			e.Waves = 1
			continue
		}
		known = append(known, i)
	}
	slices.Sort(known)
	known = slices.Compact(known)
	var rest []int32
	for _, n := range known {
		switch {
		case len(s.limitsOf.of(n)) == 0:
			e.Waves = 1
		case present.fits([]int32{n}):
			rest = append(rest, n)
		default:
			e.Stuck++
		}
	}
	if len(rest) == 0 {
		e.Bound = e.Waves
		return e
	}
	e.Bound = present.bound(known)
	gone := make([]bool, len(s.names))
	for e.Waves = 0; len(rest) > 0; e.Waves++ {
		for _, n := range present.wave(rest, steps) {
			gone[n] = true
		}
		rest = slices.DeleteFunc(rest, func(n int32) bool { return gone[n] })
	}
	return e
}

// allPresent returns a copy of the State in which no node is away.
func (s *State) allPresent() *State {
	c := *s
	c.limits = slices.Clone(s.limits)
	for l := range c.limits {
		c.limits[l].away = 0
	}
	c.away, c.awayIn, c.awayAll = make([]bool, len(s.names)), make([]int, len(s.zones)), 0
	return &c
}

// bound returns a number of waves: with high probability, no plan that replaces all the nodes has
// fewer. It treats the subset of each service as a random set of nodes; see package hashring.
//
// There are at most t^n / t! partitions of the n nodes into t waves of equal size. Each respects
// all limits with the probability p, the product of the probabilities for all services. If the
// expected number p * t^n / t! of such partitions is far below 1, there is most likely no such
// partition (Markov's inequality). Waves of different sizes respect the limits less often.
func (s *State) bound(nodes []int32) int {
	in := make([]bool, len(s.names))
	for _, n := range nodes {
		in[n] = true
	}
	type size struct{ members, max int }
	services := map[size]int{}
	least, last := 1, int32(-1)
	for l, limit := range s.limits {
		k := size{max: int(limit.max)}
		for _, n := range s.nodesOf.of(int32(l)) {
			if in[n] {
				k.members++
			}
		}
		if k.max == 0 || k.members <= k.max {
			continue
		}
		least = max(least, ceil(k.members, k.max))
		// The limits of one service, for each configuration of the balancers and for each zone, are
		// not independent of each other. So count only one limit of each service, and none of a
		// zone.
		if limit.zone == noZone && limit.service != last {
			services[k]++
			last = limit.service
		}
	}
	zones := map[int32]bool{}
	used := 0
	for _, n := range nodes {
		if len(s.limitsOf.of(n)) > 0 {
			used++
			zones[s.zoneOf[n]] = true
		}
	}
	least = max(least, ceil(used, s.maxAway))
	if s.budget.OneZone {
		least = max(least, len(zones))
	}
	const few = -5
	return least + sort.Search(max(0, len(nodes)-least), func(i int) bool {
		t := least + i
		factorial, _ := math.Lgamma(float64(t) + 1)
		expected := float64(len(nodes))*math.Log(float64(t)) - factorial
		for k, count := range services {
			expected += float64(count) * logChance(len(nodes), t, k.members, k.max)
		}
		return expected > few
	})
}

// ceil returns a/b, rounded up.
func ceil(a, b int) int { return (a-1)/b + 1 }

// logChance returns the logarithm of this probability: if n nodes are divided into t waves of equal
// size, and k of the n nodes are chosen at random, each wave contains at most m of the k nodes.
func logChance(n, t, k, m int) float64 {
	// The probability is the number of sets of k nodes with at most m nodes in each wave, divided
	// by the number of all sets of k nodes. The first number is the coefficient of x^k in the
	// product of a polynomial for each wave: sum_{j<=m} C(size, j) x^j. The coefficients may be too
	// large for a float64, so compute with x*scale in place of x.
	scale := float64(k) / float64(n)
	polynomial := make([]float64, k+1)
	polynomial[0] = 1
	logFactor := -float64(k) * math.Log(scale)
	next := make([]float64, k+1)
	for wave := range t {
		size := n / t
		if wave < n%t {
			size++
		}
		clear(next)
		term := 1.0
		for j := 0; j <= min(m, size, k); j++ {
			for i := range k + 1 - j {
				next[i+j] += polynomial[i] * term
			}
			term *= float64(size-j) / float64(j+1) * scale
		}
		largest := slices.Max(next)
		logFactor += math.Log(largest)
		for i := range next {
			polynomial[i] = next[i] / largest
		}
	}
	if polynomial[k] == 0 {
		return math.Inf(-1)
	}
	return math.Log(polynomial[k]) + logFactor - logBinomial(n, k)
}

func logBinomial(n, k int) float64 {
	a, _ := math.Lgamma(float64(n) + 1)
	b, _ := math.Lgamma(float64(k) + 1)
	c, _ := math.Lgamma(float64(n-k) + 1)
	return a - b - c
}
