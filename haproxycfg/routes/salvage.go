package routes

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// salvaged is the result of reading a file that is not well-formed. Parse reads such a file entry
// by entry, so that a fault of syntax removes one entry and not the whole file.
type salvaged struct {
	roots   []*yaml.Node          // one mapping for each document
	faults  map[*yaml.Node]string // the empty nodes in place of entries that the parser cannot read, and the reasons
	others  []syntaxError         // faults outside of entries
	entries int                   // the number of entries that the parser has read

	anchors map[string]*yaml.Node
	list    *yaml.Node // the list "routes"; nil outside of this list
	again   int        // the number of bytes that the method parse may still read a second time
}

// salvage cuts a file into pieces and parses each piece alone. A piece is an entry of the list
// "routes" or a key at the top level. A piece may use the anchors of earlier pieces.
func salvage(data []byte) salvaged {
	s := salvaged{faults: map[*yaml.Node]string{}, anchors: map[string]*yaml.Node{}, again: len(data) + 1<<16}
	data = bytes.TrimPrefix(data, []byte("\uFEFF"))
	list := flowList
	if trimmed := bytes.TrimSpace(data); len(trimmed) > 0 && trimmed[0] == '{' {
		list = flowListInside
	}
	if at := list.FindIndex(data); at != nil {
		s.flow(data, at[1])
	} else {
		s.block(data)
	}
	return s
}

var (
	// flowList and flowListInside match the beginning of a list of routes in brackets: the key
	// "routes", the colon and the opening bracket. flowList matches this key at the top level of the
	// file, and flowListInside matches it inside braces.
	flowList       = regexp.MustCompile(`(?m)^["']?routes["']?[ \t]*:[ \t]*(&\S+[ \t]+)?\[`)
	flowListInside = regexp.MustCompile(`["']?routes["']?[ \t\r\n]*:[ \t\r\n]*\[`)
	// blockList matches the line "routes:" above a list in which each entry begins with a hyphen.
	blockList = regexp.MustCompile(`^["']?routes["']?[ \t]*:[ \t]*(&\S+[ \t]*)?(#.*)?\r?\n?$`)
	// topKey matches a line that begins with a key of the document's top level.
	topKey = regexp.MustCompile(`^(["']?)[A-Za-z_][-A-Za-z0-9_.]*["']?[ \t]*:([ \t\r\n]|$)`)
	// entryStart matches the beginning of a route in a list with hyphens. flowStart matches the
	// beginning of a route in a list in brackets. Both recognize a route by its first key, because
	// entries of other lists have other keys.
	entryStart = regexp.MustCompile(`^[ \t]*-[ \t]+(\{[ \t]*)?["']?(host|path|exact|check|timeouts)["']?[ \t]*:`)
	flowStart  = regexp.MustCompile(`^\{[ \t\r\n]*["']?host["']?[ \t]*:`)
	aliasName  = regexp.MustCompile(`\*([^\s,\[\]{}"']+)`)
)

// sourceLine is a line of a file, with its line feed.
type sourceLine struct {
	text   string
	number int // from 1
	indent int // blanks and tabs at its start
}

func splitLines(data []byte) (lines []sourceLine) {
	for text := range strings.Lines(string(data)) {
		lines = append(lines, sourceLine{text, len(lines) + 1, len(text) - len(strings.TrimLeft(text, " \t"))})
	}
	return lines
}

func textOf(piece []sourceLine) string {
	var b strings.Builder
	for _, l := range piece {
		b.WriteString(l.text)
	}
	return b.String()
}

// blank reports whether the line is empty or contains only a comment.
func (l sourceLine) blank() bool {
	t := strings.TrimSpace(l.text)
	return t == "" || t[0] == '#'
}

// dash reports whether the line begins an entry of a list, which need not be the list "routes".
func (l sourceLine) dash() bool { return l.indent < len(l.text) && l.text[l.indent] == '-' }

// marker reports whether the line is a document marker, which ends a YAML document.
func (l sourceLine) marker() bool {
	word, _ := cutSpace(l.text)
	return word == "---" || word == "..."
}

