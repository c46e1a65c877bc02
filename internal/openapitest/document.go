// Package openapitest tests that the OpenAPI documents of the HTTP APIs fit their handlers. A test
// sends requests to a real handler, and the package requires that the document lists each answer:
// its status, headers, media type and the members of its JSON body. At the end, the test requires
// that it has seen each answer of the document.
//
//	doc := openapitest.Load(t, "openapi.yaml")
//	doc.Send(t, handler, "GET", "/hosts/a.example", 200)
//	doc.RequireAll(t, nil)
//
// # What it does not do
//
// The package understands only the parts of OpenAPI 3.1 and of JSON Schema that these documents use.
// A test in internal/benchmarks compiles the schemas with a complete library.
package openapitest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/headgate/headgate/internal/inputfile"
)

// object is an object of a document.
type object = map[string]any

// Document is an OpenAPI document.
type Document struct {
	Title, Description string
	// Server is the URL of the examples.
	Server     string
	Operations []*Operation // sorted by path, then as in methods

	root object
	seen map[string]bool // "GET /hosts/{host} 200"
}

// Operation is a method of a path.
type Operation struct {
	Method, Path         string
	Summary, Description string
	Parameters           []Parameter
	Body                 bool // the request has a body
	// Security contains the names of security schemes. A client must use one of them. The name ""
	// means that the client needs none.
	Security []string
	Curl     string // a command that sends the request
	// Answers are sorted by status.
	Answers []Answer
}

// Parameter is a parameter of a request.
type Parameter struct {
	Name, In, Description string
	Required              bool
}

// Answer is an answer to a request.
type Answer struct {
	Status      int
	Description string
	headers     object
	content     object // by media type
}

// MediaTypes returns the media types of the answer, sorted.
func (a *Answer) MediaTypes() []string { return slices.Sorted(maps.Keys(a.content)) }

var methods = []string{"get", "post", "put", "delete"}

// Load reads a document.
func Load(t testing.TB, file string) *Document {
	t.Helper()
	text, err := inputfile.Read(file, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	d := &Document{seen: map[string]bool{}}
	if err := yaml.Unmarshal(text, &d.root); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if err := d.read(); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return d
}

func (d *Document) read() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the document lacks something: %v", r)
		}
	}()
	if v := text(d.root, "openapi"); v != "3.1.0" {
		return fmt.Errorf("version %q", v)
	}
	if at := withoutValue(d.root, ""); at != "" {
		return fmt.Errorf("%s has no value; a text with a comma needs quotes inside of { }", at)
	}
	info := d.root["info"].(object)
	d.Title, d.Description = text(info, "title"), text(info, "description")
	d.Server = text(d.root["servers"].([]any)[0].(object), "url")
	paths := d.root["paths"].(object)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		item := paths[path].(object)
		for method := range item {
			if !slices.Contains(methods, method) {
				return fmt.Errorf("%s: unknown method %q", path, method)
			}
		}
		for _, method := range methods {
			if o, ok := item[method].(object); ok {
				op, err := d.operation(strings.ToUpper(method), path, o)
				if err != nil {
					return fmt.Errorf("%s %s: %w", method, path, err)
				}
				d.Operations = append(d.Operations, op)
			}
		}
	}
	return nil
}

func (d *Document) operation(method, path string, o object) (*Operation, error) {
	op := &Operation{Method: method, Path: path, Summary: text(o, "summary"), Description: text(o, "description")}
	for _, p := range list(o["parameters"]) {
		p := d.resolve(p)
		required, _ := p["required"].(bool)
		op.Parameters = append(op.Parameters, Parameter{Name: text(p, "name"), In: text(p, "in"), Description: text(p, "description"), Required: required})
	}
	_, op.Body = o["requestBody"]
	security, ok := o["security"]
	if !ok {
		security = d.root["security"]
	}
	for _, s := range list(security) {
		names := slices.Sorted(maps.Keys(s.(object)))
		op.Security = append(op.Security, strings.Join(names, ", "))
	}
	for _, sample := range list(o["x-codeSamples"]) {
		op.Curl = strings.TrimSpace(text(sample.(object), "source"))
	}
	answers := o["responses"].(object)
	for _, status := range slices.Sorted(maps.Keys(answers)) {
		a := d.resolve(answers[status])
		answer := Answer{Description: text(a, "description")}
		if _, err := fmt.Sscan(status, &answer.Status); err != nil {
			return nil, err
		}
		answer.headers, _ = a["headers"].(object)
		answer.content, _ = a["content"].(object)
		op.Answers = append(op.Answers, answer)
	}
	return op, nil
}

// resolve returns the object to which v refers with "$ref", or v itself if v has no "$ref".
func (d *Document) resolve(v any) object {
	o := v.(object)
	for {
		ref, ok := o["$ref"].(string)
		if !ok {
			return o
		}
		at := d.root
		for part := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
			next, ok := at[part].(object)
			if !ok {
				panic("nothing at " + ref)
			}
			at = next
		}
		o = at
	}
}

// find returns the operation of a method and a path, or nil. If several paths match, find returns
// the one with the fewest parameters.
func (d *Document) find(method, path string) *Operation {
	var best *Operation
	for _, op := range d.Operations {
		if op.Method == method && matches(op.Path, path) && (best == nil || strings.Count(op.Path, "{") < strings.Count(best.Path, "{")) {
			best = op
		}
	}
	return best
}

// matches reports whether a path matches a pattern such as "/hosts/{host}".
func matches(pattern, path string) bool {
	return slices.EqualFunc(strings.Split(pattern, "/"), strings.Split(path, "/"), func(want, got string) bool {
		return want == got || strings.HasPrefix(want, "{")
	})
}

// withoutValue searches v and the objects in it for a member without a value. It returns the path
// of this member, or "" if all members have values. A missing value is usually a mistake: YAML
// reads the comma in {description: a, b} as the end of the description, and "b" as a member without
// a value.
func withoutValue(v any, at string) string {
	switch v := v.(type) {
	case nil:
		return at
	case object:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if found := withoutValue(v[key], at+"/"+key); found != "" {
				return found
			}
		}
	case []any:
		for i, item := range v {
			if found := withoutValue(item, fmt.Sprintf("%s/%d", at, i)); found != "" {
				return found
			}
		}
	}
	return ""
}

func text(o object, key string) string {
	s, _ := o[key].(string)
	return s
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}
