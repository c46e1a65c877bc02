package manifest

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/headgate/headgate/nodeselect"
)

// Parse reads the Nodes and Services in data, in the form that "kubectl get -o yaml" or "-o json"
// prints: YAML documents or JSON values, each of them an object or a list (List, NodeList,
// ServiceList). file is the file name for problems; Parse does not open it.
//
// Parse leaves out a document or an object that it cannot read, and returns a Problem for it. A
// second node or service of the same name is a Problem. Text without a document is a Problem too:
// when kubectl writes to a file, the file is empty at first.
//
// Parse only counts objects of other kinds. If a file has nothing else, Parse returns a warning.
// Some texts are a Problem, because they probably stand in place of the wanted objects: the Status
// of a failed request, a Table, objects with only metadata, or objects with a mistake in kind or
// apiVersion.
//
// The returned objects have only the fields for routing: spec, metadata without managedFields,
// ownerReferences and finalizers, and the conditions and addresses of a Node.
func Parse(file string, data []byte) (nodeselect.Objects, []nodeselect.Problem) {
	return collect([]batch{parseFile(file, data, nodesAndServices)})
}

// ParseEndpointSlices reads the EndpointSlices of discovery.k8s.io/v1 in data, in the form that
// "kubectl get endpointslices -A -o yaml" or "-o json" prints; see Parse. It sorts them by
// namespace and name, and removes managedFields, ownerReferences and finalizers. It does not check
// the addresses of endpoints; package nodeselect/endpoints does.
func ParseEndpointSlices(file string, data []byte) ([]*discoveryv1.EndpointSlice, []nodeselect.Problem) {
	return collectSlices([]batch{parseFile(file, data, endpointSlices)})
}

// parseFile reads the wanted objects of a file. It does not sort them: its callers merge several
// files.
func parseFile(file string, data []byte, want wanted) batch {
	all := batch{want: want}
	empty := true
	for _, doc := range splitDocuments(plainText(data)) {
		if isBlank(doc.text) {
			continue
		}
		empty = false
		doc.want = want
		all.add(parseDocument(doc))
	}
	all.problems = mergeMisfits(all.problems)
	if empty {
		all.bad(0, "no object in it")
	} else if all.usable == 0 && all.ignored > 0 && len(all.problems) == 0 {
		all.bad(0, "no Node, Service or EndpointSlice in it")
		all.problems[0].Warning = true
	}
	for i := range all.objects {
		all.objects[i].file = file
	}
	for i := range all.problems {
		all.problems[i].File = file
	}
	return all
}

// collect merges the results of several files, in the order of the files. It adds a problem for
// each object whose name an earlier object has.
func collect(batches []batch) (nodeselect.Objects, []nodeselect.Problem) {
	var nodes []*corev1.Node
	var services []*corev1.Service
	objects, problems := distinct(batches)
	for _, o := range objects {
		if o.node != nil {
			nodes = append(nodes, o.node)
		} else {
			services = append(services, o.service)
		}
	}
	sorted := nodeselect.NewObjects(nodes, services)
	for _, b := range batches {
		sorted.Ignored += b.ignored
	}
	return sorted, problems
}

