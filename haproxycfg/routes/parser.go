package routes

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Parser parses the versions of a declaration file, one after the other. Its method Parse returns
// the same as the function [Parse], but it does not parse entries again that the last version
// contained too. A file with 10,000 entries of which one has changed needs about a twentieth of the
// time.
//
// The zero Parser is ready. Only one goroutine may use a Parser at a time.
type Parser struct {
	known map[string]knownEntry // the entries without problems of the last version, by their text
}

// knownEntry is a route, and the number of lines from the start of its entry to its position.
type knownEntry struct {
	route Route
	line  int
}

// Parse returns the same as the function [Parse].
//
// Parse remembers entries only of files in block style, as [AppendYAML] writes them: a line
// "routes:", and below it only entries that begin with a hyphen, and comments. It parses all other
// files from the start, and also files that are not well-formed or contain anchors.
func (p *Parser) Parse(file string, data []byte) (Table, []Problem) {
	entries := splitEntries(data)
	known := p.known
	p.known = nil
	if len(entries) == 0 || !parseEntries(entries, known) {
		return Parse(file, data)
	}
	next := make(map[string]knownEntry, len(entries))
	c := newCollector(file, len(data))
	for i := range entries {
		e := &entries[i]
		at := "routes[" + strconv.Itoa(i) + "]"
		if old, ok := known[e.text]; ok {
			old.route.Position = Position{file, e.line + old.line}
			c.declarations = append(c.declarations, declaration{old.route, at})
			next[e.text] = old
			continue
		}
		problems, routes := len(c.problems), len(c.declarations)
		c.route(e.node, at)
		if len(c.problems) == problems && len(c.declarations) > routes {
			route := c.declarations[routes].Route
			next[e.text] = knownEntry{route, route.Position.Line - e.line}
		}
	}
	p.known = next
	return c.table()
}

// fileEntry is an entry of the list "routes": its text with the lines up to the next entry, and the
// number of its first line.
type fileEntry struct {
	text string
	line int
	node *yaml.Node // nil if the Parser knows the entry
}

// splitEntries cuts a file in block style into the entries of the list "routes". It returns nil if
// the file may have another style.
//
// All lines that begin an entry have the same indentation, and all other lines of an entry have a
// deeper one. So if the YAML parser finds an item of the list at each of these lines, no item
// depends on the text of another item, except through anchors.
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

// parseEntries parses the entries that are not in known, and sets their nodes. It returns false if
// the entries are not well-formed, or if one of them contains an anchor or an alias.
func parseEntries(entries []fileEntry, known map[string]knownEntry) bool {
	var text strings.Builder
	var fresh []*fileEntry
	for i := range entries {
		e := &entries[i]
		if _, ok := known[e.text]; !ok {
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

// moveLines adds shift to the lines of the node and of the nodes in it. It returns false if the node
// contains an anchor or an alias.
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
