package haproxycfg

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDirDiff(t *testing.T) {
	d := &Dir{Path: t.TempDir()}
	a := testConfig("/run", 80, 1, 2, 3, 4)
	diff, err := d.Diff(a)
	require.NoError(t, err)
	require.Equal(t, ServerCounts{After: 4, Added: 4}, diff.Servers)
	require.Zero(t, diff.ServerShare(), "a first configuration disturbs nobody")
	require.True(t, diff.Backends[0].Added)
	require.Contains(t, diff.Text, "--- /dev/null\n+++ haproxy.cfg\n@@ -0,0 +1,")

	_, err = d.Apply(t.Context(), a)
	require.NoError(t, err)
	before := snapshot(t, d.Path)
	diff, err = d.Diff(a)
	require.NoError(t, err)
	require.True(t, diff.Empty())
	require.Equal(t, "no change\n", diff.String())

	b := testConfig("/run", 81, 1, 2, 5, 4)
	b.Backends[0].Servers[1].Weight = 50
	b.Backends = append(b.Backends, Backend{Name: "new", Answer: &Answer{Status: 404, Body: "no"}})
	b.Maps[0].Entries = []MapEntry{{Key: "s4.example.com", Value: "w"}, {Key: "x.example.com", Value: "v"}}
	diff, err = d.Diff(b)
	require.NoError(t, err)
	require.Equal(t, `servers: 4 before, 4 after: 1 added, 1 removed, 1 altered (50.0% of those before)
~ frontend http
+ backend new
~ backend web
  - server 127.0.0.1:3
  + server 127.0.0.1:5
  ~ server 127.0.0.1:2
~ map hosts: 2 added, 1 removed
  - s4.example.com v
  + s4.example.com w
  + x.example.com v
`, diff.String())
	require.InDelta(t, 0.5, diff.ServerShare(), 0)
	requireUntouched(t, d.Path, before)

	// The name of a map's file is no change of the section that names it.
	c := testConfig("/run", 80, 1, 2, 3, 4)
	c.Maps[0].Entries[0].Value = "other"
	diff, err = d.Diff(c)
	require.NoError(t, err)
	require.Empty(t, diff.Sections)
	require.Empty(t, diff.Backends)
	require.Len(t, diff.Maps, 1)

	// The other way round, from everything to nothing.
	diff, err = d.Diff(&Config{})
	require.NoError(t, err)
	require.Equal(t, ServerCounts{Before: 4, Removed: 4}, diff.Servers)
	require.InDelta(t, 1, diff.ServerShare(), 0)
	require.True(t, diff.Backends[0].Removed)
	require.Equal(t, []string{"frontend http", "global"}, diff.Sections)
}

func TestDiffFilesSeesOrderAndSettings(t *testing.T) {
	file := func(text string) []RenderedFile { return []RenderedFile{{Name: configFile, Data: []byte(text)}} }
	base := "defaults\n    retries 3\nbackend b\n    balance roundrobin\n    server s1 10.0.0.1:1\n    server s2 10.0.0.2:1\n"
	for name, tc := range map[string]struct {
		text     string
		settings bool
		sections []string
	}{
		"settings":    {strings.Replace(base, "roundrobin", "leastconn", 1), true, nil},
		"order":       {"defaults\n    retries 3\nbackend b\n    balance roundrobin\n    server s2 10.0.0.2:1\n    server s1 10.0.0.1:1\n", true, nil},
		"defaults":    {strings.Replace(base, "retries 3", "retries 4", 1), false, []string{"defaults"}},
		"white space": {strings.ReplaceAll(base, "    ", "\t"), false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			d := DiffFiles(file(base), file(tc.text))
			require.False(t, d.Empty())
			require.Equal(t, tc.sections, d.Sections)
			require.Equal(t, tc.settings, len(d.Backends) == 1 && d.Backends[0].Settings)
			require.Equal(t, ServerCounts{Before: 2, After: 2}, d.Servers)
		})
	}
}

