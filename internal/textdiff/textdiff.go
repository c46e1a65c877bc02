// Package textdiff compares texts line by line.
package textdiff

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// A patience diff: lines that occur once on each side are matched first, in
// their longest common order, and what lies between is treated the same way.
// Configurations have many such lines, so this takes about linear time where a
// shortest edit script could take quadratic, and it never matches a section's
// inner lines to those of another just because they read the same.
//
// It begins with the lines that head sections, so that one changed server costs its
// section and not the file.

// run is n equal lines, at a and at b.
type run struct{ a, b, n int }

// matchLines returns the equal runs of two texts, in order.
func matchLines(a, b []string) []run {
	m := matcher{a: a, b: b}
	m.match(0, len(a), 0, len(b), 0)
	return m.runs
}

type occurrence struct{ inA, inB, atB int32 }

type matcher struct {
	a, b []string
	// Lines as numbers from 1, which lines get once they are looked at beyond
	// their turn: most of a configuration is as it was, line by line.
	ids        map[string]int32
	numA, numB []int32
	seen       []occurrence // by number
	runs       []run
}

// maxMatchDepth ends a recursion that only contrived texts reach.
const maxMatchDepth = 64

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
			// An earlier anchor's run may have taken this line already.
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

// anchors returns the lines that occur once in both ranges, as many as have
// the same order in both. If heads is set, it is content with those of them that
// begin a section, as long as there are any: within the sections little is left to
// be matched then.
func (m *matcher) anchors(a0, a1, b0, b1 int, heads bool) []run {
	if m.ids == nil {
		m.ids = make(map[string]int32)
		m.numA, m.numB = make([]int32, len(m.a)), make([]int32, len(m.b))
		m.seen = make([]occurrence, 1)
	}
	if heads {
		if both := m.once(headsOf(m.a, a0, a1), headsOf(m.b, b0, b1)); len(both) > 0 {
			return both
		}
	}
	return m.once(rangeOf(a0, a1), rangeOf(b0, b1))
}

// headsOf returns which of the lines from x to y follow an empty one.
func headsOf(lines []string, x, y int) []int {
	var heads []int
	for i := max(x, 1); i < y; i++ {
		if lines[i-1] == "" && lines[i] != "" {
			heads = append(heads, i)
		}
	}
	return heads
}

func rangeOf(x, y int) []int {
	all := make([]int, y-x)
	for i := range all {
		all[i] = x + i
	}
	return all
}

// once returns those of the given lines that occur once on each side, as many as
// have the same order on both.
func (m *matcher) once(linesA, linesB []int) []run {
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

// number returns the number of a line, and gives it one if n is still 0.
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

// increasing returns a longest part of runs, which are sorted by a, that is
// sorted by b too.
func increasing(runs []run) []run {
	ends := make([]int, 0, len(runs)) // ends[l]: the run with the least b that ends a part of length l+1
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

const unifiedContext = 3

// Change replaces the lines A0 to A1 by the lines B0 to B1.
type Change struct{ A0, A1, B0, B1 int }

// Changes returns what stands between the equal runs.
func Changes(a, b []string) []Change {
	var all []Change
	i, j := 0, 0
	for _, r := range append(matchLines(a, b), run{len(a), len(b), 0}) {
		if i < r.a || j < r.b {
			all = append(all, Change{i, r.a, j, r.b})
		}
		i, j = r.a+r.n, r.b+r.n
	}
	return all
}

// AppendUnified appends a unified diff of one file, or nothing if there is no
// difference. An empty name stands for a file that is not there.
func AppendUnified(out *strings.Builder, nameA, nameB, textA, textB string) {
	if textA == textB && (nameA == "") == (nameB == "") {
		return
	}
	fmt.Fprintf(out, "--- %s\n+++ %s\n", orDevNull(nameA), orDevNull(nameB))
	a, b := Lines(textA), Lines(textB)
	all := Changes(a, b)
	for len(all) > 0 {
		n := 1 // changes in this hunk: those whose contexts touch
		for n < len(all) && all[n].A0-all[n-1].A1 <= 2*unifiedContext {
			n++
		}
		appendHunk(out, a, b, all[:n])
		all = all[n:]
	}
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

// lineRange gives lines as a hunk's head does: first line from 1 and count, and
// for none the line before.
func lineRange(from, to int) string {
	switch n := to - from; n {
	case 0:
		return fmt.Sprintf("%d,0", from)
	case 1:
		return strconv.Itoa(to)
	default:
		return fmt.Sprintf("%d,%d", from+1, n)
	}
}

func appendMarked(out *strings.Builder, mark byte, lines []string) {
	for _, line := range lines {
		out.WriteByte(mark)
		out.WriteString(line)
		out.WriteByte('\n')
	}
}

func orDevNull(name string) string {
	if name == "" {
		return "/dev/null"
	}
	return name
}

// Lines cuts a text that ends with a line end; a missing one is not told
// from one that is there, since no file of a configuration lacks it.
func Lines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}
