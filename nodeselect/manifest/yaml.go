package manifest

import (
	"bytes"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// parseYAML parses one YAML document as a whole, and not object by object.
func parseYAML(doc document) batch {
	b := batch{want: doc.want}
	text, err := yamlToJSON(doc.text)
	if err != nil {
		b.badYAML(doc, err)
		return b
	}
	b.decodeValue(text, func(int) int { return doc.line })
	return b
}

var errTrailing = errors.New("text behind the end of the document's value")

// yamlToJSON converts one YAML document to JSON. Text after the document's value is an error.
//
// In some cases, the YAML parser ignores text after the value: after a closing brace, or with less
// indentation than the value. In these cases, yamlToJSON puts the value into a sequence with one
// element. A sequence ends only at the end of the text, so the parser then reports any text after
// the value.
func yamlToJSON(text []byte) ([]byte, error) {
	wrapped, ok := asElement(text)
	if !ok {
		return yaml.YAMLToJSONStrict(text)
	}
	array, err := yaml.YAMLToJSONStrict(wrapped)
	if err != nil {
		return nil, err
	}
	items, err := elements(array)
	if err != nil || len(items) != 1 {
		return nil, errTrailing
	}
	return items[0].text, nil
}

// asElement puts a dash before the value of a document. This makes the value an element of a YAML
// sequence, which the parser reads up to the end of the text.
//
// If a value begins in the first column, and not with a brace or bracket, the parser reads up to
// the end of the text even without the dash. asElement then returns false.
func asElement(text []byte) ([]byte, bool) {
	pos := 0
	for pos < len(text) {
		end, next := lineEnd(text, pos)
		if !isBlank(text[pos:end]) {
			break
		}
		pos = next
	}
	before, rest := text[:pos], text[pos:]
	if marker, bare := documentMarker(firstLine(rest)); marker && !bare {
		rest = bytes.TrimLeft(rest[3:], " \t")
	}
	value := bytes.TrimLeft(rest, " ")
	indent := len(rest) - len(value)
	switch {
	case len(value) > 0 && (value[0] == '{' || value[0] == '['):
		return bytes.Join([][]byte{before, []byte("- "), value}, nil), true
	case indent >= 2: // the columns stay as they are
		return bytes.Join([][]byte{before, []byte("- "), rest[2:]}, nil), true
	case indent == 1:
		return bytes.Join([][]byte{before, []byte("-\n"), rest}, nil), true
	}
	return nil, false
}

func firstLine(text []byte) []byte {
	end, _ := lineEnd(text, 0)
	return text[:end]
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

// badYAML adds a problem for an error of the YAML parser, and corrects its line number. The parser
// counts lines from 1, except in the error "did not find expected", where it counts from 0. It also
// counts a carriage return without a line feed as a line break, so its number may be larger than
// the number of lines.
func (b *batch) badYAML(doc document, err error) {
	message := oneLine(err.Error())
	line := 0
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		line, _ = strconv.Atoi(m[1])
		if !strings.Contains(message, "did not find expected") {
			line--
		}
		message = strings.Replace(message, m[0], "", 1)
	}
	message = strings.TrimPrefix(message, "error converting YAML to JSON: ")
	message = strings.TrimPrefix(strings.TrimPrefix(message, "yaml: "), "unmarshal errors: ")
	last := bytes.Count(bytes.TrimRight(doc.text, "\r\n"), []byte("\n"))
	b.bad(doc.line+max(0, min(line, last)), "YAML: "+message)
}

// parseListByItems reads a document with a list whose items are a block sequence, the form in which
// kubectl prints a large cluster. For other documents, it returns false. It cuts the list into its
// items. So all processors can work on the list, and a mistake affects only one item, whose line is
// known.
//
// If each piece is valid YAML, the cuts are correct, because no quote or bracket is open at the end
// of a piece. If a piece is not valid, a cut may be inside a quoted text, so parseListByItems
// parses the whole document. If the whole document is not valid either, parseListByItems reports
// the mistakes of the pieces.
//
// On two cores, a list of 5,000 nodes (31 MB) takes 2.6 s in this way, and 6.2 s as a whole.
func parseListByItems(doc document) (batch, bool) {
	list, ok := cutItems(doc.text)
	if !ok {
		return batch{}, false
	}
	head, ok := list.head()
	if !ok || head.Kind != "" && !strings.HasSuffix(head.Kind, "List") {
		return batch{}, false
	}
	lines := make([]int, len(list.items))
	counter := lineCounter{text: doc.text, line: doc.line}
	for i, item := range list.items {
		lines[i] = counter.at(item.start)
	}
	results := newBatches(len(list.items), doc.want)
	valid := make([]bool, len(list.items))
	parallel(len(list.items), func(i int) {
		valid[i] = results[i].decodeYAMLItem(doc.text[list.items[i].start:list.items[i].end], lines[i], head)
	})
	b := batch{want: doc.want}
	if slices.Contains(valid, false) {
		if text, err := yamlToJSON(doc.text); err == nil {
			b.decodeValue(text, func(int) int { return doc.line })
			return b, true
		}
	}
	if head.Kind == "" {
		b.bad(doc.line, listWithoutKind)
		return b, true
	}
	for i := range results {
		b.add(results[i])
	}
	return b, true
}

// decodeYAMLItem reads one item of a list. text includes the dash of the item. decodeYAMLItem
// returns false if text is not valid YAML.
func (b *batch) decodeYAMLItem(text []byte, line int, list headDoc) bool {
	array, err := yamlToJSON(text)
	if err != nil {
		b.badYAML(document{text: text, line: line}, err)
		return false
	}
	items, err := elements(array)
	if err != nil || len(items) != 1 {
		b.bad(line, "not an item of a list")
		return false
	}
	apiVersion, kind := list.itemKind()
	b.decodeNested(items[0].text, func(int) int { return line }, apiVersion, kind, 1)
	return true
}

// listText is the text of a list in three parts: the text before the items, the items, and the text
// after the items.
type listText struct {
	before, after []byte
	items         []span
}

// span is the part of a text from offset start up to, but not including, offset end.
type span struct{ start, end int }

// head parses the list without its items.
func (l listText) head() (headDoc, bool) {
	text, err := yamlToJSON(bytes.Join([][]byte{l.before, []byte("items: []\n"), l.after}, nil))
	if err != nil {
		return headDoc{}, false
	}
	head, err := readHead(text)
	return head, err == nil && string(head.Items.text) == "[]" // false if the cut was inside a quoted text
}

// cutItems finds the items in the block sequence after the line "items:". Each item begins with a
// line "- …", and ends where the next item begins. cutItems returns false if it finds no such
// sequence.
func cutItems(text []byte) (listText, bool) {
	pos := 0
	if !bytes.HasPrefix(text, []byte("items:\n")) {
		i := bytes.Index(text, []byte("\nitems:\n"))
		if i < 0 {
			return listText{}, false
		}
		pos = i + 1
	}
	list := listText{before: text[:pos]}
	indent := -1 // number of spaces before each dash; -1 until the first dash
	for pos += len("items:\n"); pos < len(text); {
		end, next := lineEnd(text, pos)
		spaces := pos
		for spaces < end && text[spaces] == ' ' {
			spaces++
		}
		n := spaces - pos
		switch {
		case spaces == end || text[spaces] == '#' || indent >= 0 && (n > indent || text[spaces] == '\t'):
			// This line does not begin an item: it is blank, a comment, or a further line of an
			// item. A line that begins with a tab is such a further line, because YAML does not
			// allow tabs as indentation.
		case text[spaces] == '-' && (spaces+1 == end || text[spaces+1] == ' ') && (indent < 0 || n == indent):
			indent = n
			if len(list.items) > 0 {
				list.items[len(list.items)-1].end = pos
			}
			list.items = append(list.items, span{pos, len(text)})
		case len(list.items) == 0 || n != 0:
			return listText{}, false
		default:
			list.items[len(list.items)-1].end = pos
			list.after = text[pos:]
			return list, true
		}
		pos = next
	}
	return list, len(list.items) > 0
}