func TestUnifiedDiff(t *testing.T) {
	lines := func(s string) string { return strings.ReplaceAll(s, " ", "\n") + "\n" }
	for name, tc := range map[string]struct{ a, b, want string }{
		"equal":      {lines("a b"), lines("a b"), ""},
		"one":        {lines("a b c"), lines("a x c"), "@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n"},
		"added":      {lines("a b"), lines("a n b"), "@@ -1,2 +1,3 @@\n a\n+n\n b\n"},
		"from none":  {"", lines("a b"), "@@ -0,0 +1,2 @@\n+a\n+b\n"},
		"to one":     {lines("a b"), lines("a"), "@@ -1,2 +1 @@\n a\n-b\n"},
		"two hunks":  {lines("a 1 2 3 4 5 6 7 b"), lines("x 1 2 3 4 5 6 7 y"), "@@ -1,4 +1,4 @@\n-a\n+x\n 1\n 2\n 3\n@@ -6,4 +6,4 @@\n 5\n 6\n 7\n-b\n+y\n"},
		"one hunk":   {lines("a 1 2 3 4 5 6 b"), lines("x 1 2 3 4 5 6 y"), "@@ -1,8 +1,8 @@\n-a\n+x\n 1\n 2\n 3\n 4\n 5\n 6\n-b\n+y\n"},
		"moved":      {lines("a b c d"), lines("b c d a"), "@@ -1,4 +1,4 @@\n-a\n b\n c\n d\n+a\n"},
		"duplicates": {lines("s x s"), lines("s y s"), "@@ -1,3 +1,3 @@\n s\n-x\n+y\n s\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			appendUnified(&out, "old", "new", tc.a, tc.b)
			if tc.want != "" {
				tc.want = "--- old\n+++ new\n" + tc.want
			}
			require.Equal(t, tc.want, out.String())
		})
	}
}

// A diff of random texts makes the new one of the old one.
func TestUnifiedDiffIsAPatch(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		a := make([]string, rnd.IntN(40))
		for i := range a {
			a[i] = fmt.Sprint(rnd.IntN(15))
		}
		b := slices.Clone(a)
		for range rnd.IntN(6) {
			if i := rnd.IntN(len(b) + 1); rnd.IntN(2) == 0 || i == len(b) {
				b = slices.Insert(b, i, fmt.Sprint(rnd.IntN(30)))
			} else {
				b = slices.Delete(b, i, i+1)
			}
		}
		var out strings.Builder
		appendUnified(&out, "f", "f", joinLines(a), joinLines(b))
		require.Equal(t, joinLines(b), applyUnified(t, joinLines(a), out.String()))
	}
}

func joinLines(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

// applyUnified is a strict patch: context and removed lines must be where the
// hunk's head says, and as many.
func applyUnified(t *testing.T, text, diff string) string {
	t.Helper()
	old := splitLines(text)
	var out []string
	at, wantA, wantB := 0, 0, 0 // in old; where the hunk must end in old and in out
	for i, line := range splitLines(diff) {
		if i < 2 {
			continue
		}
		switch line[0] {
		case '@':
			require.Equal(t, [2]int{wantA, wantB}, [2]int{at, len(out)}, "end of a hunk")
			a, b, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(line, "@@ -"), " @@"), " +")
			require.True(t, ok, line)
			fromA, n := parseRange(t, a)
			fromB, m := parseRange(t, b)
			out = append(out, old[at:fromA]...)
			at = fromA
			require.Equal(t, fromB, len(out), line)
			wantA, wantB = fromA+n, fromB+m
		case '+':
			out = append(out, line[1:])
		case '-', ' ':
			require.Equal(t, old[at], line[1:])
			at++
			if line[0] == ' ' {
				out = append(out, line[1:])
			}
		}
	}
	require.Equal(t, [2]int{wantA, wantB}, [2]int{at, len(out)}, "end of the last hunk")
	return joinLines(append(out, old[at:]...))
}