// cutSpace returns the text up to the first white space, and the text after it.
func cutSpace(s string) (word, rest string) {
	if i := strings.IndexAny(s, " \t\r\n"); i >= 0 {
		return s[:i], s[i+1:]
	}
	return s, ""
}

// block reads a file in which each entry of the list "routes" begins with a hyphen in a new line.
func (s *salvaged) block(data []byte) {
	lines := splitLines(data)
	indent := entryIndent(lines)
	var piece []sourceLine
	var read func([]sourceLine) // the method that reads the piece
	begin := func(l sourceLine, next func([]sourceLine)) {
		if len(piece) > 0 {
			read(piece)
		}
		piece, read = []sourceLine{l}, next
	}
	flush := func() {
		if len(piece) > 0 {
			read(piece)
		}
		piece = nil
	}
	markedAt := 0 // the line of a document marker, if no line after it has content
	for _, l := range lines {
		switch {
		case l.blank():
			if err := checkText([]byte(l.text)); err != nil {
				s.others = append(s.others, syntaxError{l.number, err.message})
				continue
			}
			if len(piece) > 0 {
				piece = append(piece, l) // the line may be in the middle of a text
			}
			continue
		case l.marker():
			flush()
			markedAt = l.number
			continue
		case l.indent == 0 && topKey.MatchString(l.text):
			if markedAt > 0 {
				flush()
				s.list = nil
				s.roots = append(s.roots, emptyRoot(l.number))
			}
			if blockList.MatchString(l.text) {
				flush()
				s.beginList(l.number)
			} else {
				begin(l, s.key)
				s.list = nil
			}
		case len(piece) > 0 && (s.list == nil || l.indent > indent):
			piece = append(piece, l)
		case s.list != nil && l.dash() && l.indent == indent:
			if markedAt > 0 {
				s.others = append(s.others, syntaxError{markedAt, "this line ends the list in its middle"})
			}
			begin(l, s.blockEntry)
		case s.list != nil && l.dash():
			begin(l, s.misplaced)
		default:
			begin(l, s.stray)
			flush()
		}
		markedAt = 0
	}
	flush()
}

// entryIndent returns the indentation of most entries.
func entryIndent(lines []sourceLine) int {
	counts := map[int]int{}
	best := 0
	for _, l := range lines {
		if !entryStart.MatchString(l.text) {
			continue
		}
		counts[l.indent]++
		if n, most := counts[l.indent], counts[best]; n > most || n == most && l.indent < best {
			best = l.indent
		}
	}
	return best
}

func emptyRoot(line int) *yaml.Node {
	return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: line}
}

// root returns the top-level mapping of the YAML document that is being read. If no document has
// begun yet, root begins a document; the argument "line" is the number of its first line.
func (s *salvaged) root(line int) *yaml.Node {
	if len(s.roots) == 0 {
		s.roots = append(s.roots, emptyRoot(line))
	}
	return s.roots[len(s.roots)-1]
}

// beginList adds the key "routes", with an empty list, to the YAML document that is being read. The
// argument "line" is the number of the line with this key.
func (s *salvaged) beginList(line int) {
	root := s.root(line)
	s.list = &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Line: line}
	root.Content = append(root.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: "routes", Line: line}, s.list)
}

// key parses the lines of one top-level key of the file, with the value of the key. If the lines
// are valid YAML, it adds the key and the value to the present document. Otherwise it adds the
// syntax error to s.others.
func (s *salvaged) key(piece []sourceLine) {
	nodes, err := s.parse(keyPiece, textOf(piece), piece[0].number)
	if err != nil {
		s.others = append(s.others, *err)
		return
	}
	root := s.root(piece[0].number)
	root.Content = append(root.Content, nodes...)
}

// stray reports a line that is neither an entry nor a field, such as a conflict marker of git.
func (s *salvaged) stray(piece []sourceLine) {
	s.others = append(s.others, syntaxError{piece[0].number, quote(strings.TrimSpace(piece[0].text)) + " is neither an entry nor a field"})
}

const misplaced = "is indented differently from other entries"

func (s *salvaged) misplaced(piece []sourceLine) { s.bad(piece[0].number, misplaced) }

