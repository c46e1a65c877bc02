// Package textdiff compares two texts line by line.
//
// It makes patience diffs: it matches lines that occur exactly once in each text, in the same
// order, and then compares the lines between two matches in the same way. The time is about linear
// for configurations, where a shortest diff could take quadratic time.
//
// It matches the first lines of paragraphs before all others. So if one paragraph changes, it
// compares only the lines of this paragraph.
package textdiff

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// File is a text with the name that the head of a unified diff shows. If Name is empty, the file
// does not exist.
type File struct{ Name, Text string }

// A Change means that the lines b[B0:B1] replace the lines a[A0:A1].
type Change struct{ A0, A1, B0, B1 int }

const unifiedContext = 3

// Unified returns a unified diff of one file: its state before a change and its state after. If
// both states have the same text, Unified returns "".
func Unified(before, after File) string {
	if before.Text == after.Text && (before.Name == "") == (after.Name == "") {
		return ""
	}
	var out strings.Builder
	fmt.Fprintf(&out, "--- %s\n+++ %s\n", cmp.Or(before.Name, "/dev/null"), cmp.Or(after.Name, "/dev/null"))
	a, b := Lines(before.Text), Lines(after.Text)
	all := Changes(a, b)
	for len(all) > 0 {
		n := 1 // number of changes in this hunk: changes whose context lines touch are in one hunk
		for n < len(all) && all[n].A0-all[n-1].A1 <= 2*unifiedContext {
			n++
		}
		appendHunk(&out, a, b, all[:n])
		all = all[n:]
	}
	return out.String()
}

func appendHunk(out *strings.Builder, a, b []string, hunk []Change) {
	first, last := hunk[0], hunk[len(hunk)-1]
	before := min(unifiedContext, first.A0)
	after := min(unifiedContext, len(a)-last.A1)
	fmt.Fprintf(out, "@@ -%s +%s @@\n",
		lineRange(first.A0-before, last.A1+after), lineRange(first.B0-before, last.B1+after))
	i := first.A0 - before
	for _, c := range hunk {
		appendMarked(out, ' ', a[i:c.A0])
		appendMarked(out, '-', a[c.A0:c.A1])
		appendMarked(out, '+', b[c.B0:c.B1])
		i = c.A1
	}
	appendMarked(out, ' ', a[i:i+after])
}

// lineRange formats the lines [start:end] of a text for the head of a hunk: the number of the first
// line, counted from 1, and the number of lines. For an empty range, the first number is the line
// before the range.
func lineRange(start, end int) string {
	switch n := end - start; n {
	case 0:
		return fmt.Sprintf("%d,0", start)
	case 1:
		return strconv.Itoa(end)
	default:
		return fmt.Sprintf("%d,%d", start+1, n)
	}
}

func appendMarked(out *strings.Builder, mark byte, lines []string) {
	for _, line := range lines {
		out.WriteByte(mark)
		out.WriteString(line)
		out.WriteByte('\n')
	}
}

// Lines cuts a text into lines. It does not matter whether the text ends with a newline.
func Lines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

// Changes returns the changes that turn the lines a into the lines b, in order.
func Changes(a, b []string) []Change {
	m := matcher{a: a, b: b}
	m.match(0, len(a), 0, len(b), 0)
	var all []Change
	i, j := 0, 0
	for _, r := range append(m.runs, run{len(a), len(b), 0}) {
		if i < r.a || j < r.b {
			all = append(all, Change{i, r.a, j, r.b})
		}
		i, j = r.a+r.n, r.b+r.n
	}
	return all
}

// run is n equal lines in both texts. They begin at index a of one text, and at index b of the
// other.
type run struct{ a, b, n int }

// occurrence says how often one line occurs while match compares a part of text a with a part of
// text b: inA times in the part of a, and inB times in the part of b. atB is the index in text b of
// the last occurrence.
type occurrence struct{ inA, inB, atB int32 }

// matcher compares two texts and finds the runs, that is, the sequences of lines that both texts
// contain.
type matcher struct {
	a, b []string
	runs []run // the runs in the order of the texts
	// ids gives each line of text a number from 1, so that equal lines have equal numbers. A line
	// gets its number only when the matcher needs it. Most lines never need a number, because most
	// of a configuration stays the same.
	ids        map[string]int32
	numA, numB []int32
	seen       []occurrence // the occurrences of each line, by the number of the line
}

// maxMatchDepth bounds the recursion of match. The diff of real texts needs less; at the limit,
// match treats the rest of the lines as different.
const maxMatchDepth = 64

