package nodeagent

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// candidate is a node with a drain request, or a node that is held down: after its last request
// ended, the node continues to drain for Rules.HoldDown.
type candidate struct {
	node    string
	request DrainRequest
	ended   time.Time // when the last request was found to have ended; zero while there is one
	granted bool      // the node drains; otherwise it waits for other nodes
	limit   int       // the highest limit since the drain was granted
}

func (c candidate) heldDown() bool { return !c.ended.IsZero() }

// nextCandidates updates the candidates before with the present requests of all nodes, by node
// name. limit is how many nodes may start to drain. ceiling is how many may drain in any case: a
// cluster that has shrunk to its draining nodes takes some of them back.
//
// The result is sorted: uncounted nodes first, because no limit applies to them, then the others by
// the time of their requests. So all agents that see the same objects compute the same order,
// whenever they started.
func nextCandidates(before []candidate, requests map[string]DrainRequest, limit, ceiling int, holdDown time.Duration, now time.Time) []candidate {
	next := make([]candidate, 0, len(requests))
	known := make(map[string]bool, len(before))
	for _, c := range before {
		known[c.node] = true
		request, requested := requests[c.node]
		switch {
		case requested:
			// A candidate keeps the time of its first request, also after a pause that was shorter
			// than the hold-down. So it keeps its place in the order.
			request.Since = earliest(c.request.Since, toSecond(request.Since))
			c.request, c.ended = request, time.Time{}
		case !c.heldDown():
			c.ended = now
		}
		if !c.heldDown() || c.granted && now.Sub(c.ended) < holdDown {
			next = append(next, c)
		}
	}
	for node, request := range requests {
		if known[node] {
			continue
		}
		if request.Since.IsZero() {
			request.Since = now
		}
		request.Since = toSecond(request.Since)
		next = append(next, candidate{node: node, request: request})
	}
	slices.SortFunc(next, compareCandidates)
	place, requested := 0, 0 // counted candidates so far, and those of them with a request
	for i := range next {
		c := &next[i]
		if c.request.Uncounted {
			c.granted = true
			continue
		}
		if !c.granted || limit > c.limit {
			c.limit = limit
		}
		c.granted = place < c.limit && requested < ceiling
		place++
		if !c.heldDown() { // a node that is held down may have been deleted
			requested++
		}
	}
	return next
}

// toSecond rounds down to seconds, the precision of times in Kubernetes.
func toSecond(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// compareCandidates sorts by the second of the request, then by name. The name decides because an
// agent that starts later cannot know which of two requests in one second came first.
func compareCandidates(a, b candidate) int {
	return cmp.Or(
		cmp.Compare(a.class(), b.class()),
		cmp.Compare(a.request.Since.Unix(), b.request.Since.Unix()),
		cmp.Compare(a.node, b.node),
	)
}

// class orders uncounted candidates before the others, and known times before unknown ones.
func (c candidate) class() int {
	class := 0
	if !c.request.Uncounted {
		class = 2
	}
	if c.request.Since.IsZero() {
		class++
	}
	return class
}

// drainLimit returns how many of total nodes may drain at the same time: the share of them, rounded
// down, but at least 1 and at most drainCeiling.
func drainLimit(share float64, total int) int {
	const rounding = 1e-9 // 0.29*100 is 28.999999999999996 in floating point
	return min(max(1, int(share*float64(total)+rounding)), drainCeiling(share, total))
}

// drainCeiling returns how many of total nodes may drain in any case: all for a share of 1,
// otherwise all except one.
func drainCeiling(share float64, total int) int {
	if share >= 1 {
		return total
	}
	return max(0, total-1)
}

func percent(share float64) string { return strconv.FormatFloat(share*100, 'f', -1, 64) + "%" }

const reasonGone = "node is gone"

// deletionGuard decides whether the agent treats its missing node as deleted. A deleted node
// drains. But if most nodes of the cluster are missing at the same time, probably somebody has
// deleted all Node objects by mistake, or has restored a store without them, and the nodes still
// serve. Then the node must not drain.
type deletionGuard struct {
	total     int       // number of counted nodes when the node last existed; 0 if it never did
	since     time.Time // when the node was found missing; zero while it exists
	confirmed bool      // the node counts as deleted
}

// check updates the guard. It returns the reason why a missing node does not count as deleted, ""
// if the node exists or counts as deleted. drains reports whether the node drained before.
func (g *deletionGuard) check(now time.Time, s snapshot, drains bool, share float64) (doubt string) {
	if s.node != nil {
		g.since, g.confirmed = time.Time{}, false
		return ""
	}
	if g.since.IsZero() {
		g.since = toSecond(now)
		g.confirmed = drains || g.total == 0 // a node that drains continues to drain
	}
	if g.confirmed {
		return ""
	}
	if !s.counted {
		return "it is not known yet how many others are"
	}
	present := s.nodes
	for _, request := range s.requests {
		if request.Uncounted {
			present--
		}
	}
	missing, limit := g.total-present, drainLimit(share, g.total)
	if missing > limit {
		return fmt.Sprintf("%d of %d nodes are gone, no more than %d are believed at once (%s)", missing, g.total, limit, percent(share))
	}
	g.confirmed = true
	return ""
}
