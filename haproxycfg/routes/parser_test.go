package routes

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// requireSameParse requires that a Parser returns the same as Parse for each version of a file.
func requireSameParse(t *testing.T, versions ...[]byte) {
	t.Helper()
	var p Parser
	for i, data := range versions {
		wantTable, wantProblems := Parse("f.yaml", data)
		table, problems := p.Parse("f.yaml", data)
		require.Equal(t, wantTable.routes, table.routes, "version %d:\n%s", i, data)
		require.Equal(t, wantProblems, problems, "version %d:\n%s", i, data)
	}
}

// FuzzParser: a Parser returns the same as Parse, whatever it has parsed before.
func FuzzParser(f *testing.F) {
	f.Fuzz(func(t *testing.T, first, second []byte) {
		requireSameParse(t, first, second, first)
		requireSameParse(t, append([]byte("routes:\n"), first...), append([]byte("routes:\n"), second...))
		requireSameParse(t, []byte("routes:\n"+string(first)+string(second)), []byte("routes:\n"+string(second)+string(first)))
	})
}

func TestParserKeepsEntries(t *testing.T) {
	entry := func(i int) string {
		return fmt.Sprintf("- host: h%d.example\n  path: /a # first\n\n  # the service\n  backends:\n  - {cluster: c, namespace: n, service: s, port: http}\n", i)
	}
	file := func(entries ...string) []byte { return []byte("# routes\nroutes: # all\n" + strings.Join(entries, "")) }
	bad := "- host: bad.example\n  path: a\n  backends: []\n"
	requireSameParse(
		t, file(entry(1), entry(2), entry(3)), file(entry(1), entry(3)), file(entry(3), "# one line more\n", entry(2), entry(1)),
		file(entry(1), bad, entry(1), entry(2)), file(bad, entry(2)),
		file(entry(1), "- host: \"open\n", entry(2)), file(entry(1), entry(2)),
		file(entry(1), "- &a host: a.example\n", entry(2)), []byte("routes: []\n"),
		[]byte(strings.TrimSuffix(string(file(entry(1), entry(2))), "\n")), file(entry(2), entry(1)),
	)

	var p Parser
	p.Parse("f.yaml", file(entry(1), bad, entry(2)))
	entries := splitEntries(file(entry(3), bad, entry(2), entry(1)))
	findKnown(entries, p.known)
	require.True(t, parseEntries(entries))
	var parsed []bool
	for _, e := range entries {
		parsed = append(parsed, e.node != nil)
	}
	require.Equal(t, []bool{true, true, false, false}, parsed, "only new entries and entries with a problem are parsed")
}

// TestParserFollowsManyVersions makes random changes of a file, with conflicts and problems.
func TestParserFollowsManyVersions(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	entry := func() string {
		if r.IntN(20) == 0 {
			return "- host: bad\n"
		}
		return fmt.Sprintf("- host: h%d.example\n  path: /p%d\n  backends: [{cluster: c, namespace: n, service: s%d, port: http}]\n", r.IntN(60), r.IntN(4), r.IntN(2))
	}
	var entries []string
	var versions [][]byte
	for range 100 {
		for range r.IntN(4) {
			switch i := r.IntN(len(entries) + 1); {
			case i == len(entries) || r.IntN(2) == 0 && len(entries) < 20:
				entries = slices.Insert(entries, i, entry())
			case r.IntN(2) == 0:
				entries = slices.Delete(entries, i, i+1)
			default:
				entries[i] = entry()
			}
		}
		versions = append(versions, []byte("routes:\n"+strings.Join(entries, "")))
	}
	requireSameParse(t, versions...)
}

// TestParserSplitsFiles uses the examples of FuzzParse as files.
func TestParserSplitsFiles(t *testing.T) {
	names, err := filepath.Glob("testdata/fuzz/FuzzParse/*")
	require.NoError(t, err)
	require.NotEmpty(t, names)
	for _, name := range names {
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		var text string
		_, quoted, _ := strings.Cut(string(data), "[]byte(")
		_, err = fmt.Sscanf(quoted, "%q", &text)
		require.NoError(t, err, name)
		requireSameParse(t, []byte(text), []byte(text), []byte(text+"\n"))
	}
}

// BenchmarkParser parses a file in which one entry has changed.
func BenchmarkParser(b *testing.B) {
	for _, n := range []int{2000, 20_000} {
		b.Run(fmt.Sprintf("routes=%d", n), func(b *testing.B) {
			data := string(declarations(n))
			versions := [2][]byte{[]byte(data), []byte(strings.Replace(data, "host-77.example.com", "host-77.example.net", 1))}
			var p Parser
			p.Parse("f", versions[1])
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if t, problems := p.Parse("f", versions[i%2]); len(t.routes) != n || len(problems) > 0 {
					b.Fatal(problems)
				}
			}
		})
	}
}
