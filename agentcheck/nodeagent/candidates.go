package nodeagent

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// candidate is a node that has a drain request, or that is held down. A node is held down for the
// time Rules.HoldDown after its last request has ended: it continues to drain without a request.
type candidate struct {
	node    string
	request DrainRequest
	ended   time.Time // when the agent noticed the end of the last request; zero during a request
	granted bool      // the node drains; otherwise it waits for other nodes
	limit   int       // the highest limit of draining nodes since granted became true
}

func (c candidate) heldDown() bool { return !c.ended.IsZero() }

// nextCandidates returns the nodes that have a drain request, and the nodes that had a request less
// than holdDown ago. previous is the result of the last call, and requests contains the present
// requests by node name.
//
// An uncounted candidate (see DrainRequest.Uncounted) always drains. For the other candidates,
// there are three rules:
//
//   - At most "limit" of them drain.
//   - A candidate that drains already continues to drain if "limit" falls.
//   - At most "ceiling" candidates with a request drain. If more of them drain, because the cluster
//     has shrunk, the last candidates stop.
//
// The result is sorted: first the uncounted candidates, then the others by the time of their
// requests. So all agents compute the same order, no matter when they started.
func nextCandidates(previous []candidate, requests map[string]DrainRequest, limit, ceiling int, holdDown time.Duration, now time.Time) []candidate {
	next := make([]candidate, 0, len(requests))
	known := make(map[string]bool, len(previous))
	for _, c := range previous {
		known[c.node] = true
		request, requested := requests[c.node]
		switch {
		case requested:
			// The candidate had a drain request before: keep the time of that request, so that the
			// candidate keeps its place among the candidates. If there was a time without a
			// request, it was shorter than holdDown. After a longer time, the candidate would have
			// been removed.
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
	place, requested := 0, 0 // the counted candidates so far, and how many of them have a request
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
		if !c.heldDown() { // a node that is held down may be deleted already
			requested++
		}
	}
	return next
}

// toSecond rounds down to a whole second, the precision of times in Kubernetes.
func toSecond(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// compareCandidates sorts by class, then by the time of the drain request in whole seconds, then by
// the name of the node. Kubernetes keeps times in whole seconds, so only the name gives all agents
// the same order for two requests of the same second.
func compareCandidates(a, b candidate) int {
	return cmp.Or(
		cmp.Compare(a.class(), b.class()),
		cmp.Compare(a.request.Since.Unix(), b.request.Since.Unix()),
		cmp.Compare(a.node, b.node),
	)
}

// class is the first sort key of the candidates for a drain. Lower classes come first:
//
//   - 0: an Uncounted request whose time Since is known
//   - 1: an Uncounted request without a known time
//   - 2: a counted request whose time Since is known
//   - 3: a counted request without a known time
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

// drainLimit returns how many of total nodes may drain at the same time: share * total, rounded
// down, but at least 1. If share is below 1, the only node of a cluster may not drain, so the limit
// is 0.
func drainLimit(share float64, total int) int {
	const rounding = 1e-9 // 0.29*100 is 28.999999999999996 in floating point
	return min(max(1, int(share*float64(total)+rounding)), drainCeiling(share, total))
}

// drainCeiling returns how many of total nodes may drain because of a request, even if they began
// to drain under a higher drainLimit. It is total if share is 1. Otherwise it is total-1, so that
// one node always stays.
func drainCeiling(share float64, total int) int {
	if share >= 1 {
		return total
	}
	return max(0, total-1)
}

func percent(share float64) string { return strconv.FormatFloat(share*100, 'f', -1, 64) + "%" }

const reasonGone = "node is gone"

// deletionGuard decides whether a node without a Node object counts as deleted, and so drains. If
// more nodes than drainLimit are missing at the same time, somebody has probably deleted their
// objects by mistake, or has restored the API server's store without them. These nodes still serve,
// so they must not drain.
type deletionGuard struct {
	total     int       // number of counted nodes when the node last existed; 0 if it never existed
	since     time.Time // when the agent noticed that the node is missing; zero while it exists
	confirmed bool      // the agent treats the node as deleted
}

// check updates the guard with the snapshot s. If the node is missing but does not count as
// deleted, the result "doubt" says why. If "drains" is true, the node already drains, and continues
// to drain.
func (g *deletionGuard) check(now time.Time, s snapshot, drains bool, share float64) (doubt string) {
	if s.node != nil {
		g.since, g.confirmed = time.Time{}, false
		return ""
	}
	if g.since.IsZero() {
		g.since = toSecond(now)
		g.confirmed = drains || g.total == 0
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