// collectSlices merges the EndpointSlices of several files, and sorts them by namespace and name.
// It adds a problem for each EndpointSlice whose name an earlier EndpointSlice has.
func collectSlices(batches []batch) ([]*discoveryv1.EndpointSlice, []nodeselect.Problem) {
	objects, problems := distinct(batches)
	list := make([]*discoveryv1.EndpointSlice, len(objects))
	for i, o := range objects {
		list[i] = o.slice
	}
	slices.SortFunc(list, func(a, b *discoveryv1.EndpointSlice) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return list, problems
}

// distinct returns the objects of several files, in order. Of several objects with the same name,
// it returns the first. It also returns the problems of the files, and a problem for each
// duplicate.
func distinct(batches []batch) (objects []object, problems []nodeselect.Problem) {
	n := 0
	for i := range batches {
		n += len(batches[i].objects)
	}
	first := make(map[string]object, n)
	objects = make([]object, 0, n)
	for _, b := range batches {
		problems = append(problems, b.problems...)
		for _, o := range b.objects {
			key := o.key()
			if before, ok := first[key]; ok {
				problems = append(problems, nodeselect.Problem{
					File: o.file, Line: o.line, Object: key,
					Message: fmt.Sprintf("given before, at %s:%d; that one is kept", before.file, before.line),
				})
				continue
			}
			first[key] = o
			objects = append(objects, o)
		}
	}
	return objects, problems
}

// document is one document of a file.
type document struct {
	text []byte
	line int // the number of the first line of text in the file
	want wanted
}

// splitDocuments cuts text at the lines that begin with "---" or "...". No value can contain such a
// line. In YAML, the line ends a scalar without quotes, and a scalar with quotes must not contain
// it (YAML 1.1 section 9.1.2). A JSON string has no line breaks.
func splitDocuments(data []byte) []document {
	var docs []document
	start, startLine, line := 0, 1, 0
	for pos := 0; pos < len(data); {
		end, next := lineEnd(data, pos)
		line++
		text := data[pos:end]
		if marker, bare := documentMarker(text); marker {
			if directivesOnly(data[start:pos]) && text[0] == '-' {
				// So far the document has only directives. Its value follows this marker.
			} else {
				docs = append(docs, document{text: data[start:pos], line: startLine})
				start, startLine = next, line+1
				if !bare {
					start, startLine = pos, line
				}
			}
		}
		pos = next
	}
	return append(docs, document{text: data[start:], line: startLine})
}

// documentMarker reports whether a line begins with a YAML document marker, that is, with "---" or
// "...". bare reports whether the rest of this line is blank or a comment.
func documentMarker(line []byte) (marker, bare bool) {
	if !bytes.HasPrefix(line, []byte("---")) && !bytes.HasPrefix(line, []byte("...")) {
		return false, false
	}
	rest := line[3:]
	if len(rest) > 0 && rest[0] != ' ' && rest[0] != '\t' && rest[0] != '\r' {
		return false, false
	}
	return true, isBlank(rest)
}

// directivesOnly reports whether text has a YAML directive (a line that begins with "%"), and
// nothing else except comments and blank lines.
func directivesOnly(text []byte) bool {
	found := false
	for line := range bytes.Lines(text) {
		switch {
		case line[0] == '%':
			found = true
		case !isBlank(line):
			return false
		}
	}
	return found
}

// isBlank reports whether text has nothing except blank lines and comments.
func isBlank(text []byte) bool {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return true
}

// lineEnd returns two offsets for the line that begins at pos: its end, without the newline, and
// the start of the next line.
func lineEnd(data []byte, pos int) (end, next int) {
	if i := bytes.IndexByte(data[pos:], '\n'); i >= 0 {
		return pos + i, pos + i + 1
	}
	return len(data), len(data)
}

// plainText converts text to UTF-8 in which each line ends with a line feed only. When PowerShell
// redirects the output of kubectl to a file, the file is UTF-16 with a byte order mark and carriage
// returns. JSON and YAML treat both line ends alike (YAML 1.1 section 4.1.4).
func plainText(data []byte) []byte {
	return bytes.ReplaceAll(toUTF8(data), []byte("\r\n"), []byte("\n"))
}

// toUTF8 removes a byte order mark. If the mark is one of UTF-16, toUTF8 converts the text to
// UTF-8.
func toUTF8(data []byte) []byte {
	if text, ok := bytes.CutPrefix(data, []byte("\xef\xbb\xbf")); ok {
		return text
	}
	if len(data) < 2 || len(data)%2 != 0 {
		return data
	}
	var high, low int
	switch {
	case data[0] == 0xff && data[1] == 0xfe:
		high, low = 1, 0
	case data[0] == 0xfe && data[1] == 0xff:
		high, low = 0, 1
	default:
		return data
	}
	units := make([]uint16, 0, len(data)/2-1)
	for i := 2; i < len(data); i += 2 {
		units = append(units, uint16(data[i+high])<<8|uint16(data[i+low]))
	}
	return []byte(string(utf16.Decode(units)))
}

// maxFlowDocument is a size in bytes. Text that begins like JSON, but is not valid JSON, may be
// YAML in flow style. parseDocument parses such text as YAML only up to this size. Longer text is
// almost always truncated JSON, and the YAML parser would need seconds to reject it.
const maxFlowDocument = 1 << 16

// parseDocument parses a document. It uses the fastest parser that reads the document correctly.
func parseDocument(doc document) batch {
	if looksLikeJSON(doc.text) {
		b, ok := parseJSON(doc)
		if ok {
			return b
		}
		if len(doc.text) <= maxFlowDocument {
			if yaml := parseYAML(doc); len(yaml.problems) == 0 {
				return yaml
			}
		}
		return b
	}
	if b, ok := parseListByItems(doc); ok {
		return b
	}
	return parseYAML(doc)
}

// looksLikeJSON reports whether text begins with "{", and after it either ends, or continues with
// "}" or a double quote.
func looksLikeJSON(text []byte) bool {
	rest, ok := bytes.CutPrefix(trimSpace(text), []byte("{"))
	if !ok {
		return false
	}
	rest = trimSpace(rest)
	return len(rest) == 0 || rest[0] == '"' || rest[0] == '}'
}

// trimSpace removes leading characters that are white space in JSON and in YAML.
func trimSpace(text []byte) []byte { return bytes.TrimLeft(text, " \t\r\n") }
