package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
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
	dec := json.NewDecoder(bytes.NewReader(doc.text))
	for {
		v, err := nextValue(dec)
		if errors.Is(err, io.EOF) {
			return b, true
		}
		if err != nil {
			b.bad(jsonSyntax(doc, err))
			return b, false
		}
		b.decodeValue(v.text, func(offset int) int { return lines.at(v.start + offset) })
	}
}

// jsonSyntax gives line and message of a syntax error.
func jsonSyntax(doc document, err error) (int, string) {
	offset := len(doc.text)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		offset = min(int(syntax.Offset), len(doc.text))
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
	head, err := readHead(data)
	if err != nil {
		_, message := decodeError(data, err)
		b.bad(line, message)
		return
	}
	if head.Kind == "" && head.APIVersion == "" {
		head.Kind, head.APIVersion = kind, apiVersion
	}
	switch {
	case head.Kind == "" && head.Items.text != nil:
		b.bad(line, listWithoutKind)
	case head.Kind == "":
		b.bad(line, "an object without kind")
	case head.Items.text != nil && !strings.HasSuffix(head.Kind, "List"):
		b.bad(line, fmt.Sprintf("kind %q has items but is no list; is it cut short?", head.Kind))
	case head.Items.text == nil:
		b.decodeObject(data, line, head.APIVersion, head.Kind)
	case depth >= maxNesting:
		b.bad(line, "lists in lists, too deep")
	default:
		b.decodeItems(head, lineAt, depth)
	}
}

func (b *batch) decodeItems(head headDoc, lineAt func(int) int, depth int) {
	items, err := elements(head.Items.text)
	if err != nil {
		b.bad(lineAt(0), head.Kind+": items is not a list")
		return
	}
	apiVersion, kind := head.itemKind()
	lines := make([]int, len(items))
	for i, item := range items {
		lines[i] = lineAt(head.Items.start + item.start)
	}
	b.parallel(len(items), func(i int, out *batch) {
		out.decodeNested(items[i].text, func(int) int { return lines[i] }, apiVersion, kind, depth+1)
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
