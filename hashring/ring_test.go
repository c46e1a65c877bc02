package hashring

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func mustNew(t testing.TB, nodes ...Node) *Ring {
	t.Helper()
	r, err := New(nodes...)
	require.NoError(t, err)
	return r
}

func names(nodes []Node) []string {
	s := make([]string, len(nodes))
	for i, n := range nodes {
		s[i] = n.Name
	}
	return s
}

// numbered returns n nodes without weights and zones.
func numbered(n int) []Node {
	nodes := make([]Node, n)
	for i := range nodes {
		nodes[i].Name = fmt.Sprintf("node-%d", i)
	}
	return nodes
}

func TestNewRejects(t *testing.T) {
	for _, test := range []struct {
		name  string
		nodes []Node
		want  string
	}{
		{"empty name", []Node{{Name: "a"}, {Zone: "z"}}, `hashring: node with an empty name`},
		{"name twice", []Node{{Name: "a"}, {Name: "b"}, {Name: "a", Zone: "z"}}, `hashring: node "a" is given twice`},
		{"negative weight", []Node{{Name: "a", Weight: -1}}, `hashring: node "a": weight -1 is neither 0 nor between 1e-06 and 1e+06`},
		{"NaN", []Node{{Name: "a"}, {Name: "b", Weight: math.NaN()}}, `hashring: node "b": weight NaN is neither 0 nor between 1e-06 and 1e+06`},
		{"infinite", []Node{{Name: "a", Weight: math.Inf(1)}}, `hashring: node "a": weight +Inf is neither 0 nor between 1e-06 and 1e+06`},
		{"minus infinite", []Node{{Name: "a", Weight: math.Inf(-1)}}, `hashring: node "a": weight -Inf is neither 0 nor between 1e-06 and 1e+06`},
		{"too large", []Node{{Name: "a", Weight: 1000001}}, `hashring: node "a": weight 1.000001e+06 is neither 0 nor between 1e-06 and 1e+06`},
		{"too small", []Node{{Name: "a", Weight: 9e-7}}, `hashring: node "a": weight 9e-07 is neither 0 nor between 1e-06 and 1e+06`},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := New(test.nodes...)
			require.EqualError(t, err, test.want)
			require.Nil(t, r)
		})
	}
}

func TestNewKeepsItsArgument(t *testing.T) {
	nodes := []Node{{Name: "c", Weight: 2}, {Name: "a", Zone: "z"}, {Name: "b"}}
	given := slices.Clone(nodes)
	r := mustNew(t, given...)
	require.Equal(t, nodes, given, "the argument was reordered")
	before := r.Top("key", 3)
	clear(given)
	require.Equal(t, before, r.Top("key", 3), "the ring reads its argument after New")
	require.ElementsMatch(t, nodes, before, "results must be the values given, a zero weight too")
}

func TestBounds(t *testing.T) {
	var zero Ring
	empty := mustNew(t)
	for _, r := range []*Ring{&zero, empty} {
		require.Zero(t, r.Len())
		for range r.Ranked("key") {
			t.Fatal("a ring of no nodes yielded one")
		}
	}
	five := numbered(5)
	for i := range five {
		five[i].Zone = fmt.Sprint(i % 2)
	}
	ring := mustNew(t, five...)
	require.Equal(t, 5, ring.Len())
	for _, test := range []struct {
		ring *Ring
		k    int
		want int
	}{
		{&zero, 3, 0},
		{empty, 3, 0},
		{ring, math.MinInt, 0},
		{ring, -1, 0},
		{ring, 0, 0},
		{ring, 1, 1},
		{ring, 4, 4},
		{ring, 5, 5},
		{ring, 6, 5},
		{ring, math.MaxInt, 5},
	} {
		require.Len(t, test.ring.Top("key", test.k), test.want, "Top, k = %d", test.k)
		require.Len(t, test.ring.Spread("key", test.k), test.want, "Spread, k = %d", test.k)
	}
}
