package hashring

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// fuzzWeights are the possible weights. A byte of the input selects one of them. There are only a
// few, so nodes often have equal weights.
var fuzzWeights = []float64{0, 1, 2, 0.5, 4, 16, 1.01, 1e-6, 1e6, 100}

// FuzzTop compares Top, Spread and Ranked with full sorts. The lines of the input are names. The
// bytes of the input select weights and zones, in a cycle. If degrade is above 0, the test drops
// bits of the digests, so that some nodes have equal scores.
func FuzzTop(f *testing.F) {
	f.Fuzz(func(t *testing.T, lines string, weights, zones []byte, key string, k int, degrade uint8) {
		var nodes []Node
		seen := map[string]bool{}
		valid := true
		for i, name := range strings.Split(lines, "\n") {
			n := Node{Name: name}
			if len(weights) > 0 {
				n.Weight = fuzzWeights[int(weights[i%len(weights)])%len(fuzzWeights)]
			}
			if len(zones) > 0 {
				n.Zone = fmt.Sprint(zones[i%len(zones)] % 8)
			}
			valid = valid && name != "" && !seen[name]
			seen[name] = true
			nodes = append(nodes, n)
		}
		r, err := New(nodes...)
		if valid != (err == nil) {
			t.Fatalf("valid = %v, but New says %v", valid, err)
		}
		if err != nil {
			return
		}
		if degrade %= 64; degrade > 0 {
			slices.SortFunc(nodes, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
			r = newRing(nodes, func(name string) uint64 { return nodeDigest(name) >> degrade })
		}

		order := sortAll(&r.all, keyDigest(key))
		n := min(max(k, 0), len(order))
		if got := names(r.Top(key, k)); !slices.Equal(order[:n], got) {
			t.Errorf("Top(%q, %d) of %+v\nwant %q\n got %q", key, k, nodes, order[:n], got)
		}
		if got := sortedSpread(nodes, order, key)[:n]; !slices.Equal(got, names(r.Spread(key, k))) {
			t.Errorf("Spread(%q, %d) of %+v\nwant %q\n got %q", key, k, nodes, got, names(r.Spread(key, k)))
		}
		if got := names(slices.Collect(r.Ranked(key))); !slices.Equal(order, got) {
			t.Errorf("Ranked(%q) of %+v\nwant %q\n got %q", key, nodes, order, got)
		}
		if degrade == 0 && len(nodes) <= 16 { // the reference is slow
			if want := names(reference(nodes).ranked(key)); !slices.Equal(want, order) {
				t.Errorf("order for %q of %+v\nreference %q\n   package %q", key, nodes, want, order)
			}
		}
	})
}

// sortedSpread sorts nodes into the order of Spread: first the best node of each zone, then the
// second best of each zone, and so on. The argument "order" contains the names of all nodes in
// their order for key.
func sortedSpread(nodes []Node, order []string, key string) []string {
	zoneOf := map[string]string{}
	for _, n := range nodes {
		zoneOf[n.Name] = n.Zone
	}
	type seat struct {
		round int
		score uint64
		zone  string
		name  string
	}
	taken := map[string]int{}
	var seats []seat
	for _, name := range order {
		z := zoneOf[name]
		seats = append(seats, seat{taken[z], score(keyDigest(key), zoneDigest(z)), z, name})
		taken[z]++
	}
	slices.SortFunc(seats, func(a, b seat) int {
		return cmp.Or(cmp.Compare(a.round, b.round), cmp.Compare(a.score, b.score), strings.Compare(a.zone, b.zone))
	})
	out := make([]string, len(seats))
	for i := range seats {
		out[i] = seats[i].name
	}
	return out
}
