package nodeselect

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	kjson "k8s.io/apimachinery/pkg/util/json"
)

// maxNesting is how deep lists may stand in lists. kubectl prints none.
const maxNesting = 4

// kubectl prints the kind of a list behind its items.
const listWithoutKind = "a list without kind; is it cut short?"

// parseJSON reads JSON values one after the other. It is false if one of them is
// not JSON; what came before it is in the batch together with the problem.
func parseJSON(doc document) (batch, bool) {
	var b batch
	lines := lineCounter{text: doc.text, line: doc.line}
	for pos := skipSpace(doc.text, 0); pos < len(doc.text); {
		end := skipValue(doc.text, pos)
		if end < 0 || !validJSON(doc.text[pos:end]) {
			b.bad(jsonSyntax(doc, pos))
			return b, false
		}
		start := pos
		b.decodeValue(doc.text[pos:end], func(offset int) int { return lines.at(start + offset) })
		pos = skipSpace(doc.text, end)
	}
	return b, true
}

// validJSON is json.Valid on all processors: the elements of a list are checked
// apart from each other, and so is what is around them with a 0 in place of each.
func validJSON(data []byte) bool {
	var head headDoc
	if len(data) < 1<<16 || peek(data, &head) != nil {
		return json.Valid(data)
	}
	items, base, ok := elements(data, head.Items)
	if !ok || base == 0 {
		return json.Valid(data)
	}
	var around []byte
	pos := 0
	for _, item := range items {
		around = append(append(around, data[pos:base+item.start]...), '0')
		pos = base + item.end
	}
	around = append(around, data[pos:]...)
	var invalid atomic.Bool
	parallel(len(items), func(i int) {
		if !json.Valid(head.Items[items[i].start:items[i].end]) {
			invalid.Store(true)
		}
	})
	return json.Valid(around) && !invalid.Load()
}

// jsonSyntax gives line and message of the syntax error in the value at pos.
func jsonSyntax(doc document, pos int) (int, string) {
	var value json.RawMessage
	err := json.NewDecoder(bytes.NewReader(doc.text[pos:])).Decode(&value)
	offset := len(doc.text)
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		offset = pos + min(int(syntax.Offset), len(doc.text)-pos)
	case err == nil:
		err = errors.New("not a JSON value")
		offset = pos
	}
	return doc.line + bytes.Count(doc.text[:offset], []byte("\n")), oneLine("JSON: " + err.Error())
}

// lineCounter counts lines up to offsets that only grow.
type lineCounter struct {
	text      []byte
	pos, line int
}

func (c *lineCounter) at(offset int) int {
	c.line += bytes.Count(c.text[c.pos:offset], []byte("\n"))
	c.pos = offset
	return c.line
}

// decodeValue reads an object or a list of objects in valid JSON. lineAt gives
// the line of an offset in data, and is asked for growing offsets.
func (b *batch) decodeValue(data []byte, lineAt func(offset int) int) {
	b.decodeNested(data, lineAt, "", "", 0)
}

func (b *batch) decodeNested(data []byte, lineAt func(int) int, apiVersion, kind string, depth int) {
	line := lineAt(0)
	var head headDoc
	if err := peek(data, &head); err != nil {
		_, message := decodeError(data, err)
		b.bad(line, message)
		return
	}
	if head.Kind == "" && head.APIVersion == "" {
		head.Kind, head.APIVersion = kind, apiVersion
	}
	switch {
	case head.Kind == "" && head.Items != nil:
		b.bad(line, listWithoutKind)
	case head.Kind == "":
		b.bad(line, "an object without kind")
	case head.Items != nil && !strings.HasSuffix(head.Kind, "List"):
		b.bad(line, fmt.Sprintf("kind %q has items but is no list; is it cut short?", head.Kind))
	case head.Items == nil:
		b.decodeObject(data, line, head.APIVersion, head.Kind)
	case depth >= maxNesting:
		b.bad(line, "lists in lists, too deep")
	default:
		b.decodeItems(data, head, lineAt, depth)
	}
}

func (b *batch) decodeItems(data []byte, head headDoc, lineAt func(int) int, depth int) {
	items, base, ok := elements(data, head.Items)
	if !ok {
		b.bad(lineAt(0), head.Kind+": items is not a list")
		return
	}
	apiVersion, kind := head.itemKind()
	lines := make([]int, len(items))
	for i, item := range items {
		lines[i] = lineAt(base + item.start)
	}
	b.parallel(len(items), func(i int, out *batch) {
		text := head.Items[items[i].start:items[i].end]
		out.decodeNested(text, func(int) int { return lines[i] }, apiVersion, kind, depth+1)
	})
}

// parallel runs work for 0 to n-1 on all processors and adds the batches in
// order.
func (b *batch) parallel(n int, work func(i int, out *batch)) {
	results := make([]batch, n)
	parallel(n, func(i int) { work(i, &results[i]) })
	for i := range results {
		b.add(results[i])
	}
}

// parallel runs work for 0 to n-1 on all processors and returns when all are
// done.
func parallel(n int, work func(i int)) {
	var next atomic.Int64
	run := func() {
		for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
			work(i)
		}
	}
	var workers sync.WaitGroup
	if n >= 16 { // below, starting goroutines costs more than it saves
		for range min(runtime.GOMAXPROCS(0), n) - 1 {
			workers.Go(run)
		}
	}
	run()
	workers.Wait()
}

// peek reads the head of valid JSON without decoding the rest. It does what
// kjson.Unmarshal does, for which it falls back on anything unusual.
func peek(data []byte, head *headDoc) error {
	pos := skipSpace(data, 0)
	if pos >= len(data) || data[pos] != '{' {
		return errNotObject
	}
	*head = headDoc{}
	for pos = skipSpace(data, pos+1); pos < len(data) && data[pos] == '"'; pos = skipSpace(data, pos) {
		keyEnd := skipString(data, pos)
		if keyEnd < 0 {
			break
		}
		key := data[pos+1 : keyEnd-1]
		start := skipSpace(data, skipSpace(data, keyEnd)+1) // past the colon
		end := skipValue(data, start)
		if end < 0 {
			break
		}
		value := data[start:end]
		switch {
		case bytes.IndexByte(key, '\\') >= 0:
			return kjson.Unmarshal(data, head)
		case string(key) == "items":
			head.Items = value
			if string(value) == "null" {
				head.Items = nil
			}
		case string(key) == "kind":
			if err := kjson.Unmarshal(value, &head.Kind); err != nil {
				return err
			}
		case string(key) == "apiVersion":
			if err := kjson.Unmarshal(value, &head.APIVersion); err != nil {
				return err
			}
		}
		pos = skipSpace(data, end)
		if pos < len(data) && data[pos] == ',' {
			pos++
		}
	}
	return nil
}

var errNotObject = errors.New("not an object")
