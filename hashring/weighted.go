package hashring

import "math"

// band is a run of nodes whose weights are nearly equal. It ends where the next
// one starts.
type band struct {
	from   int
	weight float64 // the largest
}

// bandWidth is how far weights in a band may differ. A band is scanned with the
// limit of its largest weight, so this is the share of nodes admitted in vain.
const bandWidth = 1 + 1.0/16

// weigh computes what selection by several weights needs.
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

// bestWeighted is best for nodes of several weights. It admits a node if its cost
// can be within the bound at which rather more than k nodes are expected. Within
// a band that is again a limit on the score, so scan serves here too, and the
// logarithm is computed for the few nodes admitted.
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
		// Limits let in some nodes beyond the bound, more of one band than of
		// another. Such a node proves nothing about those that were left out, but
		// its cost is a bound that k nodes are known to keep.
		last := g.cost(key, int(got[k-1]&g.mask))
		if last <= bound {
			return got[:k]
		}
		bound = last
	}
}

// gatherWeighted returns, in order, all nodes that cost no more than bound and
// some that cost more, or those of them that the best k are among.
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

// costBound estimates the cost below which want nodes lie: the sum of
// 1-exp(-bound*weight) over all nodes, to its second order. It serves speed
// alone and need not be exact.
func (g *group) costBound(want float64) float64 {
	first := want / g.total
	rest := 1 - first*g.squares/(2*g.total)
	if rest < 0.1 {
		return math.Inf(1)
	}
	return first / rest
}

// limit returns a score that no node of the band exceeds whose cost is at most
// bound. With x = bound*weight the exact limit is 1-exp(-x), and x/(1+x/2) is
// never less. The margins cover what the rounding of costs (relative) and the
// bits that they ignore (absolute) can hide.
func (b band) limit(bound float64) uint64 {
	x := bound * b.weight * (1 + 1.0/(1<<40))
	if x > 2 { // also keeps infinity out of the division
		return math.MaxUint64
	}
	return quantile(x/(1+x/2) + 1.0/(1<<(costBits-1)))
}

func (g *group) cost(key uint64, i int) float64 {
	return exponential(score(key, g.digests[i])) / g.nodes[i].weight()
}

// toCosts turns candidates by score into candidates by cost.
func (g *group) toCosts(c []uint64, key uint64) {
	for j, v := range c {
		i := v & g.mask
		c[j] = math.Float64bits(g.cost(key, int(i)))&^g.mask | i
	}
}
