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

	kjson "k8s.io/apimachinery/pkg/util/json"
)

// maxNesting is how deep lists may lie within lists in a manifest. kubectl prints no list within a
// list.
const maxNesting = 4

// listWithoutKind is the message for a list without a kind. The list is probably truncated, because
// kubectl prints the kind after the items.
const listWithoutKind = "a list without kind; is it cut short?"

// parseJSON reads consecutive JSON values. If a value is not valid JSON, parseJSON stops and
// returns false. The batch then contains the objects before this value, and the problem of this
// value.
func parseJSON(doc document) (batch, bool) {
	b := batch{want: doc.want}
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

// jsonSyntax returns the line number and the message of a syntax error.
func jsonSyntax(doc document, err error) (int, string) {
	offset := len(doc.text)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		offset = min(int(syntax.Offset), len(doc.text))
	}
	return doc.line + bytes.Count(doc.text[:offset], []byte("\n")), oneLine("JSON: " + err.Error())
}

// lineCounter converts offsets in a text to line numbers. The caller must not pass an offset that
// is smaller than the offset of the previous call.
type lineCounter struct {
	text      []byte
	pos, line int
}

func (c *lineCounter) at(offset int) int {
	c.line += bytes.Count(c.text[c.pos:offset], []byte("\n"))
	c.pos = offset
	return c.line
}

// decodeValue reads an object, or a list of objects, from valid JSON. The function lineAt converts
// an offset in data to a line number. decodeValue never passes to it a smaller offset than before.
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

// parallel calls the function "work" for each i from 0 to n-1, on all processors. It adds the
// results to b in the order of i.
func (b *batch) parallel(n int, work func(i int, out *batch)) {
	results := newBatches(n, b.want)
	parallel(n, func(i int) { work(i, &results[i]) })
	for i := range results {
		b.add(results[i])
	}
}

// parallel calls the function "work" for each i from 0 to n-1, on all processors. It returns when
// all calls have returned.
func parallel(n int, work func(i int)) {
	var next atomic.Int64
	run := func() {
		for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
			work(i)
		}
	}
	var workers sync.WaitGroup
	if n >= 16 { // for fewer, the goroutines cost more time than they save
		for range min(runtime.GOMAXPROCS(0), n) - 1 {
			workers.Go(run)
		}
	}
	run()
	workers.Wait()
}

// value is a JSON value within a longer text. start is the offset of the value in this text.
type value struct {
	text  []byte
	start int
}

// nextValue returns the next value that dec reads, and io.EOF at the end.
func nextValue(dec *json.Decoder) (value, error) {
	var text json.RawMessage
	if err := dec.Decode(&text); err != nil {
		return value{}, err
	}
	return value{text, int(dec.InputOffset()) - len(text)}, nil
}

var (
	errNotObject = errors.New("not an object")
	errNotArray  = errors.New("not an array")
)

// readHead reads kind and apiVersion of an object, and finds the text of its items. It does not
// decode the items, because decodeItems needs the place of each item in the text.
func readHead(data []byte) (headDoc, error) {
	var head headDoc
	dec := json.NewDecoder(bytes.NewReader(data))
	if token, err := dec.Token(); err != nil || token != json.Delim('{') {
		return head, errNotObject
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return head, err
		}
		v, err := nextValue(dec)
		if err != nil {
			return head, err
		}
		switch key {
		case "items":
			if head.Items = v; string(v.text) == "null" {
				head.Items = value{}
			}
		case "kind":
			err = kjson.Unmarshal(v.text, &head.Kind)
		case "apiVersion":
			err = kjson.Unmarshal(v.text, &head.APIVersion)
		}
		if err != nil {
			return head, err
		}
	}
	return head, nil
}

// elements returns the texts of an array's elements, without decoding them.
func elements(array []byte) ([]value, error) {
	dec := json.NewDecoder(bytes.NewReader(array))
	if token, err := dec.Token(); err != nil || token != json.Delim('[') {
		return nil, errNotArray
	}
	var items []value
	for dec.More() {
		item, err := nextValue(dec)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}
