package hashring

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// chiSquare returns the chi-square statistic of the counts, compared with the shares that the
// weights predict.
func chiSquare(counts []int, weights []float64) float64 {
	var total, sum, x float64
	for i := range counts {
		total += float64(counts[i])
		sum += weights[i]
	}
	for i := range counts {
		expected := total * weights[i] / sum
		x += (float64(counts[i]) - expected) * (float64(counts[i]) - expected) / expected
	}
	return x
}

// TestShares picks one node for each of many keys. The shares must be proportional to the weights.
// The bounds are the 99.9th percentiles of chi-square: for 1 of 1,000 sets of names, a random draw
// exceeds them. The names in this test are fixed.
func TestShares(t *testing.T) {
	for _, test := range []struct {
		name    string
		weights []float64
		bound   float64
	}{
		{"equal", []float64{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 27.9},
		{"one to ten", []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 27.9},
		{"halves", []float64{0.5, 1, 1.5}, 13.8},
		{"far apart", []float64{1, 1000}, 10.8},
		{"bounds", []float64{1e6, 1e6, 1e-6}, 13.8},
		{"two kinds", []float64{1, 1, 1, 1, 1, 4, 4, 4, 4, 4}, 27.9},
	} {
		t.Run(test.name, func(t *testing.T) {
			nodes := numbered(len(test.weights))
			index := map[string]int{}
			for i, w := range test.weights {
				nodes[i].Weight = w
				index[nodes[i].Name] = i
			}
			r := mustNew(t, nodes...)
			counts := make([]int, len(nodes))
			for i := range 15_000 {
				counts[index[r.Top(serviceName(0, i), 1)[0].Name]]++
			}
			x := chiSquare(counts, test.weights)
			t.Logf("%v: chi-square %.2f", counts, x)
			require.Less(t, x, test.bound)
		})
	}
}

// TestSharesOfSubsets compares subsets of 20 of 1,000 nodes with theory. The nodes have two
// different weights. In theory, each node is a Poisson process whose rate is its weight, and the
// subset contains the nodes of the first 20 processes that have an event. If this takes the time t,
// the subset contains the share 1-exp(-t*weight) of the nodes of each weight. The test computes the
// t for which the sum over both weights is 20 nodes.
func TestSharesOfSubsets(t *testing.T) {
	nodes := numbered(1000)
	for i := range nodes {
		nodes[i].Weight = 1 + 2*float64(i%2)
	}
	in := func(t float64) (light, heavy float64) { return 500 * -math.Expm1(-t), 500 * -math.Expm1(-3*t) }
	low, high := 0.0, 1.0
	for range 60 {
		mid := (low + high) / 2
		if light, heavy := in(mid); light+heavy < 20 {
			low = mid
		} else {
			high = mid
		}
	}
	_, want := in(low)
	r := mustNew(t, nodes...)
	heavy := 0
	for i := range fleetServices {
		for _, n := range r.Top(serviceName(0, i), 20) {
			if n.Weight == 3 {
				heavy++
			}
		}
	}
	got := float64(heavy) / fleetServices
	t.Logf("nodes of weight 3 in a subset: %.3f, in theory %.3f", got, want)
	// The standard deviation of one draw is about sqrt(20*0.75*0.25) = 1.94.
	require.InDelta(t, want, got, 4*1.94/math.Sqrt(fleetServices))
}

func TestEqualWeightsPlayNoPart(t *testing.T) {
	plain := mustNew(t, numbered(500)...)
	for _, w := range []float64{1, 2, 0.3, 1e-6, 1e6} {
		nodes := numbered(500)
		for i := range nodes {
			nodes[i].Weight = w
		}
		r := mustNew(t, nodes...)
		for i := range 200 {
			require.Equal(t, names(plain.Top(serviceName(0, i), 20)), names(r.Top(serviceName(0, i), 20)), "weight %v", w)
		}
	}
}

func TestOnlyRatiosOfWeightsMatter(t *testing.T) {
	scaled := func(factor float64) *Ring {
		nodes := numbered(300)
		for i := range nodes {
			nodes[i].Weight = factor * float64(1+i%9)
		}
		return mustNew(t, nodes...)
	}
	one := scaled(1)
	for _, factor := range []float64{1.0 / 64, 2, 3, 10, 1e4} {
		r := scaled(factor)
		for i := range 50 {
			key := serviceName(0, i)
			require.Equal(t, names(one.Top(key, 300)), names(r.Top(key, 300)), "factor %v", factor)
		}
	}
}

// TestWeightMovesOneNode changes the weight of one node. The other nodes must keep their order.
// Before the change, all weights are equal, so the ring compares scores. After the change, it
// compares costs.
func TestWeightMovesOneNode(t *testing.T) {
	nodes := numbered(400)
	before := mustNew(t, nodes...)
	ranks := func(r *Ring, key string) (others []string, rank int) {
		for n := range r.Ranked(key) {
			if n.Name == "node-7" {
				rank = len(others)
			} else {
				others = append(others, n.Name)
			}
		}
		return others, rank
	}
	for _, w := range []float64{1e-6, 0.01, 0.999, 1.001, 2, 50, 1e6} {
		nodes[7].Weight = w
		after := mustNew(t, nodes...)
		for i := range 20 {
			key := serviceName(0, i)
			was, from := ranks(before, key)
			is, to := ranks(after, key)
			require.Equal(t, was, is, "weight %v moved other nodes", w)
			if w > 1 {
				require.LessOrEqual(t, to, from, "weight %v", w)
			} else {
				require.GreaterOrEqual(t, to, from, "weight %v", w)
			}
		}
	}
}

// testScores returns scores at which the computation of the logarithm changes, and random ones.
func testScores() []uint64 {
	scores := []uint64{0, 1, 1<<19 - 1, 1 << 19, 1<<64 - 1, 1<<64 - 1<<19, 1<<63 - 1, 1 << 63}
	for i := range 64 {
		scores = append(scores, 1<<i, -(uint64(1) << i), 1<<i|1<<i>>1)
	}
	for e := 1; e <= 40; e++ { // at 1-u = sqrt(2)/2^e the exponent changes
		u := 1 - math.Sqrt2/math.Exp2(float64(e))
		scores = append(scores, uint64(u*(1<<53))<<11)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		scores = append(scores, rng.Uint64(), rng.Uint64()>>rng.IntN(44))
	}
	return scores
}

// TestExponentialIsAccurate compares the logarithm with a logarithm of 160 bits. Values for
// adjacent q differ by at least 2^-44 relative to their size, because -y*ln(y) is at most 1/e. So
// an error below 2^-51 never changes their order.
func TestExponentialIsAccurate(t *testing.T) {
	for _, s := range testScores() {
		got := new(big.Float).SetPrec(160).SetFloat64(exponential(s))
		want := referenceExponential(s)
		if want.Sign() == 0 {
			require.Zero(t, got.Sign(), "score %#x", s)
			continue
		}
		diff := got.Sub(got, want)
		relative, _ := diff.Quo(diff, want).Float64()
		require.Less(t, math.Abs(relative), math.Exp2(-51), "score %#x", s)
	}
}

// TestExponentialGrows checks that the logarithm grows from each score to the next, around all test
// scores.
func TestExponentialGrows(t *testing.T) {
	const step = 1 << costShift
	for _, s := range testScores() {
		s &^= step - 1
		require.Equal(t, exponential(s), exponential(s|(step-1)), "lower bits must not matter")
		from := max(s, 64*step) - 64*step
		for i := range uint64(128) {
			if a, b := from+i*step, from+(i+1)*step; a < b {
				require.Less(t, exponential(a), exponential(b), "score %#x", a)
			}
		}
	}
}

// TestOrderIsOne checks that nodes of the same weight have the same order by score and by cost. It
// uses a ring of different weights, the whole ring and each zone.
func TestOrderIsOne(t *testing.T) {
	var mixed []Node
	for i := range 300 {
		mixed = append(mixed, Node{Name: fmt.Sprintf("node-%d", i), Weight: float64(1 + i%3), Zone: fmt.Sprint(i % 3)})
	}
	ring := mustNew(t, mixed...)
	for weight := range 3 {
		same := slices.DeleteFunc(slices.Clone(mixed), func(n Node) bool { return n.Weight != float64(1+weight) })
		uniform := mustNew(t, same...)
		for i := range 100 {
			key := serviceName(0, i)
			all := slices.DeleteFunc(ring.Top(key, 300), func(n Node) bool { return n.Weight != float64(1+weight) })
			require.Equal(t, uniform.Top(key, 300), all)
			zone := slices.DeleteFunc(ring.Spread(key, 300), func(n Node) bool { return n.Zone != fmt.Sprint(weight) })
			require.Equal(t, all, zone)
		}
	}
}
