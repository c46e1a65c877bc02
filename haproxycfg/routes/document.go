package routes

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// documents splits a file into the roots of its YAML documents, leaving out
// empty ones. JSON is read by its own rules: YAML 1.1 knows neither `\/`, nor
// surrogate pairs, nor tabs between tokens.
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

// checkText finds what YAML forbids in a stream, since the parser reports it
// without a line (YAML 1.2 section 5.1). It also refuses what the parser takes for
// the end of a line, as YAML 1.1 does, and editors do not: behind it a comment could
// hide a route from whoever reads the file, and the lines of problems would be wrong.
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

// jsonDocument makes of valid JSON the nodes that YAML would make of it.
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
	at   int // data[:at] is counted in line
	line int
}

// token returns the next token and the line on which it ends; no token of JSON
// spans lines.
func (r *jsonReader) token() (json.Token, error) {
	t, err := r.dec.Token()
	end := int(r.dec.InputOffset())
	r.line += bytes.Count(r.data[r.at:end], []byte("\n"))
	r.at = end
	return t, err
}

// value reads one value. json.Valid has bounded its depth.
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
