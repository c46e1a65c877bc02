package hashring

import "math"

// band is a run of nodes with nearly equal weights, in a group sorted by weight. It ends where the
// next band starts.
type band struct {
	from   int     // index of the first node
	weight float64 // largest weight
}

// bandWidth is the largest ratio of two weights in a band. A scan of a band uses the limit of the
// largest weight, so it admits up to this share of nodes in vain.
const bandWidth = 1 + 1.0/16

// weigh computes the bands and sums of a group with different weights.
func (g *group) weigh() {
	least := 0.0
	for i, n := range g.nodes {
		w := n.weight()
		g.total += w
		g.squares += w * w
		if len(g.bands) == 0 || w > least*bandWidth {
			g.bands = append(g.bands, band{from: i})
			least = w
		}
		g.bands[len(g.bands)-1].weight = w
	}
}

// bestWeighted is best for nodes of different weights. It admits nodes whose cost can be up to a
// bound that slightly more than k nodes are expected to meet. Within a band, a bound on the cost is
// a limit on the score, so scan serves here too. bestWeighted computes the logarithm only for the
// few admitted nodes.
func (g *group) bestWeighted(buf []uint64, key uint64, k int) []uint64 {
	want := wanted(k)
	bound := g.costBound(want)
	for {
		got := g.gatherWeighted(buf, key, k, bound)
		if len(got) < k {
			want *= 4
			bound = g.costBound(want)
			continue
		}
		// The limits admit some nodes beyond the bound, in some bands more than in others. If such a
		// node is among the k best, a node that was not admitted may be better. But its cost is a
		// bound that k nodes meet, so a second round with it is exact.
		last := g.cost(key, int(got[k-1]&g.mask))
		if last <= bound {
			return got[:k]
		}
		bound = last
	}
}

// gatherWeighted returns candidates in order: all nodes with a cost up to bound and some with a
// higher cost or, if there are more than fit into buf, at least the best k of them.
func (g *group) gatherWeighted(buf []uint64, key uint64, k int, bound float64) []uint64 {
	n, done, left := 0, 0, len(g.digests)
	for b := len(g.bands) - 1; b >= 0; {
		band := g.bands[b]
		n, left = scan(g.digests, band.from, left, key, band.limit(bound), g.mask, buf, n)
		if left == band.from {
			b--
			continue
		}
		g.toCosts(buf[done:n], key)
		g.order(buf[:n], key)
		n, done = k, k
		bound = min(bound, g.cost(key, int(buf[k-1]&g.mask)))
	}
	g.toCosts(buf[done:n], key)
	g.order(buf[:n], key)
	return buf[:n]
}

// costBound estimates the cost that want nodes are expected to be below. It solves
// want = sum of 1-exp(-bound*weight) over all nodes, to the second order. The estimate affects only
// speed and need not be exact.
func (g *group) costBound(want float64) float64 {
	first := want / g.total
	rest := 1 - first*g.squares/(2*g.total)
	if rest < 0.1 {
		return math.Inf(1)
	}
	return first / rest
}

// limit returns an upper bound for the score of every node in the band whose cost is at most bound.
// With x = bound*weight the exact limit is 1-exp(-x), and x/(1+x/2) is never less. One margin covers
// the rounding of costs (relative), the other covers the bits that costs ignore (absolute).
func (b band) limit(bound float64) uint64 {
	x := bound * b.weight * (1 + 1.0/(1<<40))
	if x > 2 { // includes +Inf, which the division below cannot handle
		return math.MaxUint64
	}
	return quantile(x/(1+x/2) + 1.0/(1<<(costBits-1)))
}

func (g *group) cost(key uint64, i int) float64 {
	return exponential(score(key, g.digests[i])) / g.nodes[i].weight()
}

// toCosts replaces the scores in candidates by the bits of the costs.
func (g *group) toCosts(c []uint64, key uint64) {
	for j, v := range c {
		i := v & g.mask
		c[j] = math.Float64bits(g.cost(key, int(i)))&^g.mask | i
	}
}
