package manifesttest

import (
	"bytes"
	"encoding/json"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// YAML returns the output of "kubectl get -o yaml" for a List of these objects.
func YAML[T runtime.Object](objects []T) []byte {
	var b bytes.Buffer
	b.WriteString("apiVersion: v1\nitems:\n")
	for _, o := range objects {
		text, err := yaml.Marshal(fields(o))
		if err != nil {
			panic("manifesttest: " + err.Error())
		}
		indent := "- "
		for line := range bytes.Lines(text) {
			if len(line) > 1 {
				b.WriteString(indent)
			}
			b.Write(line)
			indent = "  "
		}
	}
	if len(objects) == 0 {
		b.Reset()
		b.WriteString("apiVersion: v1\nitems: []\n")
	}
	b.WriteString("kind: List\nmetadata:\n  resourceVersion: \"\"\n")
	return b.Bytes()
}

// JSON returns the output of "kubectl get -o json" for a List of these objects.
func JSON[T runtime.Object](objects []T) []byte {
	items := make([]any, len(objects))
	for i, o := range objects {
		items[i] = fields(o)
	}
	return encode(map[string]any{
		"apiVersion": "v1", "items": items, "kind": "List",
		"metadata": map[string]any{"resourceVersion": ""},
	}, "    ")
}

// fields returns the fields of an object as kubectl prints them: in the order of their keys, and
// without "creationTimestamp: null".
func fields(o runtime.Object) map[string]any {
	var m map[string]any
	if err := json.Unmarshal(encode(o, ""), &m); err != nil {
		panic("manifesttest: " + err.Error())
	}
	if meta, ok := m["metadata"].(map[string]any); ok && meta["creationTimestamp"] == nil {
		delete(meta, "creationTimestamp")
	}
	return m
}

func encode(v any, indent string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		panic("manifesttest: " + err.Error())
	}
	return b.Bytes()
}
