package disruption

import (
	"math/rand/v2"
)

// anneal searches for a larger wave, a set of nodes that may be away at the same time. Each step
// adds a random candidate, and removes one node for each exceeded limit. anneal makes a step that
// removes two nodes only with a probability that falls from 1/hot to 0. It never makes a step that
// removes more than two nodes. It computes only with integers, so every machine gets the same
// result.
func (w *search) anneal(steps int) {
	if steps <= 0 || len(w.nodes) == 0 || w.most <= 0 {
		return
	}
	random := rand.New(rand.NewPCG(1, 2))
	var out []int32
	best := w.size
	for step := range steps {
		n := w.nodes[random.IntN(len(w.nodes))]
		if w.chose[n] {
			continue
		}
		var ok bool
		if out, ok = w.displaced(n, random, out[:0]); !ok {
			continue
		}
		if len(out) == 0 && w.size >= w.most {
			continue
		}
		if len(out) == 2 && random.IntN(steps) >= (steps-step)/hot {
			continue
		}
		for _, o := range out {
			w.choose(o, false)
		}
		w.choose(n, true)
		if w.size > best {
			best = w.size
			copy(w.result, w.chose)
		}
	}
}

// hot sets how often anneal accepts a step that removes two nodes: at the beginning, it accepts one
// of 1,000 such steps. Of several values of hot from 5 to 50,000, this value led to the largest
// waves in trials with 300 and 1,000 nodes and limits of 1, 2 and 4.
const hot = 1000

// The wave is the set of nodes that may be away. displaced finds the nodes that must leave the wave
// before the node n can enter it, and appends them to the list "out".
//
// A limit that applies to n may be used up. Then one node in the wave that counts for this limit
// must leave. If "out" already contains such a node, this is enough; otherwise displaced chooses a
// node at random. If more than two nodes would have to leave, displaced returns false.
func (w *search) displaced(n int32, random *rand.Rand, out []int32) ([]int32, bool) {
	for _, l := range w.limitsOf.of(n) {
		if w.spare[l] > 0 {
			continue
		}
		pick, seen, done := int32(0), 0, false
		for _, m := range w.nodesOf.of(l) {
			if !w.chose[m] {
				continue
			}
			if len(out) > 0 && out[0] == m || len(out) > 1 && out[1] == m {
				done = true
				break
			}
			seen++
			if random.IntN(seen) == 0 {
				pick = m
			}
		}
		if done {
			continue
		}
		if len(out) == 2 {
			return out, false
		}
		out = append(out, pick)
	}
	return out, true
}
