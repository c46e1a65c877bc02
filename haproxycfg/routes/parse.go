package routes

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// MaxFileBytes is the largest size of a declaration file.
const MaxFileBytes = 16 << 20

const (
	// aliasBudget is the largest number of YAML nodes that the aliases of a file may add to the
	// file.
	aliasBudget = 1 << 20
	// maxProblems is the largest number of problems that Parse returns for one file.
	maxProblems = 10_000
)

// Parse reads a declaration file, YAML or JSON. The argument "file" is its name in problems. Parse
// leaves out each route that has a problem, and keeps the others. The table is empty if Parse finds
// no entry, if the file is larger than MaxFileBytes, or if it has no "routes".
//
// Problems are sorted by line, and have File and Line. They also have Field, except a problem of
// the whole file. Parse returns at most 10,000 problems. If there are more, the last problem says
// so.
func Parse(file string, data []byte) (Table, []Problem) {
	whole := func(line int, message string) (Table, []Problem) {
		return Table{}, []Problem{{File: file, Line: line, Message: message + "; nothing of this file is used"}}
	}
	if len(data) > MaxFileBytes {
		return whole(1, fmt.Sprintf("the file has %d bytes, more than %d", len(data), MaxFileBytes))
	}
	roots, syntax := documents(data)
	var rest salvaged
	if syntax != nil {
		if rest = salvage(data); rest.entries == 0 {
			return whole(syntax.line, syntax.message)
		}
		roots = rest.roots
	}
	if len(roots) == 0 {
		return whole(1, "the file is empty; an intended empty table says routes: []")
	}
	c := newCollector(file, len(data))
	c.faults = rest.faults
	if syntax != nil && len(rest.faults) == 0 && len(rest.others) == 0 {
		rest.others = []syntaxError{*syntax}
	}
	for _, fault := range rest.others {
		c.report(fault.line, "routes", fault.message+"; the entries around it are used")
	}
	for _, root := range roots {
		c.document(root)
	}
	return c.table()
}

// collector is a decoder that collects the problems of a file.
type collector struct {
	decoder
	problems []Problem
}

// newCollector returns the collector for a file. size is the number of bytes of the file.
func newCollector(file string, size int) *collector {
	c := &collector{decoder: decoder{file: file, top: "routes", budget: size + aliasBudget, limit: MaxRoutes}}
	c.report = func(line int, field, message string) {
		if len(c.problems) <= maxProblems {
			c.problems = append(c.problems, Problem{file, max(line, 1), field, message})
		}
	}
	return c
}

// table returns the routes and the problems of the file.
func (c *collector) table() (Table, []Problem) {
	t, conflicts := build(c.declarations, MaxRoutes)
	return t, c.sortedProblems(conflicts)
}

// sortedProblems returns the problems of the file and the conflicts between its routes, by line.
func (c *collector) sortedProblems(conflicts []Problem) []Problem {
	problems := append(c.problems, conflicts...)
	slices.SortStableFunc(problems, func(a, b Problem) int { return a.Line - b.Line })
	if len(problems) > maxProblems {
		problems = problems[:maxProblems]
		problems[maxProblems-1] = Problem{c.file, problems[maxProblems-1].Line, "routes", "there are further problems, which are not listed"}
	}
	return problems
}

// documents returns the root of each YAML document of a file, without empty documents. If the file
// is valid JSON, documents reads it as JSON, because YAML 1.1 has no escape `\/`, no surrogate
// pairs, and no tabs between tokens.
func documents(data []byte) ([]*yaml.Node, *syntaxError) {
	data = bytes.TrimPrefix(data, []byte("\uFEFF"))
	if err := checkText(data); err != nil {
		return nil, err
	}
	if trimmed := bytes.TrimLeft(data, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '{' && json.Valid(data) {
		return jsonDocument(data)
	}
	var roots []*yaml.Node
	for d := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return roots, nil
		}
		if err != nil {
			return nil, yamlError(err, data)
		}
		if doc.Kind != yaml.DocumentNode || len(doc.Content) == 0 {
			continue
		}
		if root := doc.Content[0]; root.ShortTag() != "!!null" {
			roots = append(roots, root)
		}
	}
}

// checkText refuses characters that YAML forbids in a file (YAML 1.2, section 5.1), which the
// parser would report without a line number. It also refuses characters that end a line for the
// parser (YAML 1.1) but not for editors: with them, a person could see a comment where the parser
// sees a route.
func checkText(data []byte) *syntaxError {
	line := 1
	for i := 0; i < len(data); {
		c := data[i]
		if c == '\n' {
			line++
		}
		lineEnd := c == '\n' || c == '\r' && i+1 < len(data) && data[i+1] == '\n'
		if ' ' <= c && c < 0x7F || c == '\t' || lineEnd {
			i++
			continue
		}
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return &syntaxError{line, fmt.Sprintf("the byte 0x%02x is not UTF-8", c)}
		}
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r == '\uFEFF' || r&^1 == 0xFFFE {
			return &syntaxError{line, fmt.Sprintf("the character %s may not stand in a file", strconv.QuoteRuneToASCII(r))}
		}
		i += n
	}
	return nil
}

