package change

import (
	"bytes"
	stdjson "encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/headgate/headgate/nodeselect"
)

// MaxFileBytes is the largest size of a file that Parse reads, 16 MiB.
const MaxFileBytes = 16 << 20

// maxDepth is how deep a List may contain other Lists.
const maxDepth = 4

// Parse reads the Namespaces, Services and Deployments in data: YAML documents or one JSON value,
// each of them an object or a List. It ignores other kinds. file is the file name for problems;
// Parse does not open it. An object without a namespace is in "default".
//
// Parse leaves out a document or an object that it cannot read, with a Problem at the line of the
// mistake, or the first line of the document. An unknown field is a Problem, because a mistyped
// "nodeport" would drop the node port. A second object with the same kind and name is a Problem,
// too.
func Parse(file string, data []byte) (Objects, []nodeselect.Problem) {
	p := &parser{file: file, seen: map[string]bool{}}
	if len(data) > MaxFileBytes {
		p.problem(0, "", "the file is larger than %d bytes", MaxFileBytes)
		return p.objects, p.problems
	}
	for _, d := range documents(data) {
		text, err := yaml.YAMLToJSONStrict(d.text)
		if err != nil {
			before, message := lineOf(err)
			// The YAML parser also counts a carriage return alone as the end of a line, which most
			// editors do not. So the number of lines that the parser counts can be too large. Limit
			// it to the number of line feeds, so that the problem never names a line after the
			// document.
			before = min(before, bytes.Count(d.text, []byte("\n")))
			p.problem(d.line+before, "", "%s", message)
			continue
		}
		if !bytes.Equal(text, []byte("null")) { // only comments
			p.object(d.line, text, 0)
		}
	}
	return p.objects, p.problems
}

// Add appends the objects of another file. If o already has an object of the same kind and name,
// Add leaves out the object of the other file, and returns its name, such as "Service
// media/tracks".
func (o *Objects) Add(more Objects) (duplicates []string) {
	has := func(kind, namespace, name string, found bool) bool {
		if found {
			duplicates = append(duplicates, kind+" "+namespace+"/"+name)
		}
		return found
	}
	for _, n := range more.Namespaces {
		if !slices.Contains(o.Namespaces, n) {
			o.Namespaces = append(o.Namespaces, n)
		}
	}
	for _, s := range more.Services {
		if !has("Service", s.Namespace, s.Name, slices.ContainsFunc(o.Services, func(x *corev1.Service) bool { return x.Namespace == s.Namespace && x.Name == s.Name })) {
			o.Services = append(o.Services, s)
		}
	}
	for _, d := range more.Deployments {
		if !has("Deployment", d.Namespace, d.Name, slices.ContainsFunc(o.Deployments, func(x *appsv1.Deployment) bool { return x.Namespace == d.Namespace && x.Name == d.Name })) {
			o.Deployments = append(o.Deployments, d)
		}
	}
	return duplicates
}

type document struct {
	line int // of its first line, from 1
	text []byte
}

// documents splits a file at the lines that begin with "---".
func documents(data []byte) (list []document) {
	line, d := 0, document{line: 1}
	for text := range bytes.Lines(data) {
		line++
		if rest, ok := bytes.CutPrefix(text, []byte("---")); ok && (len(rest) == 0 || bytes.ContainsAny(rest[:1], " \t\r\n")) {
			list = append(list, d)
			d = document{line: line}
		}
		d.text = append(d.text, text...)
	}
	return append(list, d)
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

// lineOf reads the number of the line that an error of the YAML parser names. It returns the number
// of lines before this line, and the message of the error without the number.
func lineOf(err error) (before int, message string) {
	message = err.Error()
	if m := yamlLine.FindStringSubmatchIndex(message); m != nil {
		if n, err := strconv.Atoi(message[m[2]:m[3]]); err == nil && n > 0 {
			return n - 1, message[:m[0]] + message[m[1]:]
		}
	}
	return 0, message
}

type parser struct {
	file     string
	objects  Objects
	problems []nodeselect.Problem
	seen     map[string]bool
}

func (p *parser) problem(line int, object, format string, args ...any) {
	message := strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " ") // one line
	p.problems = append(p.problems, nodeselect.Problem{File: p.file, Line: line, Object: object, Message: message})
}

// meta are the fields that every object has.
type meta struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
	Items []stdjson.RawMessage `json:"items"`
}

// object reads an object from JSON.
func (p *parser) object(line int, text []byte, depth int) {
	var m meta
	if err := json.Unmarshal(text, &m); err != nil {
		p.problem(line, "", "%v", err)
		return
	}
	if m.Kind == "" || m.APIVersion == "" {
		p.problem(line, "", "want an object with apiVersion and kind")
		return
	}
	switch m.APIVersion + " " + m.Kind {
	case "v1 List":
		if depth == maxDepth {
			p.problem(line, "", "the Lists are nested too deep")
			return
		}
		for _, item := range m.Items {
			p.object(line, item, depth+1)
		}
	case "v1 Namespace":
		if p.named(line, &m, "") {
			p.objects.Namespaces = append(p.objects.Namespaces, m.Metadata.Name)
		}
	case "v1 Service":
		s := &corev1.Service{}
		if p.named(line, &m, metav1.NamespaceDefault) && p.decode(line, &m, text, s) {
			s.Namespace = m.Metadata.Namespace
			p.objects.Services = append(p.objects.Services, s)
		}
	case "apps/v1 Deployment":
		d := &appsv1.Deployment{}
		if p.named(line, &m, metav1.NamespaceDefault) && p.decode(line, &m, text, d) {
			d.Namespace = m.Metadata.Namespace
			p.objects.Deployments = append(p.objects.Deployments, d)
		}
	}
}

// named checks the name of an object, and sets its namespace if it has none.
func (p *parser) named(line int, m *meta, namespace string) bool {
	if m.Metadata.Namespace == "" {
		m.Metadata.Namespace = namespace
	}
	if m.Metadata.Name == "" {
		p.problem(line, m.Kind, "metadata.name is missing")
		return false
	}
	if p.seen[m.label()] {
		p.problem(line, m.label(), "another object has this name")
		return false
	}
	p.seen[m.label()] = true
	return true
}

func (m *meta) label() string { return m.Kind + " " + m.Metadata.Namespace + "/" + m.Metadata.Name }

func (p *parser) decode(line int, m *meta, text []byte, into any) bool {
	var fields map[string]any
	err := json.Unmarshal(text, &fields)
	if err == nil {
		err = runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(fields, into, true)
	}
	if err != nil {
		p.problem(line, m.label(), "%v", err)
	}
	return err == nil
}