// match finds the equal runs of a[a0:a1] and b[b0:b1], and adds them to m.runs.
func (m *matcher) match(a0, a1, b0, b1, depth int) {
	n := 0
	for a0+n < a1 && b0+n < b1 && m.a[a0+n] == m.b[b0+n] {
		n++
	}
	m.add(a0, b0, n)
	a0, b0 = a0+n, b0+n
	tail := 0
	for a1-tail > a0 && b1-tail > b0 && m.a[a1-tail-1] == m.b[b1-tail-1] {
		tail++
	}
	a1, b1 = a1-tail, b1-tail
	if a0 < a1 && b0 < b1 && depth < maxMatchDepth {
		anchors := m.anchors(a0, a1, b0, b1, depth == 0)
		for _, x := range anchors {
			// Each anchor is a pair of equal lines. Skip an anchor whose lines belong to an equal
			// run that an earlier anchor has already found.
			if x.a >= a0 && x.b >= b0 {
				m.match(a0, x.a, b0, x.b, depth+1)
				m.add(x.a, x.b, 1)
				a0, b0 = x.a+1, x.b+1
			}
		}
		if len(anchors) > 0 {
			m.match(a0, a1, b0, b1, depth+1)
		}
	}
	m.add(a1, b1, tail)
}

// add appends a run of n equal lines. The run begins at index a of one text and at index b of the
// other. If this run directly follows the last one in both texts, add makes the last run longer
// instead.
func (m *matcher) add(a, b, n int) {
	if n == 0 {
		return
	}
	if k := len(m.runs) - 1; k >= 0 && m.runs[k].a+m.runs[k].n == a && m.runs[k].b+m.runs[k].n == b {
		m.runs[k].n += n
		return
	}
	m.runs = append(m.runs, run{a, b, n})
}

// anchors returns pairs of equal lines, one in a[a0:a1] and one in b[b0:b1], as uniquePairs
// defines. "match" compares the lines between two pairs on their own. If heads is true, anchors
// tries first only lines that begin a paragraph, so that match later compares only the lines within
// each paragraph.
func (m *matcher) anchors(a0, a1, b0, b1 int, heads bool) []run {
	if m.ids == nil {
		m.ids = make(map[string]int32)
		m.numA, m.numB = make([]int32, len(m.a)), make([]int32, len(m.b))
		m.seen = make([]occurrence, 1)
	}
	if heads {
		if both := m.uniquePairs(headsOf(m.a, a0, a1), headsOf(m.b, b0, b1)); len(both) > 0 {
			return both
		}
	}
	return m.uniquePairs(rangeOf(a0, a1), rangeOf(b0, b1))
}

// headsOf returns the indexes i, with x <= i < y, of lines that follow an empty line.
func headsOf(lines []string, x, y int) []int {
	var heads []int
	for i := max(x, 1); i < y; i++ {
		if lines[i-1] == "" && lines[i] != "" {
			heads = append(heads, i)
		}
	}
	return heads
}

// rangeOf returns the integers from x to y-1.
func rangeOf(x, y int) []int {
	all := make([]int, y-x)
	for i := range all {
		all[i] = x + i
	}
	return all
}

// uniquePairs pairs the lines that both texts contain exactly one time. linesA and linesB are the
// indexes of the lines to look at in each text. Of these pairs, uniquePairs returns as many as
// possible that have the same order in both texts.
func (m *matcher) uniquePairs(linesA, linesB []int) []run {
	for _, i := range linesA {
		m.seen[m.number(&m.numA[i], m.a[i])].inA++
	}
	for _, i := range linesB {
		s := &m.seen[m.number(&m.numB[i], m.b[i])]
		s.inB++
		s.atB = int32(i)
	}
	var both []run
	for _, i := range linesA {
		if s := m.seen[m.numA[i]]; s.inA == 1 && s.inB == 1 {
			both = append(both, run{i, int(s.atB), 1})
		}
	}
	for _, i := range linesA {
		m.seen[m.numA[i]] = occurrence{}
	}
	for _, i := range linesB {
		m.seen[m.numB[i]] = occurrence{}
	}
	return increasing(both)
}

// The method "number" returns the number of a line. Lines with the same text have the same number,
// and a new text gets the next free number. The method stores the result in *n, which is 0 before
// the first call, so that later calls need no look-up.
func (m *matcher) number(n *int32, line string) int32 {
	if *n == 0 {
		id, ok := m.ids[line]
		if !ok {
			id = int32(len(m.seen))
			m.ids[line] = id
			m.seen = append(m.seen, occurrence{})
		}
		*n = id
	}
	return *n
}

// increasing returns a longest subsequence of runs in which the field b increases from run to run.
// In the argument "runs", the field a must increase from run to run.
func increasing(runs []run) []run {
	ends := make([]int, 0, len(runs)) // ends[l] is the run with the smallest b that ends a subsequence of length l+1
	prev := make([]int, len(runs))
	for i, r := range runs {
		l := sort.Search(len(ends), func(k int) bool { return runs[ends[k]].b > r.b })
		prev[i] = -1
		if l > 0 {
			prev[i] = ends[l-1]
		}
		if l == len(ends) {
			ends = append(ends, i)
		} else {
			ends[l] = i
		}
	}
	if len(ends) == 0 {
		return nil
	}
	out := make([]run, 0, len(ends))
	for i := ends[len(ends)-1]; i >= 0; i = prev[i] {
		out = append(out, runs[i])
	}
	slices.Reverse(out)
	return out
}