// parseRange returns how many lines stand before a range, and its length.
func parseRange(t *testing.T, s string) (before, n int) {
	t.Helper()
	first, count, ok := strings.Cut(s, ",")
	before, err := strconv.Atoi(first)
	require.NoError(t, err)
	n = 1
	if ok {
		n, err = strconv.Atoi(count)
		require.NoError(t, err)
	}
	if n > 0 {
		before--
	}
	return before, n
}

// HAProxy parts words by tabs too. A file that somebody wrote by hand must not look
// like one without servers, of which anything may be taken.
func TestDiffCountsWhatTabsPart(t *testing.T) {
	before := "backend\tb\n\tmode\thttp\n\tserver\ts1\t10.0.0.1:80\n\tserver \ts2 10.0.0.2:80\n\nlisten \tl\n\tserver\ts1\t10.0.0.3:80\n"
	after := "backend b\n    mode http\n    server s1 10.0.0.1:80\n"
	file := func(s string) []RenderedFile { return []RenderedFile{{Name: configFile, Data: []byte(s)}} }
	d := DiffFiles(file(before), file(after))
	require.Equal(t, ServerCounts{Before: 3, After: 1, Removed: 2, Altered: 1}, d.Servers)
	require.InDelta(t, 1.0, d.ServerShare(), 0)
	require.Equal(t, []string{"listen l"}, d.Sections)
	require.Len(t, d.Backends, 1)
	require.Equal(t, []string{"s2"}, d.Backends[0].ServersRemoved)
	require.Equal(t, []string{"s1"}, d.Backends[0].ServersAltered)
}

func FuzzDiffLines(f *testing.F) {
	f.Fuzz(func(t *testing.T, a, b string) {
		a, b = joinLines(splitLines(a)), joinLines(splitLines(b))
		var out strings.Builder
		appendUnified(&out, "f", "f", a, b)
		if got := applyUnified(t, a, out.String()); got != b {
			t.Fatalf("%q + diff = %q, want %q", a, got, b)
		}
	})
}

func FuzzReadSections(f *testing.F) {
	f.Fuzz(func(t *testing.T, a, b string) {
		file := func(s string) []RenderedFile { return []RenderedFile{{Name: configFile, Data: []byte(s)}} }
		d := DiffFiles(file(a), file(b))
		n := d.Servers
		if n.Removed > n.Before || n.Added > n.After || n.Altered > n.Before {
			t.Fatalf("%+v", n)
		}
		if share := d.ServerShare(); share < 0 || share > 1 {
			t.Fatal(share)
		}
		if same := DiffFiles(file(a), file(a)); !same.Empty() || same.Servers.Added+same.Servers.Removed+same.Servers.Altered > 0 {
			t.Fatalf("%+v", same)
		}
		if !d.Empty() && d.String() == "" {
			t.Fatal("no words")
		}
	})
}

func BenchmarkDiffFiles(b *testing.B) {
	for _, services := range []int{500, 2000} {
		b.Run(fmt.Sprintf("services=%d/k=20", services), func(b *testing.B) {
			text := func(skip int) []RenderedFile {
				var s strings.Builder
				for i := range services {
					fmt.Fprintf(&s, "\nbackend b%d\n    balance roundrobin\n", i)
					for j := range 21 {
						if j != (i*7+skip)%21 {
							fmt.Fprintf(&s, "    server 10.%d.%d.%d:31000 10.0.%d.%d:31000 track nodes.c/n weight 100 agent-check agent-port 9801\n", j, i/256, i%256, j, i)
						}
					}
				}
				return []RenderedFile{{Name: configFile, Data: []byte(s.String())}}
			}
			before, after := text(0), text(1)
			b.SetBytes(int64(len(before[0].Data)))
			b.ReportAllocs()
			for b.Loop() {
				d := DiffFiles(before, after)
				if d.Servers.Removed != services {
					b.Fatalf("%+v", d.Servers)
				}
			}
		})
	}
}
