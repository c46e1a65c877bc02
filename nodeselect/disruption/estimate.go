package disruption

import (
	"fmt"
	"math"
	"slices"
	"sort"
)

// Estimate says about how many waves it takes until all candidates have gone and returned.
type Estimate struct {
	// Waves is the number of waves of a greedy plan in which all subsets stay as they are. It is an
	// estimate and no plan: replaced nodes change the subsets, and then the waves of the plan are no
	// longer safe. The true number is usually a few percent larger.
	Waves int `json:"waves"`
	// Bound is the first-moment bound: with high probability, no plan has fewer waves. The
	// probability is over the hash that has chosen the subsets, so Bound is no proof for the present
	// subsets. The expected number of plans with fewer waves is below e^-5 = 0.7%.
	Bound int `json:"bound"`
	// Stuck is the number of candidates that may never go, even if no other node is away.
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

// Estimate estimates the number of waves for the candidates, if each wave is back before the next
// one goes, and no other node is away. So it ignores which nodes are away now. If candidates is nil,
// all nodes are candidates. steps is the number of steps of simulated annealing for each wave, see
// Wave.
func (s *State) Estimate(candidates []string, steps int) Estimate {
	if candidates == nil {
		candidates = s.names
	}
	present := s.allPresent()
	var e Estimate
	var rest []int32
	for _, name := range candidates {
		i, ok := s.index[name]
		switch {
		case !ok, len(s.limitsOf.of(i)) == 0:
			e.Waves, e.Bound = 1, 1
		default:
			rest = append(rest, i)
		}
	}
	slices.Sort(rest)
	rest = slices.Compact(rest)
	free := slices.DeleteFunc(slices.Clone(rest), func(n int32) bool { return !present.fits([]int32{n}) })
	e.Stuck = len(rest) - len(free)
	if len(free) == 0 {
		return e
	}
	e.Bound = max(present.bound(free), 1)
	waves := 0
	for gone := make([]bool, len(s.names)); len(free) > 0; waves++ {
		for _, n := range present.wave(free, steps) {
			gone[n] = true
		}
		free = slices.DeleteFunc(free, func(n int32) bool { return gone[n] })
	}
	e.Waves = max(waves, 1)
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

// bound returns a number of waves that is a lower bound with high probability. It takes the subset
// of each service for a random set of as many nodes, which it nearly is: see package hashring.
//
// Count the partitions of the n nodes into t waves of equal size that respect all limits. There are
// at most t^n / t! partitions, and each is allowed with the probability p, the product of the
// probabilities for all services. If the expected number p t^n / t! is far below 1, then by Markov's
// inequality there is most likely no such partition. Waves of different sizes are allowed less often.
func (s *State) bound(nodes []int32) int {
	in := make([]bool, len(s.names))
	for _, n := range nodes {
		in[n] = true
	}
	type kind struct{ members, max int }
	count := map[kind]int{}
	least := 1
	for l := range s.limits {
		k := kind{max: int(s.limits[l].max)}
		for _, n := range s.nodesOf.of(int32(l)) {
			if in[n] {
				k.members++
			}
		}
		if k.members > k.max {
			least = max(least, (k.members+k.max-1)/k.max)
			if s.limits[l].zone == noZone { // zones are not random
				count[k]++
			}
		}
	}
	n := len(nodes)
	if s.maxAway < n {
		least = max(least, (n+s.maxAway-1)/s.maxAway)
	}
	const few = -5
	possible := func(t int) bool {
		factorial, _ := math.Lgamma(float64(t) + 1)
		expected := float64(n)*math.Log(float64(t)) - factorial
		for k, services := range count {
			expected += float64(services) * logChance(n, t, k.members, k.max)
		}
		return expected > few
	}
	return least + sort.Search(n-least, func(i int) bool { return possible(least + i) })
}

// logChance returns the logarithm of the probability that a random set of k of n nodes has at most m
// nodes in each of t waves of equal size.
func logChance(n, t, k, m int) float64 {
	// The number of such sets is the coefficient of x^k in the product over all waves of
	// sum_{j<=m} C(size, j) x^j. Replacing x by x*scale keeps the coefficients in the range of a
	// float64.
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
