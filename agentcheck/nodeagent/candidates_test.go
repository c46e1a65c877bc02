package nodeagent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
)

func TestDrainLimit(t *testing.T) {
	tests := []struct {
		share float64
		total int
		want  int
	}{
		{0.3, 0, 0},
		{0.3, 1, 0}, // the only node never drains
		{0.3, 2, 1},
		{0.3, 3, 1},
		{0.3, 6, 1},
		{0.3, 7, 2},
		{0.3, 10, 3},
		{0.3, 1000, 300},
		{0.29, 100, 29}, // 28.999999999999996 in floating point
		{0.01, 50, 1},
		{0.9, 2, 1},
		{0.999, 3, 2},
		{0.999, 1, 0},
		{1, 1, 1},
		{1, 3, 3},
		{2, 3, 3},
	}
	for _, tt := range tests {
		require.Equal(t, tt.want, drainLimit(tt.share, tt.total), "%v of %d", tt.share, tt.total)
	}
}

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// Each test case is a sequence of observations. A request is the name of its node, followed by
// "@second" if its time is known. A "-" before the name means Uncounted.
func TestNextCandidates(t *testing.T) {
	type step struct {
		at       float64 // seconds
		requests string
		limit    int
		want     string // the draining nodes, then the waiting ones in parentheses; ~ means held down
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"a drain begins at once and ends after the hold-down", []step{
			{0, "", 1, ""},
			{1, "a", 1, "a"},
			{100, "a", 1, "a"},
			{101, "", 1, "~a"},
			{110.9, "", 1, "~a"},
			{111, "", 1, ""},
		}},
		{"flapping is one drain", []step{
			{0, "a", 1, "a"},
			{5, "", 1, "~a"},
			{14, "a", 1, "a"},
			{15, "", 1, "~a"},
			{24, "a", 1, "a"},
			{30, "", 1, "~a"},
			{40, "", 1, ""},
		}},
		{"no more nodes than the limit, in the order of their requests", []step{
			{0, "c b@-5 a@-2", 2, "b a (c)"},
			{1, "c b@-5 a@-2 d", 2, "b a (c d)"},
		}},
		{"a node that is held down counts", []step{
			{0, "a@0 b@1", 1, "a (b)"},
			{5, "b@1", 1, "~a (b)"},
			{14, "b@1", 1, "~a (b)"},
			{15, "b@1", 1, "b"},
		}},
		{"a node that waited is not held down", []step{
			{0, "a@0 b@1", 1, "a (b)"},
			{5, "a@0", 1, "a"},
		}},
		{"a new request within the hold-down keeps the place", []step{
			{0, "b@0", 1, "b"},
			{5, "", 1, "~b"},
			{6, "a@6", 1, "~b (a)"},
			{7, "a@6 b@7", 1, "b (a)"},
			{60, "a@6 b@7", 1, "b (a)"},
		}},
		{"a later write of the same manager keeps the place", []step{
			{0, "b@0", 1, "b"},
			{9, "b@0 a@9", 1, "b (a)"},
			{20, "b@20 a@9", 1, "b (a)"},
		}},
		{"names order the requests of one second", []step{
			{0.2, "c@0", 1, "c"},
			{0.8, "c@0 a@0.8", 1, "a (c)"},
		}},
		{"requests without a time are ordered by when they are first seen", []step{
			{0, "c", 1, "c"},
			{1, "c a", 1, "c (a)"},
			{2, "c a b", 1, "c (a b)"},
		}},
		{"a known earlier time comes first", []step{
			{5, "a b@-60", 1, "b (a)"},
		}},
		{"in a cluster that shrinks, drains go on and none begins", []step{
			{0, "a@0 b@1 c@2 d@3", 3, "a b c (d)"},
			{10, "a@0 b@1 c@2 d@3", 2, "a b c (d)"},
			{20, "b@1 c@2 d@3", 2, "~a b c (d)"},
			{30, "b@1 c@2 d@3", 2, "b c (d)"},
			{31, "c@2 d@3", 1, "~b c (d)"},
			{41, "c@2 d@3", 1, "c (d)"},
		}},
		{"a cluster that grows lets more drain", []step{
			{0, "a@0 b@1", 1, "a (b)"},
			{1, "a@0 b@1", 2, "a b"},
			{2, "a@0 b@1", 1, "a b"},
		}},
		{"uncounted nodes need no place and never wait", []step{
			{0, "a@0 -x@1 -y@2", 1, "-x -y a"},
			{1, "a@0 -x@1 -y@2 b@1", 1, "-x -y a (b)"},
			{2, "a@0 -x@1 -y@2 b@1", 0, "-x -y a (b)"},
		}},
		{"no node may drain", []step{{0, "a", 0, "(a)"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var candidates []candidate
			for _, s := range tt.steps {
				now := noon.Add(time.Duration(s.at * float64(time.Second)))
				candidates = nextCandidates(candidates, parseRequests(t, s.requests), s.limit, 10, 10*time.Second, now)
				require.Equal(t, s.want, show(candidates), "at %v s", s.at)
			}
		})
	}
}

