package nodeagent

import (
	"cmp"
	"slices"
	"time"
)

// drain is a node that asks to be drained, or did until a moment ago.
type drain struct {
	node    string
	ask     Ask
	ended   time.Time // when the last signal was found gone, zero while there is one
	granted bool
	// room is how many nodes could drain when this one was last granted: a cluster
	// that shrinks takes back nothing, but for the last node.
	room int
}

// nextDrains returns what became of the drains before when the nodes of asks ask, of
// which limit may drain at a time. It is all that there is of hold-down and floor. Of
// those that drain already no more than most go on, for the cluster may have shrunk to
// them.
//
// The result is sorted: nodes outside first, since nothing applies to them, the others
// in the order in which they asked. So whoever sees the same objects gets the same
// order, whenever it began to look.
func nextDrains(before []drain, asks map[string]Ask, limit, most int, holdDown time.Duration, now time.Time) []drain {
	drains := make([]drain, 0, len(asks))
	known := make(map[string]bool, len(before))
	for _, d := range before {
		known[d.node] = true
		ask, asking := asks[d.node]
		switch {
		case asking:
			// Its place in the order does not get worse while it asks, nor by a pause
			// that was shorter than the hold-down.
			ask.Since = earliest(d.ask.Since, ask.Since.UTC().Truncate(time.Second))
			d.ask, d.ended = ask, time.Time{}
		case d.ended.IsZero():
			d.ended = now
		}
		if d.ended.IsZero() || d.granted && now.Sub(d.ended) < holdDown {
			drains = append(drains, d)
		}
	}
	for node, ask := range asks {
		if known[node] {
			continue
		}
		if ask.Since.IsZero() {
			ask.Since = now
		}
		ask.Since = ask.Since.UTC().Truncate(time.Second)
		drains = append(drains, drain{node: node, ask: ask})
	}
	slices.SortFunc(drains, compareDrains)
	rank, asking := 0, 0 // of those before that count, and of those that still ask
	for i := range drains {
		d := &drains[i]
		if d.ask.Outside {
			d.granted = true
			continue
		}
		if !d.granted || limit > d.room {
			d.room = limit
		}
		d.granted = rank < d.room && asking < most
		rank++
		if d.ended.IsZero() { // what is held down may well be a node that is gone
			asking++
		}
	}
	return drains
}

// compareDrains orders by time, to the second, which is all that Kubernetes tells.
// Of the same second the first by name is the first: no agent could tell otherwise,
// but one that has been watching.
func compareDrains(a, b drain) int {
	if a.ask.Outside != b.ask.Outside {
		return map[bool]int{true: -1, false: 1}[a.ask.Outside]
	}
	x, y := a.ask.Since, b.ask.Since
	if x.IsZero() != y.IsZero() { // not known is last
		return map[bool]int{true: 1, false: -1}[x.IsZero()]
	}
	return cmp.Or(cmp.Compare(x.Unix(), y.Unix()), cmp.Compare(a.node, b.node))
}

// limitOf returns how many of total nodes may drain at once: the share of them rounded
// down, but one in any case, and never all unless the share is all of them.
func limitOf(share float64, total int) int {
	const rounding = 1e-9 // 29% of 100 nodes are 29, not 28.999…
	return min(max(1, int(share*float64(total)+rounding)), mostOf(share, total))
}

// mostOf returns how many of total nodes may drain in any case: all but one, unless the
// share is all of them.
func mostOf(share float64, total int) int {
	if share >= 1 {
		return total
	}
	return max(0, total-1)
}