// blockEntry reads a piece: the lines from the beginning of one entry of the list of routes to the
// next line with the same indentation. If the next entry has by mistake a deeper indentation,
// blockEntry keeps the first entry of the piece and reports the second.
func (s *salvaged) blockEntry(piece []sourceLine) {
	n, err := s.item(piece)
	if err == nil {
		s.add(n)
		return
	}
	// Find the line with a hyphen where the second entry begins. The entries of one list have the same
	// indentation. So of all lines with a hyphen at the same indentation, only the first one can begin
	// the second entry.
	first := map[int]int{} // by indentation: the index of the first line with a hyphen
	for i, l := range piece[1:] {
		if _, ok := first[l.indent]; l.dash() && !ok {
			first[l.indent] = i + 1
		}
	}
	for i := len(piece) - 1; i > 0; i-- {
		if first[piece[i].indent] != i || !entryStart.MatchString(piece[i].text) {
			continue
		}
		if s.again -= len(textOf(piece[:i])); s.again < 0 {
			break
		}
		if n, err := s.item(piece[:i]); err == nil {
			s.add(n)
			s.bad(piece[i].number, misplaced)
			return
		}
	}
	s.bad(max(err.line, piece[0].number), err.message)
}

// item parses the lines of one entry.
func (s *salvaged) item(piece []sourceLine) (*yaml.Node, *syntaxError) {
	l := piece[0]
	return one(s.parse(form{before: l.text[:l.indent] + "- [%s]\n", lines: 1, skip: 1}, textOf(piece), l.number))
}

// flowEntry reads an entry of a list in brackets. The argument "text" is the text of the entry, and
// line is the number of its first line in the file.
func (s *salvaged) flowEntry(text string, line int) {
	if n, err := one(s.parse(flowPiece, text, line)); err == nil {
		s.add(n)
	} else {
		s.bad(max(err.line, line), err.message)
	}
}

func (s *salvaged) add(n *yaml.Node) {
	s.entries++
	s.list.Content = append(s.list.Content, n)
}

// bad reports that the parser cannot read an entry of the list. It adds an empty node in place of
// the entry, so that the indices of the other entries stay right.
func (s *salvaged) bad(line int, message string) {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: line}
	s.faults[n] = message
	s.list.Content = append(s.list.Content, n)
}

// flow reads a list "routes" that is written in brackets, as JSON writes it. Its first entry begins
// at data[at].
func (s *salvaged) flow(data []byte, at int) {
	if t := bytes.TrimSpace(data); t[0] != '{' {
		s.block(data[:bytes.LastIndexByte(data[:at], '\n')+1])
	}
	line := 1 + bytes.Count(data[:at], []byte("\n"))
	s.beginList(line)
	list := string(data[at:])
	for {
		entry, size, last := cutFlowEntry(list)
		text := strings.TrimLeft(entry, " \t\r\n")
		if text != "" {
			s.flowEntry(text, line+strings.Count(entry[:len(entry)-len(text)], "\n"))
		}
		line += strings.Count(list[:size], "\n")
		list = list[size:]
		if last {
			break
		}
	}
	if rest := strings.Trim(list, " \t\r\n},"); rest != "" {
		line += strings.Count(list[:strings.Index(list, rest)], "\n")
		s.others = append(s.others, syntaxError{line, "because of a fault of syntax above, nothing after the list is used"})
	}
}

// cutFlowEntry returns the first entry of a list in brackets, the number of bytes up to the next
// entry, and true if there is no next entry.
//
// An entry ends at a comma outside of its brackets and quotes. It also ends at a comma before
// "{host:", because a closing bracket or quote may be missing.
func cutFlowEntry(list string) (entry string, size int, last bool) {
	depth, quoted := 0, byte(0)
	before, comma := byte('['), 0 // the last byte that is not white space; the position of the last comma
	for i := 0; i < len(list); i++ {
		c := list[i]
		if c == '{' && before == ',' && i > 0 && flowStart.MatchString(list[i:]) {
			return list[:comma], i, false
		}
		switch {
		case quoted != 0:
			if c == '\\' && quoted == '"' {
				i++
			} else if c == quoted {
				quoted = 0
			}
		case (c == '"' || c == '\'') && strings.IndexByte("[{,:", before) >= 0:
			quoted = c
		case c == '#' && (i == 0 || strings.IndexByte(" \t\n", list[i-1]) >= 0):
			end := strings.IndexByte(list[i:], '\n')
			if end < 0 {
				return list, len(list), true
			}
			i += end
			continue
		case c == '[' || c == '{':
			depth++
		case c == ']' && depth <= 0:
			return list[:i], i + 1, true
		case c == ']' || c == '}':
			depth--
		case c == ',' && depth <= 0:
			return list[:i], i + 1, false
		}
		if c == ',' {
			comma = i
		}
		if c > ' ' {
			before = c
		}
	}
	return list, len(list), true
}