func parseRequests(t *testing.T, text string) map[string]DrainRequest {
	t.Helper()
	requests := map[string]DrainRequest{}
	for _, word := range strings.Fields(text) {
		name, second, known := strings.Cut(word, "@")
		var request DrainRequest
		if known {
			var s float64
			_, err := fmt.Sscan(second, &s)
			require.NoError(t, err)
			request.Since = noon.Add(time.Duration(s * float64(time.Second)))
		}
		name, request.Uncounted = strings.CutPrefix(name, "-")
		requests[name] = request
	}
	return requests
}

func show(candidates []candidate) string {
	var words, waiting []string
	for _, d := range candidates {
		name := d.node
		if d.request.Uncounted {
			name = "-" + name
		}
		if d.heldDown() {
			name = "~" + name
		}
		if d.granted {
			words = append(words, name)
		} else {
			waiting = append(waiting, name)
		}
	}
	if len(waiting) > 0 {
		words = append(words, "("+strings.Join(waiting, " ")+")")
	}
	return strings.Join(words, " ")
}

func TestNoHoldDown(t *testing.T) {
	candidates := nextCandidates(nil, parseRequests(t, "a"), 1, 10, -1, noon)
	require.Equal(t, "a", show(candidates))
	require.Empty(t, nextCandidates(candidates, nil, 1, 10, -1, noon))
}

// The number of nodes may be out of date. The agent uses at least the number of nodes that it sees.
// If the number is too low, a drain waits longer.
func TestNumberOfNodesThatIsOutOfDate(t *testing.T) {
	requests := parseRequests(t, "a@1 b@2 c@3 -x@0")
	tests := []struct {
		name         string
		nodes        int
		total, limit int
	}{
		{"not known", -1, 4, 2},
		{"too low", 2, 4, 2},
		{"right", 11, 10, 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tracker := Tracker{Rules: Rules{Node: "own", MaxDrain: 0.5}}
			s := tracker.state(noon, snapshot{node: &corev1.Node{}, requests: requests, nodes: tt.nodes})
			require.Equal(t, tt.total, s.Drain.Total)
			require.Equal(t, tt.limit, s.Drain.Limit)
		})
	}
	alone := Tracker{Rules: Rules{Node: "own"}}
	s := alone.state(noon, snapshot{node: &corev1.Node{Spec: corev1.NodeSpec{Unschedulable: true}}, nodes: -1})
	require.Equal(t, "up ready # cordoned; waits: 0 of 1 nodes drain, no more than 0 may (30%)", s.Node().String())
}

// The agent reads its own node only from the watch of that node, because the other watches may lag.
func TestOwnNodeComesFromItsOwnWatch(t *testing.T) {
	c := cluster{rules: Rules{Node: "own"}, requests: []map[string]DrainRequest{{"own": {Reason: "cordoned"}, "a": {}}, {"b": {}}}}
	s := c.snapshot()
	require.NoError(t, s.err)
	require.True(t, s.complete)
	require.Equal(t, map[string]DrainRequest{"a": {}, "b": {}}, s.requests)
}
