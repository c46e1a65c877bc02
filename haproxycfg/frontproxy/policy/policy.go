package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/headgate/headgate/haproxycfg/frontproxy"
	"github.com/headgate/headgate/internal/inputfile"
)

// MaxSize is the largest size of a policy file in bytes.
const MaxSize = 64 << 10

// maxFaults is the largest number of faults that the error of a policy file lists.
const maxFaults = 20

// Error is a fault in a file.
type Error struct {
	File   string
	Line   int    // 0 if the fault has no line
	Field  string // such as "limits.source.requests"; "" if the fault concerns no field
	Reason string
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	if e.Field != "" {
		b.WriteString(": " + e.Field)
	}
	return b.String() + ": " + e.Reason
}

// Read reads the settings in a file. It returns an error if it cannot read the file, or if the file
// has a fault.
func Read(path string) (frontproxy.Settings, error) {
	data, err := inputfile.Read(path, MaxSize)
	if err != nil {
		return frontproxy.Settings{}, err
	}
	return Parse(path, data)
}

// Parse reads the settings in data. The argument "file" is the name of the file in errors. If there
// are faults, the error joins an *Error for each of the first 20 faults, and the Settings are zero.
func Parse(file string, data []byte) (frontproxy.Settings, error) {
	d := decoder{file: file, lines: map[string]int{}}
	root, err := document(data)
	if err != nil {
		d.faultf(0, "", "%s", strings.TrimPrefix(err.Error(), "yaml: "))
		return frontproxy.Settings{}, errors.Join(d.faults...)
	}
	var s frontproxy.Settings
	if root != nil && root.ShortTag() != "!!null" {
		d.mapping(root, "", fields(&s))
	}
	if len(d.faults) == 0 {
		d.contradictions(s.Validate())
	}
	if len(d.faults) > 0 {
		return frontproxy.Settings{}, errors.Join(d.faults[:min(len(d.faults), maxFaults)]...)
	}
	return s, nil
}

// document returns the value of the only document in data. If data has no document, it returns nil
// and no error.
func document(data []byte) (*yaml.Node, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("the file has more than %d bytes", MaxSize)
	}
	in := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	if err := in.Decode(&first); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if err := in.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, errors.New("the file has more than one document")
	}
	if first.Kind == yaml.DocumentNode && len(first.Content) == 1 {
		return first.Content[0], nil
	}
	return nil, nil
}

// contradictions adds the faults that frontproxy.Settings.Validate found.
func (d *decoder) contradictions(err error) {
	if err == nil {
		return
	}
	var all []error
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	for _, err := range all {
		var fault *frontproxy.FieldError
		if !errors.As(err, &fault) {
			d.faultf(0, "", "%s", err.Error())
			continue
		}
		name := fileName(fault.Field)
		d.faultf(d.lines[name], name, "%s", fault.Reason)
	}
}

// fileName returns the name that a field of frontproxy.Settings has in a policy file.
func fileName(field string) string {
	if field == "RetryPercent" {
		return "retryBudget"
	}
	parts := strings.Split(field, ".")
	for i, p := range parts {
		parts[i] = strings.ToLower(p[:1]) + p[1:]
	}
	return strings.Join(parts, ".")
}

// decoder reads the nodes of one file.
type decoder struct {
	file   string
	lines  map[string]int // the line of each field in the file
	faults []error
}

func (d *decoder) faultf(line int, field, format string, args ...any) {
	d.faults = append(d.faults, &Error{d.file, line, field, fmt.Sprintf(format, args...)})
}

// field describes one field of a mapping in the policy file. The function in its field "read"
// parses n, the value of the field. The result "reason" of this function is "" if the value is
// correct, and otherwise says what is wrong.
type field struct {
	name   string
	read   func(n *yaml.Node) (reason string)
	fields []field // the fields of a mapping; read is nil then
}

func (d *decoder) mapping(n *yaml.Node, at string, known []field) {
	if n.Kind != yaml.MappingNode {
		d.faultf(n.Line, at, "must be a mapping of fields")
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name := key.Value
		if at != "" {
			name = at + "." + name
		}
		j := slices.IndexFunc(known, func(f field) bool { return f.name == key.Value && key.Kind == yaml.ScalarNode })
		switch _, twice := d.lines[name]; {
		case j < 0:
			d.faultf(key.Line, "", "unknown field %.40q", key.Value)
		case twice:
			d.faultf(key.Line, name, "is given twice")
		case value.Kind == yaml.AliasNode:
			d.faultf(value.Line, name, "must not be an alias")
		case known[j].read == nil:
			d.lines[name] = key.Line
			d.mapping(value, name, known[j].fields)
		default:
			d.lines[name] = key.Line
			if reason := known[j].read(value); reason != "" {
				d.faultf(value.Line, name, "%s", reason)
			}
		}
	}
}
