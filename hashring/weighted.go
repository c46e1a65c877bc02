package hashring

import "math"

// band is a run of nodes with nearly equal weights. The nodes of the group are sorted by weight. A
// band ends where the next band starts.
type band struct {
	from   int     // index of the first node
	weight float64 // the largest weight in the band
}

// A band is a set of nodes with nearly equal weights: the largest is at most bandWidth times the
// smallest. A scan uses the limit for the largest weight, so it finds up to a sixteenth more nodes
// of smaller weights than necessary.
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

// bestWeighted does the work of "best" for nodes of different weights: it returns the nodes with
// the lowest cost, which is a logarithm of the score, divided by the weight.
//
// It uses only the nodes whose cost is at most a bound, on average slightly more than k. For each
// band, whose weights are nearly equal, it converts the bound into a limit on the score. So "scan"
// finds the nodes by their scores, and bestWeighted computes a logarithm only for the nodes that it
// has found.
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
		// got contains the k cheapest nodes that "scan" has found. In some bands, scan also finds
		// nodes whose cost is above the bound. So if the k-th node costs more than the bound, a
		// cheaper node may be missing. The next round uses the cost of the k-th node as the bound.
		// It misses no node, because at least k nodes have this cost or a lower one.
		last := g.cost(key, int(got[k-1]&g.mask))
		if last <= bound {
			return got[:k]
		}
		bound = last
	}
}

// gatherWeighted returns candidates (see the comment of group), best first: all nodes with a cost
// of at most bound, and some with a higher cost. If they do not fit into buf, it returns some of
// them, including the k best.
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

// costBound returns a bound on the cost with which the scans of gatherWeighted find about as many
// nodes as the argument "want" says. The cost of a node is below a bound with the probability
// 1-exp(-bound*weight). So the sum of the probabilities of all nodes must equal "want". costBound
// solves this equation to the second order. An error makes the selection slower, but not wrong.
func (g *group) costBound(want float64) float64 {
	first := want / g.total
	rest := 1 - first*g.squares/(2*g.total)
	if rest < 0.1 {
		return math.Inf(1)
	}
	return first / rest
}

// The method "limit" converts a bound on the cost of a node into a limit on its score: each node of
// the band with a cost of at most the bound has a score of at most the limit.
//
// The exact limit is the fraction 1-exp(-x) of the range of scores, with x = bound*weight. The
// method uses x/(1+x/2), which is easier to compute and never smaller. It adds a relative margin,
// because costs are rounded, and an absolute margin, because 19 bits of a score do not affect the
// cost.
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
