package textdiff_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/textdiff"
)

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
			out := textdiff.Unified(textdiff.File{Name: "old", Text: tc.a}, textdiff.File{Name: "new", Text: tc.b})
			if tc.want != "" {
				tc.want = "--- old\n+++ new\n" + tc.want
			}
			require.Equal(t, tc.want, out)
		})
	}
}

// TestUnifiedDiffIsAPatch applies diffs of random texts: the old text becomes the new one.
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
		out := textdiff.Unified(textdiff.File{Name: "f", Text: joinLines(a)}, textdiff.File{Name: "f", Text: joinLines(b)})
		require.Equal(t, joinLines(b), applyUnified(t, joinLines(a), out))
	}
}

func joinLines(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

// applyUnified applies a diff strictly. The head of each hunk says at which line its context and
// removed lines begin, and how many they are; both must be true.
func applyUnified(t *testing.T, text, diff string) string {
	t.Helper()
	old := textdiff.Lines(text)
	var out []string
	at, wantA, wantB := 0, 0, 0 // the index in old, and the ends of the hunk in old and in out
	for i, line := range textdiff.Lines(diff) {
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

// parseRange returns the number of lines before a range, and the length of the range.
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

func FuzzDiffLines(f *testing.F) {
	f.Fuzz(func(t *testing.T, a, b string) {
		a, b = joinLines(textdiff.Lines(a)), joinLines(textdiff.Lines(b))
		out := textdiff.Unified(textdiff.File{Name: "f", Text: a}, textdiff.File{Name: "f", Text: b})
		if got := applyUnified(t, a, out); got != b {
			t.Fatalf("%q + diff = %q, want %q", a, got, b)
		}
	})
}
