package routes

import (
	"fmt"
	"os"
	"path/filepath"
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
	require.Len(t, p.known, 2, "an entry with a problem is parsed again")
	entries := splitEntries(file(entry(3), entry(2), entry(1)))
	require.True(t, parseEntries(entries, p.known))
	require.NotNil(t, entries[0].node)
	require.Nil(t, entries[1].node)
	require.Nil(t, entries[2].node)
	p.Parse("f.yaml", file(entry(3)))
	require.Len(t, p.known, 1, "the Parser forgets entries that the file does not contain")
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