// jsonDocument returns the nodes that the YAML parser would return for a file of valid JSON.
func jsonDocument(data []byte) ([]*yaml.Node, *syntaxError) {
	r := jsonReader{dec: json.NewDecoder(bytes.NewReader(data)), data: data, line: 1}
	r.dec.UseNumber()
	root, err := r.value()
	if err != nil {
		return nil, &syntaxError{r.line, err.Error()}
	}
	return []*yaml.Node{root}, nil
}

type jsonReader struct {
	dec  *json.Decoder
	data []byte
	line int // the line of data[at]
	at   int
}

// token returns the next token, and sets r.line to its line. A token of JSON never spans several
// lines.
func (r *jsonReader) token() (json.Token, error) {
	t, err := r.dec.Token()
	end := int(r.dec.InputOffset())
	r.line += bytes.Count(r.data[r.at:end], []byte("\n"))
	r.at = end
	return t, err
}

// value reads one value. It calls itself for the values inside. The recursion is at most 10,000
// deep, because json.Valid has refused files that are nested deeper.
func (r *jsonReader) value() (*yaml.Node, error) {
	t, err := r.token()
	if err != nil {
		return nil, err
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: r.line}
	switch v := t.(type) {
	case json.Delim:
		n.Kind, n.Tag = yaml.MappingNode, "!!map"
		if v == '[' {
			n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		}
		for r.dec.More() {
			c, err := r.value()
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, c)
		}
		_, err = r.token()
	case string:
		n.Tag, n.Value = "!!str", v
	case json.Number:
		n.Tag, n.Value = "!!float", v.String()
		if isDigits(strings.TrimPrefix(n.Value, "-")) {
			n.Tag = "!!int"
		}
	case bool:
		n.Tag, n.Value = "!!bool", strconv.FormatBool(v)
	default:
		n.Tag = "!!null"
	}
	return n, err
}

// syntaxError is a fault of the syntax of a file, or of one entry of a file.
type syntaxError struct {
	line    int
	message string
}

// yamlError returns an error of the YAML parser with the line of the fault. The parser itself names
// a wrong line, or no line:
//
//   - For a token in the first line of the file, it names no line.
//   - For a fault in a flow collection, it names the line of the opening bracket, counted from 0.
//   - For a fault in a block, it names the line where the block begins, perhaps thousands of lines
//     above.
//   - For an unknown alias, it names no line.
func yamlError(err error, data []byte) *syntaxError {
	message, line := strings.TrimPrefix(err.Error(), "yaml: "), 1
	if rest, ok := strings.CutPrefix(message, "line "); ok {
		if number, text, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(number); err == nil {
				line, message = n, text
			}
		}
	}
	anchor, isAnchor := strings.CutPrefix(message, "unknown anchor '")
	switch {
	case isAnchor:
		name := strings.TrimSuffix(anchor, "' referenced")
		before, _, _ := bytes.Cut(data, []byte("*"+name))
		line = 1 + bytes.Count(before, []byte("\n"))
	case strings.HasPrefix(message, "did not find expected key"),
		strings.HasPrefix(message, "did not find expected '-' indicator"):
		line = linesUntilError(data)
	case strings.HasPrefix(message, "did not find expected ','"),
		strings.HasPrefix(message, "did not find expected node content"),
		strings.HasPrefix(message, "did not find expected <"):
		line++
	}
	return &syntaxError{min(line, 1+bytes.Count(data, []byte("\n"))), message}
}

// linesUntilError returns the number of lines that the parser reads before it fails. The parser
// reads a line only when it needs the line. So the fault is in the last of these lines, or in the
// line before.
func linesUntilError(data []byte) int {
	r := lineReader{rest: data}
	for d := yaml.NewDecoder(&r); ; {
		var n yaml.Node
		if d.Decode(&n) != nil {
			return max(r.lines, 1)
		}
	}
}

// lineReader is an io.Reader whose Read returns at most one line, so that the caller knows at which
// line of the file the parser is.
type lineReader struct {
	rest  []byte
	lines int  // the number of lines that Read has begun
	mid   bool // true if Read has returned only a part of the last of these lines
}

func (r *lineReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	if !r.mid {
		r.lines++
	}
	line := r.rest
	if i := bytes.IndexByte(line, '\n'); i >= 0 {
		line = line[:i+1]
	}
	n := copy(p, line)
	r.rest, r.mid = r.rest[n:], n < len(line)
	return n, nil
}
