package routes

import (
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Parser parses the versions of a declaration file, one after the other. Its method Parse returns
// the same as the function [Parse], but parses only the entries that the last version did not
// contain. If one of 10,000 entries has changed, it needs about a twentieth of the time.
//
// The zero Parser is ready. Only one goroutine may use a Parser at a time.
type Parser struct {
	known []knownEntry // the entries of the last version, in their order; nil if Parse must start over
	size  int          // the number of routes of the last table
}

// knownEntry is an entry of the last version of a file.
type knownEntry struct {
	text  string
	route *Route // nil if the entry has a problem
	line  int    // the number of lines from the start of the entry to the position of the route
	rank  int    // the index of the route in the last table; -1 if it is not known
}

// Parse returns the same as the function [Parse].
//
// A Parser remembers the entries only of well-formed files in block style without anchors, as
// [AppendYAML] writes them: a line "routes:", and below it only comments, and entries that begin
// with a hyphen.
func (p *Parser) Parse(file string, data []byte) (Table, []Problem) {
	entries := splitEntries(data)
	findKnown(entries, p.known)
	size := p.size
	p.known, p.size = nil, 0
	if len(entries) == 0 || !parseEntries(entries) {
		return Parse(file, data)
	}
	c := newCollector(file, len(data))
	known := make([]knownEntry, len(entries))
	for i := range entries {
		e := &entries[i]
		known[i] = knownEntry{text: e.text, rank: -1}
		if e.known != nil {
			known[i].route, known[i].line, known[i].rank = e.known.route, e.known.line, e.known.rank
			continue
		}
		n := len(c.declarations)
		c.route(e.node, fieldOf(i))
		if len(c.declarations) > n {
			route := c.declarations[n].Route
			known[i].route, known[i].line = &route, route.Position.Line-e.line
		}
	}
	p.known = known
	position := func(i int) Position { return Position{file, entries[i].line + known[i].line} }
	if table, ok := mergeRanked(known, size, position); ok {
		p.size = len(table.routes)
		return table, c.sortedProblems(nil)
	}
	c.declarations = c.declarations[:0]
	for i := range known {
		if known[i].rank = -1; known[i].route != nil {
			route := *known[i].route
			route.Position = position(i)
			c.declarations = append(c.declarations, declaration{route, fieldOf(i)})
		}
	}
	return c.table()
}

func fieldOf(i int) string { return "routes[" + strconv.Itoa(i) + "]" }

// findKnown finds each entry of a file in the last version of the file. If the last version
// contained the same entry, and this old entry has a route, findKnown stores the old entry in the
// field "known" of the new entry.
func findKnown(entries []fileEntry, known []knownEntry) {
	take := func(e *fileEntry, k *knownEntry) {
		if k.route != nil {
			e.known = k
		}
	}
	// Most entries are the same as in the last version of the file, and at the same place, counted
	// from the start or from the end of the list. Find these first.
	for len(entries) > 0 && len(known) > 0 && entries[0].text == known[0].text {
		take(&entries[0], &known[0])
		entries, known = entries[1:], known[1:]
	}
	for len(entries) > 0 && len(known) > 0 && entries[len(entries)-1].text == known[len(known)-1].text {
		take(&entries[len(entries)-1], &known[len(known)-1])
		entries, known = entries[:len(entries)-1], known[:len(known)-1]
	}
	byText := make(map[string]*knownEntry, len(known))
	for i := range known {
		byText[known[i].text] = &known[i]
	}
	for i := range entries {
		if k := byText[entries[i].text]; k != nil {
			take(&entries[i], k)
		}
	}
}

// mergeRanked returns the new table, which has the routes of the entries "known". size is the number
// of routes in the previous table. The rank of an entry is the index of its route in the previous
// table, or -1 if the route is new; mergeRanked replaces the ranks by the indexes in the new table.
// position returns the file and line of the entry with index i. ok is false if two routes have the
// same host, path and exactness.
//
// mergeRanked keeps the order of the routes of the previous table, and sorts only the new routes.
func mergeRanked(known []knownEntry, size int, position func(i int) Position) (t Table, ok bool) {
	ranked := make([]int, size) // by rank: the index of the entry plus 1; 0 if the file does not contain the route any more
	var fresh []int
	missing := 0
	for i := range known {
		switch k := &known[i]; {
		case k.route == nil:
			missing++
		case k.rank < 0:
			fresh = append(fresh, i)
		case ranked[k.rank] != 0:
			return t, false
		default:
			ranked[k.rank] = i + 1
		}
	}
	slices.SortFunc(fresh, func(i, j int) int { return known[i].route.Compare(*known[j].route) })
	t.routes = slices.Grow(t.routes, len(known)-missing)
	add := func(i int) bool {
		r := *known[i].route
		if n := len(t.routes); n > 0 && t.routes[n-1].key() == r.key() {
			return false
		}
		r.Position = position(i)
		known[i].rank = len(t.routes)
		t.routes = append(t.routes, r)
		return true
	}
	for _, index := range ranked {
		if index == 0 {
			continue
		}
		for len(fresh) > 0 && known[fresh[0]].route.Compare(*known[index-1].route) <= 0 {
			if !add(fresh[0]) {
				return t, false
			}
			fresh = fresh[1:]
		}
		if !add(index - 1) {
			return t, false
		}
	}
	for _, i := range fresh {
		if !add(i) {
			return t, false
		}
	}
	return t, true
}

// fileEntry is an entry of the list "routes": its text with the lines up to the next entry, and the
// number of its first line.
type fileEntry struct {
	text  string
	line  int
	known *knownEntry // the same entry in the last version; nil if it must be parsed
	node  *yaml.Node  // set if known is nil
}

// splitEntries cuts a file in block style into the entries of the list "routes". It returns nil if
// the file may have another style.
//
// All lines that begin an entry have the same indentation, and all other lines have a larger
// indentation. So no entry depends on the text of another one, except through anchors, and a Parser
// need not parse an entry again while its text stays the same.
func splitEntries(data []byte) []fileEntry {
	if len(data) > MaxFileBytes || checkText(data) != nil {
		return nil
	}
	text := string(data)
	if strings.HasPrefix(text, "\uFEFF") || strings.Contains(text, "\r") {
		return nil
	}
	entries := make([]fileEntry, 0, strings.Count(text, "\n- ")+1)
	inList, indent, start, at, number := false, 0, 0, 0, 0
	for line := range strings.Lines(text) {
		number++
		begin := at
		at += len(line)
		content := strings.TrimLeft(line, " ")
		spaces := len(line) - len(content)
		trimmed := strings.Trim(content, " \t\n")
		switch {
		case trimmed == "" || trimmed[0] == '#':
			if len(entries) == 0 && strings.Contains(line, "\t") {
				return nil
			}
		case !inList:
			rest, ok := strings.CutPrefix(line, "routes:")
			if after := strings.TrimLeft(rest, " "); !ok || after != "\n" && (after == rest || after == "" || after[0] != '#') {
				return nil
			}
			inList = true
		case strings.HasPrefix(content, "- ") && (len(entries) == 0 || spaces == indent):
			if n := len(entries); n > 0 {
				entries[n-1].text = text[start:begin]
			}
			entries = append(entries, fileEntry{line: number})
			indent, start = spaces, begin
		case len(entries) == 0 || spaces <= indent:
			return nil
		}
	}
	if n := len(entries); n == 0 || n > MaxRoutes {
		return nil
	} else {
		entries[n-1].text = text[start:]
	}
	return entries
}

// parseEntries parses the entries whose field "known" is nil, and sets their nodes. It returns
// false if these entries are not well-formed, or if one of them contains an anchor or an alias.
func parseEntries(entries []fileEntry) bool {
	var text strings.Builder
	var fresh []*fileEntry
	for i := range entries {
		if e := &entries[i]; e.known == nil {
			text.WriteString(e.text)
			fresh = append(fresh, e)
		}
	}
	if len(fresh) == 0 {
		return true
	}
	root, err := parseOne([]byte(text.String()))
	if err != nil || root.Kind != yaml.SequenceNode || len(root.Content) != len(fresh) {
		return false
	}
	line := 1 // of the entry in the text
	for i, e := range fresh {
		e.node = root.Content[i]
		end := line + strings.Count(e.text, "\n")
		if e.node.Line < line || e.node.Line >= max(end, line+1) || !moveLines(e.node, e.line-line) {
			return false
		}
		line = end
	}
	return true
}

// moveLines adds the argument "shift" to the line numbers of the node and of the nodes in it. It
// returns false if the node contains an anchor or an alias.
func moveLines(n *yaml.Node, shift int) bool {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return false
	}
	n.Line += shift
	for _, c := range n.Content {
		if !moveLines(c, shift) {
			return false
		}
	}
	return true
}
