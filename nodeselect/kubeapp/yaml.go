package kubeapp

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// AppendYAML appends objects as YAML documents, each after a line "---", with the fields that are
// set and without status. Equal objects give equal bytes. After an error, it returns dst unchanged.
func AppendYAML(dst []byte, objects ...Object) ([]byte, error) {
	out := dst
	for _, o := range objects {
		u, err := Unstructured(o)
		if err != nil {
			return dst, err
		}
		text, err := yaml.Marshal(u.Object)
		if err != nil {
			return dst, fmt.Errorf("kubeapp: %s: %w", o.GetName(), err)
		}
		out = append(append(out, "---\n"...), text...)
	}
	return out, nil
}

// Unstructured returns the fields of an object that somebody set, without the status. These are the
// fields to send in a server-side apply.
func Unstructured(o Object) (*unstructured.Unstructured, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil, fmt.Errorf("kubeapp: %s: %w", o.GetName(), err)
	}
	delete(fields, "status")
	unstructured.RemoveNestedField(fields, "metadata", "creationTimestamp")
	unstructured.RemoveNestedField(fields, "spec", "template", "metadata", "creationTimestamp")
	if spec, ok := fields["spec"].(map[string]any); ok && len(spec) == 0 {
		delete(fields, "spec")
	}
	return &unstructured.Unstructured{Object: fields}, nil
}
