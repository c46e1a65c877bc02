package manifest

import (
	"bytes"
	"strings"
)

// What kubectl prints of a large cluster is megabytes of YAML, one list. It is cut
// at its items, so that all processors read it, and a broken item neither loses the
// others nor hides the line that it is on.
//
// The cut is right where every piece is YAML by itself: such a piece leaves the
// parser at the beginning of a line with nothing open, which is how the next piece
// finds it. Where a piece is not, a quotation may go on over the cut, and the
// document is read as a whole before any piece is given up.

// parseListByItems reads a document whose items are a block sequence.
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

// decodeYAMLItem reads an item with the dash before it. It is false if that is
// not YAML by itself.
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

// listHead reads what stands around the items of a list.
func listHead(before, after []byte) (headDoc, bool) {
	text, err := yamlToJSON(bytes.Join([][]byte{before, []byte("items: []\n"), after}, nil))
	if err != nil {
		return headDoc{}, false
	}
	head, err := readHead(text)
	return head, err == nil && string(head.Items.text) == "[]" // not so within a quotation
}

type span struct{ start, end int }

// cutItems finds the lines "- …" of the sequence that follows a line "items:".
// Each item ends where the next begins.
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
			// Blank, a comment, or inside an item; nothing of YAML begins behind a tab.
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
