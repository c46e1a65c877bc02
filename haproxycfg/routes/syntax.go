package routes

import (
	"bytes"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// syntaxError is a fault that leaves nothing of a file readable.
type syntaxError struct {
	line    int
	message string
}

// yamlError finds the line of an error of the YAML parser.
//
// For tokens the parser names the line, or the one on which the token begins;
// on the first line it names none. For flow collections it names, counted from
// 0, where the bracket was opened, which is where to look. For blocks it names
// where the block begins, which may be thousands of lines above, and for
// aliases nothing.
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

// linesUntilError returns how many lines the parser takes up to its error: it
// reads a line only when it has used up the last one, so that is the line of
// the fault, or the next.
func linesUntilError(data []byte) int {
	r := lineReader{rest: data}
	for d := yaml.NewDecoder(&r); ; {
		var n yaml.Node
		if d.Decode(&n) != nil {
			return max(r.lines, 1)
		}
	}
}

// lineReader reads at most one line at a time.
type lineReader struct {
	rest  []byte
	lines int // begun
	mid   bool
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
