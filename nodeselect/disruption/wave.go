package disruption

import (
	"cmp"
	"slices"
)

// DefaultSteps is a good number of steps for Wave. With 1,000 nodes and 2,000 services on 20 nodes
// each, the steps take about 20 ms.
const DefaultSteps = 20_000

// Wave returns a wave: a large, sorted set of candidates that may go at the same time now, while the
// nodes that are away stay away. To search among all nodes, pass State.Nodes as the candidates.
//
// A candidate in no subset, or unknown to the State, is always in the wave. With Budget.OneZone, all
// other nodes of the wave are in one zone.
//
// A greedy search chooses the nodes that block the fewest others, and simulated annealing improves
// the set in the given number of steps. With DefaultSteps, waves are about 5% larger than with 0
// steps. The result depends only on the arguments and the State, which Wave does not change.
func (s *State) Wave(candidates []string, steps int) []string {
	var wave []string
	var nodes []int32
	for _, name := range candidates {
		i, ok := s.index[name]
		switch {
		case !ok, len(s.limitsOf.of(i)) == 0 && !s.away[i]:
			wave = append(wave, name)
		case !s.away[i] && s.fits([]int32{i}):
			nodes = append(nodes, i)
		}
	}
	slices.Sort(nodes)
	nodes = slices.Compact(nodes)
	for _, n := range s.wave(nodes, steps) {
		wave = append(wave, s.names[n])
	}
	slices.Sort(wave)
	return slices.Compact(wave)
}

// wave computes a wave: a set of the given nodes that somebody may take away together. The caller
// passes only nodes that may be taken away alone.
func (s *State) wave(nodes []int32, steps int) []int32 {
	if !s.budget.OneZone {
		w := s.greedy(nodes)
		w.anneal(steps)
		return w.chosen()
	}
	var best *search
	byZone := make([][]int32, len(s.zones))
	for _, n := range nodes {
		byZone[s.zoneOf[n]] = append(byZone[s.zoneOf[n]], n)
	}
	for _, nodes := range byZone {
		if w := s.greedy(nodes); best == nil || w.size > best.size {
			best = w
		}
	}
	if best == nil {
		return nil
	}
	best.anneal(steps)
	return best.chosen()
}

// search is the state of a search for a large wave. A wave is a set of nodes that may be away at
// the same time.
type search struct {
	*State
	nodes  []int32 // candidates
	spare  []int32 // how many further nodes may go, by limit
	chose  []bool  // whether the node is in the wave, by node
	size   int     // number of chosen nodes
	most   int     // the largest number of chosen nodes that the Budget allows
	result []bool  // the value of chose for the largest wave so far
}

// chosen returns the nodes of the best wave. After annealing, further candidates may still fit into
// this wave, so chosen first adds them.
func (w *search) chosen() []int32 {
	for _, n := range w.nodes {
		if w.chose[n] != w.result[n] {
			w.choose(n, w.result[n])
		}
	}
	for _, n := range w.nodes {
		if !w.chose[n] && w.size < w.most && w.free(n) {
			w.choose(n, true)
			w.result[n] = true
		}
	}
	var nodes []int32
	for _, n := range w.nodes {
		if w.result[n] {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// greedy starts a search with a first wave. This wave is complete: no further candidate can enter
// it.
func (s *State) greedy(nodes []int32) *search {
	w := &search{State: s, nodes: nodes, spare: make([]int32, len(s.limits)), chose: make([]bool, len(s.names)), most: s.maxAway - s.awayAll}
	for l := range s.limits {
		w.spare[l] = s.limits[l].max - s.limits[l].away
	}
	open := make([]bool, len(s.names)) // by node: whether it may be added to the wave
	for _, n := range nodes {
		open[n] = true
	}
	left := make([]int64, len(s.limits)) // number of open nodes, by limit
	for _, n := range nodes {
		for _, l := range s.limitsOf.of(n) {
			left[l]++
		}
	}
	price := make([]int64, len(s.limits)) // by limit: what a node costs because it counts for this limit
	cost := make([]int64, len(s.names))   // by node: the sum of the prices of its limits
	reprice := func(l int32) {
		p := left[l] * weight(w.spare[l])
		if d := p - price[l]; d != 0 {
			price[l] = p
			for _, n := range s.nodesOf.of(l) {
				cost[n] += d
			}
		}
	}
	for l := range s.limits {
		reprice(int32(l))
	}
	var closed []int32
	for rest := slices.Clone(nodes); w.size < w.most; w.size++ {
		rest = slices.DeleteFunc(rest, func(n int32) bool { return !open[n] })
		if len(rest) == 0 {
			break
		}
		next := slices.MinFunc(rest, func(a, b int32) int { return cmp.Compare(cost[a], cost[b]) })
		w.chose[next] = true
		open[next] = false
		closed = append(closed[:0], next)
		for _, l := range s.limitsOf.of(next) {
			w.spare[l]--
			if w.spare[l] > 0 {
				continue
			}
			for _, n := range s.nodesOf.of(l) {
				if open[n] {
					open[n] = false
					closed = append(closed, n)
				}
			}
		}
		for _, n := range closed {
			for _, l := range s.limitsOf.of(n) {
				left[l]--
				reprice(l)
			}
		}
	}
	w.result = slices.Clone(w.chose)
	return w
}

// The method "free" reports whether node n may still be added to the wave: each limit that applies
// to n allows at least one more node.
func (w *search) free(n int32) bool {
	for _, l := range w.limitsOf.of(n) {
		if w.spare[l] <= 0 {
			return false
		}
	}
	return true
}

// choose adds the node n to the wave if the argument "chose" is true, and removes n from the wave
// otherwise. For each limit of n, choose updates w.spare, the number of nodes that may still enter
// the wave.
func (w *search) choose(n int32, chose bool) {
	d := int32(1)
	if chose {
		d = -1
	}
	w.chose[n] = chose
	w.size -= int(d)
	for _, l := range w.limitsOf.of(n) {
		w.spare[l] += d
	}
}

// weight returns a factor in the cost of a node: 1<<20 / spare², or 0 if spare is 0 or less. spare
// is the number of nodes that a limit still permits in the wave, the set of nodes that may be away.
// Of several functions that were tried, this one led to the largest waves.
//
// The method "greedy" adds the node with the lowest cost. The cost of a node is a sum over its
// limits: for each limit, weight times the number of its nodes that can still enter the wave.
//
// If spare is 1, the added node keeps all other nodes of the limit out of the wave.
func weight(spare int32) int64 {
	if spare <= 0 {
		return 0
	}
	return 1 << 20 / (int64(spare) * int64(spare))
}
