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

// yamlToJSON gives the JSON of one YAML document.
//
// The parser stops where the outermost value ends, and whatever follows is lost
// without a word. Where that is possible (braces that close, lines that stand
// further left than the first) the value is made an element of a sequence, whose
// end is the end of the text.
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

// asElement puts a dash before the value of a document, unless that is a block
// that begins in the first column.
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

// badYAML reports an error of the YAML parser. That counts lines from 1, except
// where it misses something it expects: there it counts from 0. It also counts
// more line breaks than editors do (a carriage return alone is one), so that its
// line may lie behind the end.
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
