package manifest

import (
	"bytes"
	"errors"
	"regexp"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// parseYAML reads one YAML document as a whole.
func parseYAML(doc document) batch {
	var b batch
	text, err := yamlToJSON(doc.text)
	if err != nil {
		b.badYAML(doc, err)
		return b
	}
	b.decodeValue(text, func(int) int { return doc.line })
	return b
}

var errTrailing = errors.New("text behind the end of the document's value")

// yamlToJSON converts one YAML document to JSON.
//
// The YAML parser stops at the end of the outermost value and silently ignores the rest. A value
// that can end early (a closing brace, or a line with less indentation than the first) is therefore
// made the element of a sequence. The sequence ends only at the end of the text, so the parser
// reports an error for the rest.
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

// asElement puts a dash before the value of a document. It is false for a block that begins in the
// first column, which cannot end early.
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

// badYAML adds an error of the YAML parser. The parser counts lines from 1, but from 0 in errors
// that say "did not find expected". It also counts a single carriage return as a line break, which
// editors do not, so its line may be after the end of the document.
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

// parseListByItems reads a document that is a list and whose items are a block sequence. For a
// large cluster kubectl prints one list with megabytes of YAML. parseListByItems cuts the list into
// its items, so that all processors work on it, and so that a mistake costs one item only and its
// line is known. It is false if the document is not such a list.
//
// The cut is correct if each piece is valid YAML: at the end of such a piece the parser is at the
// beginning of a line with nothing open, which is its state at the start of the next piece. If a
// piece is not valid, a quoted text may cross the cut. Then the whole document is parsed before any
// item is reported as broken.
func parseListByItems(doc document) (batch, bool) {
	before, items, after, ok := cutItems(doc.text)
	if !ok {
		return batch{}, false
	}
	head, ok := listHead(before, after)
	if !ok || head.Kind != "" && !strings.HasSuffix(head.Kind, "List") {
		return batch{}, false
	}
	lines := make([]int, len(items))
	counter := lineCounter{text: doc.text, line: doc.line}
	for i, item := range items {
		lines[i] = counter.at(item.start)
	}
	results := make([]batch, len(items))
	alone := make([]bool, len(items))
	parallel(len(items), func(i int) {
		alone[i] = results[i].decodeYAMLItem(doc.text[items[i].start:items[i].end], lines[i], head)
	})
	for i := range alone {
		if alone[i] {
			continue
		}
		if text, err := yamlToJSON(doc.text); err == nil {
			var b batch
			b.decodeValue(text, func(int) int { return doc.line })
			return b, true
		}
		break
	}
	var b batch
	if head.Kind == "" {
		b.bad(doc.line, listWithoutKind)
		return b, true
	}
	for i := range results {
		b.add(results[i])
	}
	return b, true
}

// decodeYAMLItem reads one item, including its dash. It is false if the item is not valid YAML.
func (b *batch) decodeYAMLItem(text []byte, line int, list headDoc) bool {
	array, err := yamlToJSON(text)
	if err != nil {
		b.badYAML(document{text, line}, err)
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

// listHead parses a list without its items: before and after are the text around them.
func listHead(before, after []byte) (headDoc, bool) {
	text, err := yamlToJSON(bytes.Join([][]byte{before, []byte("items: []\n"), after}, nil))
	if err != nil {
		return headDoc{}, false
	}
	head, err := readHead(text)
	return head, err == nil && string(head.Items.text) == "[]" // false if the cut was inside a quoted text
}

type span struct{ start, end int }

// cutItems finds the items of the block sequence after the line "items:". An item begins at its
// line "- …" and ends where the next item begins.
func cutItems(text []byte) (before []byte, items []span, after []byte, ok bool) {
	pos := 0
	if !bytes.HasPrefix(text, []byte("items:\n")) {
		i := bytes.Index(text, []byte("\nitems:\n"))
		if i < 0 {
			return nil, nil, nil, false
		}
		pos = i + 1
	}
	before = text[:pos]
	indent := -1 // of the dashes
	for pos += len("items:\n"); pos < len(text); {
		end, next := lineEnd(text, pos)
		spaces := pos
		for spaces < end && text[spaces] == ' ' {
			spaces++
		}
		n := spaces - pos
		switch {
		case spaces == end || text[spaces] == '#' || indent >= 0 && (n > indent || text[spaces] == '\t'):
			// Blank, a comment, or inside an item. YAML does not allow tabs as indentation.
		case text[spaces] == '-' && (spaces+1 == end || text[spaces+1] == ' ') && (indent < 0 || n == indent):
			indent = n
			if len(items) > 0 {
				items[len(items)-1].end = pos
			}
			items = append(items, span{pos, len(text)})
		case len(items) == 0 || n != 0:
			return nil, nil, nil, false
		default:
			items[len(items)-1].end = pos
			return before, items, text[pos:], true
		}
		pos = next
	}
	return before, items, nil, len(items) > 0
}
