package hashring

import "math"

// band is a run of nodes with nearly equal weights. The nodes of the group are sorted by weight. A
// band ends where the next band starts.
type band struct {
	from   int     // index of the first node
	weight float64 // the largest weight in the band
}

// A band is a set of nodes with nearly equal weights: the largest weight in a band is at most
// bandWidth times the smallest one. A scan uses one limit for the whole band: the limit for the
// largest weight. So among the nodes of smaller weights, the scan finds up to a sixteenth more
// nodes than necessary.
const bandWidth = 1 + 1.0/16

// weigh computes the fields "bands", "total" and "squares" of the group. Only groups whose nodes
// have different weights need these fields.
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

// bestWeighted does the work of the method "best" for nodes of different weights. The best nodes
// are those with the lowest cost. The cost of a node is a logarithm that depends on its score,
// divided by its weight.
//
// bestWeighted chooses a bound on the cost, and uses only the nodes whose cost is at most this
// bound. On average, these are slightly more than k nodes. All weights of a band are nearly equal.
// So for each band, bestWeighted converts the bound on the cost into a limit on the score. The
// function "scan" then finds the nodes by their scores alone, and bestWeighted computes the
// logarithm only for these few nodes.
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
		// got contains the k nodes with the lowest cost that the function "scan" has found. scan
		// finds all nodes whose cost is not above the bound, and in some bands also nodes whose
		// cost is above it. If the k-th node in got costs more than the bound, a cheaper node may
		// exist that scan did not find. So scan again with the cost of the k-th node as the bound.
		// At least k nodes cost no more than this bound, so the next round is exact.
		last := g.cost(key, int(got[k-1]&g.mask))
		if last <= bound {
			return got[:k]
		}
		bound = last
	}
}

// gatherWeighted returns candidates (see the comment of group), best first. Its scans find every
// node with a cost of at most bound, and some nodes with a higher cost. If all of these nodes fit
// into buf, the result has all of them. Otherwise it has some of them, including the k best.
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

// costBound returns a bound on the cost for gatherWeighted. With this bound, the scans find about
// as many nodes as the argument "want" says. The probability that the cost of a node is below a
// bound is 1-exp(-bound*weight), so the sum of these probabilities over all nodes must equal the
// argument "want". costBound solves this equation approximately, to the second order. A wrong
// estimate makes the selection slower, but not wrong.
func (g *group) costBound(want float64) float64 {
	first := want / g.total
	rest := 1 - first*g.squares/(2*g.total)
	if rest < 0.1 {
		return math.Inf(1)
	}
	return first / rest
}

// The method "limit" converts a bound on the cost into a limit on the score. Each node in the band
// whose cost is at most bound has a score of at most this limit.
//
// The exact limit is the fraction 1-exp(-x) of the range of scores, with x = bound*weight. The
// method uses the fraction x/(1+x/2) instead: it is easier to compute, and never smaller. So no
// node is lost. The method makes the limit a little larger still: by a relative margin because
// costs are rounded, and by an absolute margin because 19 bits of a score do not affect the cost.
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

// toCosts replaces the score in each candidate by the upper bits of the cost of its node for the
// key. The lower bits of a candidate are the index of its node, and stay.
func (g *group) toCosts(c []uint64, key uint64) {
	for j, v := range c {
		i := v & g.mask
		c[j] = math.Float64bits(g.cost(key, int(i)))&^g.mask | i
	}
}