// form is a text with a gap. The method "parse" puts a piece of a file into the gap, so that the
// YAML parser can read the piece without the rest of the file.
type form struct {
	before, after string // "%s" in before stands for the anchors of earlier pieces
	lines, skip   int    // the number of lines in before, and the number of nodes that before adds
}

var (
	keyPiece  = form{before: "? [%s]\n: 0\n", lines: 2, skip: 2}
	flowPiece = form{before: "[[%s], ", after: "\n]", skip: 1}
)

// The function "one" returns the only element of nodes, the YAML nodes of a piece that the function
// "salvage" has cut out of a file. Such a piece must contain exactly one entry of the list of
// routes. If it contains no entry or several entries, the function returns an error.
func one(nodes []*yaml.Node, err *syntaxError) (*yaml.Node, *syntaxError) {
	if err != nil {
		return nil, err
	}
	if len(nodes) != 1 {
		return nil, &syntaxError{0, "is not one entry of a list"}
	}
	return nodes[0], nil
}

// parse puts one piece of a file into the gap of the form f, and parses the result. The argument
// "first" is the number of the piece's first line in the file.
func (s *salvaged) parse(f form, text string, first int) ([]*yaml.Node, *syntaxError) {
	if err := checkText([]byte(text)); err != nil {
		return nil, &syntaxError{err.line + first - 1, err.message}
	}
	var stubs strings.Builder
	for _, m := range aliasName.FindAllStringSubmatch(text, -1) {
		if s.anchors[m[1]] != nil {
			stubs.WriteString("&" + m[1] + " 0, ")
		}
	}
	shift := first - 1 - f.lines
	root, err := parseOne([]byte(strings.Replace(f.before, "%s", stubs.String(), 1) + text + f.after))
	if err != nil {
		most := first + max(0, strings.Count(strings.TrimRight(text, "\n"), "\n"))
		return nil, &syntaxError{min(max(first, err.line+shift), most), err.message}
	}
	if len(root.Content) < f.skip {
		return nil, &syntaxError{first, "is not complete"}
	}
	isStub := map[*yaml.Node]bool{}
	for _, n := range root.Content[0].Content {
		isStub[n] = true
	}
	nodes := root.Content[f.skip:]
	for _, n := range nodes {
		s.resolve(n, shift, isStub)
	}
	return nodes, nil
}

// parseOne returns the root of a text that contains one YAML document.
func parseOne(text []byte) (*yaml.Node, *syntaxError) {
	d := yaml.NewDecoder(bytes.NewReader(text))
	var doc, further yaml.Node
	if err := d.Decode(&doc); err != nil {
		return nil, yamlError(err, text)
	}
	if err := d.Decode(&further); !errors.Is(err, io.EOF) {
		return nil, &syntaxError{0, "contains the end of a document"}
	}
	return doc.Content[0], nil
}

// resolve changes the line numbers of a node from numbers within the piece to numbers within the
// file. It connects the aliases of the node with the nodes of earlier pieces, and stores the
// anchors of the node for later pieces.
func (s *salvaged) resolve(n *yaml.Node, shift int, isStub map[*yaml.Node]bool) {
	n.Line = max(1, n.Line+shift)
	if n.Alias != nil && isStub[n.Alias] {
		n.Alias = s.anchors[n.Value]
	}
	if n.Anchor != "" {
		s.anchors[n.Anchor] = n
	}
	for _, c := range n.Content {
		s.resolve(c, shift, isStub)
	}
}
