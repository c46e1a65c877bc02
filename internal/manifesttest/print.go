package manifesttest

import (
	"bytes"
	"encoding/json"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// YAML returns a List of objects in the format of "kubectl get -o yaml".
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

// JSON returns a List of objects in the format of "kubectl get -o json".
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

// fields returns an object as kubectl prints it: keys in order, and no null for a creation time
// that is not set.
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
