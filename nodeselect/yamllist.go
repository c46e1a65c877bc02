package nodeselect

import (
	"bytes"
	"strings"
	"sync"
)

// What kubectl prints is YAML of a very regular shape, and megabytes of it: a
// full parser needs seconds for a large cluster. So text is read by fastYAML,
// which knows a part of YAML in which every line means one thing, gives up on
// anything else, and otherwise gives the very JSON that the full parser gives
// (TestFastYAML and FuzzFastYAML hold the two together).
//
// Lists are read item by item, so that one unusual item does not make the whole
// list slow, and a broken one does not lose the others. The cut is right where
// every piece is YAML by itself: such a piece leaves the parser at the beginning
// of a line with nothing open, which is how the next piece finds it. Where a piece
// is not, a quotation may go on over the cut, and the full parser reads the whole
// document before any piece is given up.

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
	at := func(int) int { return line }
	apiVersion, kind := list.itemKind()
	p := fastPool.Get().(*fastYAML)
	defer fastPool.Put(p)
	if p.reset(text, true); p.item() {
		b.decodeNested(p.out, at, apiVersion, kind, 1)
		return true
	}
	array, err := yamlToJSON(text)
	if err != nil {
		b.badYAML(document{text, line}, err)
		return false
	}
	elements, _, ok := elements(nil, array)
	if !ok || len(elements) != 1 {
		b.bad(line, "not an item of a list")
		return false
	}
	b.decodeNested(array[elements[0].start:elements[0].end], at, apiVersion, kind, 1)
	return true
}

var fastPool = sync.Pool{New: func() any { return new(fastYAML) }}

// fastDocument reads a document that holds one object, if fastYAML can.
func fastDocument(doc document) (batch, bool) {
	var b batch
	p := fastPool.Get().(*fastYAML)
	defer fastPool.Put(p)
	if p.reset(doc.text, true); !p.document() {
		return b, false
	}
	b.decodeValue(p.out, func(int) int { return doc.line })
	return b, true
}

// listHead reads what stands around the items of a list.
func listHead(before, after []byte) (headDoc, bool) {
	var head headDoc
	keys := map[string]bool{"items": true}
	for _, text := range [][]byte{before, after} {
		if isBlank(text) {
			continue
		}
		var p fastYAML
		if p.reset(text, false); !p.document() {
			return head, false
		}
		for _, key := range p.top {
			name := string(text[key.start:key.end])
			if keys[name] {
				return head, false
			}
			keys[name] = true
		}
		part := headDoc{}
		if peek(p.out, &part) != nil {
			return head, false
		}
		head.Kind += part.Kind
		head.APIVersion += part.APIVersion
	}
	return head, true
}

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
