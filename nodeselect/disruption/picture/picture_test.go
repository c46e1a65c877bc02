package picture_test

import (
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/fleettest"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/disruption"
	"github.com/headgate/headgate/nodeselect/disruption/picture"
)

// example returns the picture of a cluster of that size in which some nodes are away.
func example(tb testing.TB, nodes, services, size, away int) picture.Picture {
	tb.Helper()
	f := fleettest.New(nodes, services, size)
	p := picture.Picture{Title: fmt.Sprintf("%d nodes", nodes), Nodes: f.Nodes, Subsets: f.Subsets()}
	s, err := disruption.New(disruption.Budget{}, p.Nodes, p.Subsets)
	require.NoError(tb, err)
	for i := range away {
		p.Away = append(p.Away, p.Nodes[11*i%nodes].Name)
	}
	s.Away(p.Away...)
	p.Wave = s.Wave(s.Nodes(), 0)
	p.Blocked = s.Blocking()
	return p
}

// elements returns the names of all elements, and all texts in the order of the file. It fails if
// the file is not well-formed.
func elements(t *testing.T, svg []byte) (names map[string]int, texts []string) {
	t.Helper()
	names = map[string]int{}
	d := xml.NewDecoder(strings.NewReader(string(svg)))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return names, texts
		}
		require.NoError(t, err)
		switch token := token.(type) {
		case xml.StartElement:
			names[token.Name.Local]++
			for _, a := range token.Attr {
				require.False(t, strings.HasPrefix(a.Name.Local, "on"), "a script in %s", token.Name.Local)
			}
		case xml.CharData:
			if text := strings.TrimSpace(string(token)); text != "" {
				texts = append(texts, text)
			}
		}
	}
}

func TestPictureOfAFewNodes(t *testing.T) {
	a, b, c, d := nodeselect.Node{Name: "a", Zone: "z1"}, nodeselect.Node{Name: "b"}, nodeselect.Node{Name: "c"}, nodeselect.Node{Name: "d"}
	p := picture.Picture{
		Title:   "eu-1",
		Nodes:   []nodeselect.Node{a, b, c},
		Subsets: nodeselect.Subsets{"x/free": {b, c}, "x/full": {a, b, d}},
		Away:    []string{"a", "unknown"},
		Wave:    []string{"c"},
		Blocked: []disruption.Blocked{{Service: "x/full", Rule: disruption.RuleService, Away: 1, Limit: 1}},
	}
	_, texts := elements(t, p.SVG())
	for _, want := range []string{
		"eu-1", "4 nodes, 2 services, 1 of them let no further node go",
		"away: 1", "may go together now: 1", "blocked: 2",
		"a: 1 service, away, zone z1", "b: 2 services, blocked", "c: 1 service, may go together now", "d: 1 service, blocked",
		"x/free: 2 nodes, 1 may go together now", "x/full: 3 nodes, 1 away; service x/full: 1 away and 0 named, of at most 1",
		"What blocks", "x/full: 1 of 1 away",
	} {
		require.Contains(t, texts, want)
	}
	require.Less(t, slices.Index(texts, "x/full"), slices.Index(texts, "x/free"), "blocked services come first")
	require.NotContains(t, texts, "unknown")
	require.NotContains(t, texts, "asked for: 0")
}

// A limit for a zone blocks only the nodes of this zone.
func TestBlockedZone(t *testing.T) {
	nodes := []nodeselect.Node{{Name: "a", Zone: "z1"}, {Name: "b", Zone: "z1"}, {Name: "c", Zone: "z2"}}
	p := picture.Picture{
		Subsets: nodeselect.Subsets{"x/s": nodes}, Away: []string{"a"},
		Blocked: []disruption.Blocked{{Service: "x/s", Zone: "z1", Rule: disruption.RuleZone, Away: 1, Limit: 1}},
	}
	_, texts := elements(t, p.SVG())
	require.Contains(t, texts, "b: 1 service, blocked, zone z1")
	require.Contains(t, texts, "c: 1 service, other, zone z2")
	require.Contains(t, texts, "x/s in z1: 1 of 1 away")
}

func TestNodesThatAreAskedFor(t *testing.T) {
	p := example(t, 12, 9, 4, 3)
	p.Named = []string{p.Nodes[1].Name}
	_, texts := elements(t, p.SVG())
	require.Contains(t, texts, "asked for: 1")
}

func TestNamesAreEscaped(t *testing.T) {
	const name = "<script>alert(1)</script>&\"'\x00\xff"
	n := nodeselect.Node{Name: name, Zone: name}
	p := picture.Picture{
		Title: name, Nodes: []nodeselect.Node{n}, Subsets: nodeselect.Subsets{name: {n}}, Away: []string{name},
		Blocked: []disruption.Blocked{
			{Service: name, Zone: name, Rule: disruption.RuleZone},
			{Zone: name, Rule: disruption.RuleOneZone},
			{Rule: disruption.RuleShare},
			{Service: name, Rule: disruption.RuleService},
		},
	}
	svg := p.SVG()
	names, _ := elements(t, svg)
	require.Zero(t, names["script"])
	require.NotContains(t, string(svg), "<script")
}

func TestPictureOfNothing(t *testing.T) {
	_, texts := elements(t, picture.Picture{}.SVG())
	require.Contains(t, texts, "0 nodes, 0 services")
	require.NotContains(t, string(picture.Picture{}.SVG()), "NaN")
}

func TestALongListOfLimitsIsCut(t *testing.T) {
	p := picture.Picture{}
	for i := range 100 {
		p.Blocked = append(p.Blocked, disruption.Blocked{Service: "x/" + strconv.Itoa(i), Rule: disruption.RuleService})
	}
	_, texts := elements(t, p.SVG())
	require.Contains(t, texts, "x/39: 0 of 0 away")
	require.NotContains(t, texts, "x/40: 0 of 0 away")
	require.Contains(t, texts, "and 60 more")
}

func TestTheSameContentIsTheSamePicture(t *testing.T) {
	p := example(t, 100, 60, 8, 2)
	want := p.SVG()
	slices.Reverse(p.Nodes)
	slices.Reverse(p.Wave)
	for _, members := range p.Subsets {
		slices.Reverse(members)
	}
	require.Equal(t, string(want), string(p.SVG()))
}

var update = flag.Bool("update", false, "write the golden file")

// README.md of package disruption shows this picture.
func TestGolden(t *testing.T) {
	const file = "testdata/120-nodes.svg"
	p := example(t, 120, 60, 8, 2)
	p.Title = "eu-1: the next wave"
	svg := p.SVG()
	if *update {
		require.NoError(t, os.WriteFile(file, svg, 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), string(svg), "go test ./nodeselect/disruption/picture -update writes the file again")
}

// TestLargePicture draws a picture of the largest cluster for which package picture is made. To
// look at the picture, set PICTURE to the path of a file.
func TestLargePicture(t *testing.T) {
	p := example(t, 1000, 2000, 20, 7)
	svg := p.SVG()
	require.Less(t, len(svg), 1_500_000)
	names, texts := elements(t, svg)
	require.Less(t, names["path"], 20, "marks are not elements of their own")
	require.Contains(t, texts, "1000 nodes, 2000 services, 10 of them let no further node go")
	if path := os.Getenv("PICTURE"); path != "" {
		require.NoError(t, os.WriteFile(path, svg, 0o644))
	}
}

func BenchmarkSVG(b *testing.B) {
	p := example(b, 1000, 2000, 20, 7)
	b.ReportAllocs()
	for b.Loop() {
		b.SetBytes(int64(len(p.SVG())))
	}
}
