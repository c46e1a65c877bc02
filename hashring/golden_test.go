package hashring

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the vectors of score v1 from the reference implementation")

const goldenFile = "testdata/score-v1.json"

// golden is the content of the file of vectors. Numbers of 64 bits are hexadecimal strings, because
// many JSON readers would round them.
type golden struct {
	Comment string
	// Scores has the scores of single pairs of a key and a node, so that another implementation
	// finds its first difference.
	Scores []goldenScore
	// Exponentials are the bits of -ln(1-q/2^45), rounded as score v1 defines.
	Exponentials []goldenExponential
	// Rings are complete selections.
	Rings []goldenRing
}

type goldenScore struct{ Key, Name, Node, Zone string }

type goldenExponential struct{ Score, Bits string }

type goldenRing struct {
	Name  string
	Nodes []Node
	Picks []goldenPick
}

type goldenPick struct {
	Key         string
	K           int
	Top, Spread []string // names, best first
}

func hex(x uint64) string { return fmt.Sprintf("%016x", x) }

func unhex(t *testing.T, s string) uint64 {
	t.Helper()
	x, err := strconv.ParseUint(s, 16, 64)
	require.NoError(t, err)
	return x
}

// goldenInputs returns the rings and keys of the vectors.
func goldenInputs() golden {
	g := golden{Comment: "Vectors of score v1, see the package documentation. They never change."}
	strs := []string{
		"", "a", "node-1", "10.0.0.1", "2001:db8::1", "kube-system/kube-dns:dns", "zürich", "東京", "\u00e9", "e\u0301",
		"exactly-31-bytes-are-in-this-one", "ip-10-0-3-7.eu-central-1.compute.internal",
	}
	for _, key := range strs {
		for _, name := range strs {
			g.Scores = append(g.Scores, goldenScore{Key: key, Name: name})
		}
	}
	for _, s := range testScores() {
		g.Exponentials = append(g.Exponentials, goldenExponential{Score: hex(s)})
	}
	ring := func(name string, n int, node func(i int) Node) {
		r := goldenRing{Name: name}
		for i := range n {
			r.Nodes = append(r.Nodes, node(i))
		}
		for _, key := range []string{"", "a", "default/web:http", "media/tracks", "東京/寿司", serviceName(0, 0)} {
			for _, k := range []int{5, n + 1} {
				r.Picks = append(r.Picks, goldenPick{Key: key, K: k})
			}
		}
		g.Rings = append(g.Rings, r)
	}
	for _, style := range namingStyles {
		ring(style.name, 24, func(i int) Node { return Node{Name: style.node(i)} })
	}
	words := []string{"αλφα", "βήτα", "гамма", "дельта", "zürich", "zu\u0308rich", "東京", "大阪", "서울", "🦆", "🦆🦆", "node with spaces", "Node", "node", "\ttab", "o'clock"}
	ring("unicode", len(words), func(i int) Node { return Node{Name: words[i]} })
	ring("equal weights", 24, func(i int) Node { return Node{Name: namingStyles[0].node(i), Weight: 2.5} })
	ring("weighted", 24, func(i int) Node {
		return Node{Name: namingStyles[0].node(i), Weight: []float64{0, 2, 0.5, 16, 3.75, 100}[i%6]}
	})
	ring("weight bounds", 12, func(i int) Node {
		return Node{Name: namingStyles[3].node(i), Weight: []float64{1e-6, 1, 1e6}[i%3]}
	})
	ring("zones", 30, func(i int) Node {
		return Node{Name: namingStyles[0].node(i), Zone: []string{"eu-1a", "eu-1b", "eu-1c"}[i%3]}
	})
	ring("uneven zones", 24, func(i int) Node {
		return Node{Name: namingStyles[2].node(i), Zone: []string{"", "a", "a", "a", "b", "b", "c", "a"}[i%8], Weight: float64(i % 4)}
	})
	ring("one node", 1, func(int) Node { return Node{Name: "only", Zone: "z"} })
	return g
}

// TestGolden compares the vectors with the package and with the reference implementation, which
// wrote the file. If this test fails, the subsets of every user have changed. Then correct the
// package, and never the file.
func TestGolden(t *testing.T) {
	if *update {
		g := goldenInputs()
		for i := range g.Scores {
			s := &g.Scores[i]
			s.Node, s.Zone = hex(referenceScore(s.Key, keyTag, s.Name, nodeTag)), hex(referenceScore(s.Key, keyTag, s.Name, zoneTag))
		}
		for i := range g.Exponentials {
			// Only these vectors come from the package and not from the reference implementation.
			// With them, this test detects a change of the rounding.
			e := &g.Exponentials[i]
			e.Bits = hex(math.Float64bits(exponential(unhex(t, e.Score))))
		}
		for i := range g.Rings {
			ring := &g.Rings[i]
			for j := range ring.Picks {
				p := &ring.Picks[j]
				p.Top = names(reference(ring.Nodes).top(p.Key, p.K))
				p.Spread = names(reference(ring.Nodes).spread(p.Key, p.K))
			}
		}
		out, err := json.MarshalIndent(g, "", "\t")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(goldenFile, append(out, '\n'), 0o644))
	}

	data, err := os.ReadFile(goldenFile)
	require.NoError(t, err)
	var g golden
	require.NoError(t, json.Unmarshal(data, &g))
	inputs := goldenInputs()
	require.Len(t, g.Scores, len(inputs.Scores))
	require.Len(t, g.Exponentials, len(inputs.Exponentials))
	require.Len(t, g.Rings, len(inputs.Rings))

	for _, s := range g.Scores {
		for want, got := range map[uint64][2]uint64{
			unhex(t, s.Node): {score(keyDigest(s.Key), nodeDigest(s.Name)), referenceScore(s.Key, keyTag, s.Name, nodeTag)},
			unhex(t, s.Zone): {score(keyDigest(s.Key), zoneDigest(s.Name)), referenceScore(s.Key, keyTag, s.Name, zoneTag)},
		} {
			require.Equal(t, want, got[0], "%q %q", s.Key, s.Name)
			require.Equal(t, want, got[1], "%q %q, reference", s.Key, s.Name)
		}
	}
	for _, e := range g.Exponentials {
		require.Equal(t, e.Bits, hex(math.Float64bits(exponential(unhex(t, e.Score)))), "score %s", e.Score)
	}
	for i, ring := range g.Rings {
		t.Run(ring.Name, func(t *testing.T) {
			require.Equal(t, inputs.Rings[i].Nodes, ring.Nodes)
			require.Len(t, ring.Picks, len(inputs.Rings[i].Picks))
			r := mustNew(t, ring.Nodes...)
			for _, p := range ring.Picks {
				require.Equal(t, p.Top, names(r.Top(p.Key, p.K)), "Top(%q, %d)", p.Key, p.K)
				require.Equal(t, p.Spread, names(r.Spread(p.Key, p.K)), "Spread(%q, %d)", p.Key, p.K)
				require.Equal(t, p.Top, names(reference(ring.Nodes).top(p.Key, p.K)), "Top(%q, %d) of the reference", p.Key, p.K)
				require.Equal(t, p.Spread, names(reference(ring.Nodes).spread(p.Key, p.K)), "Spread(%q, %d) of the reference", p.Key, p.K)
			}
		})
	}
}
