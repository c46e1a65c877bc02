// Package manifests finds and renders the kustomizations of the examples.
package manifests

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// Base is a kustomization of one of the examples.
type Base struct {
	Program    string   // directory of the example, such as "snirouter"
	Dir        string   // absolute path of the kustomization
	Components []string // absolute paths of its components, sorted
}

// Find returns all kustomizations below the directory of the examples, sorted by Dir. A component
// belongs to the kustomization in the next directory above it.
func Find(examples string) ([]Base, error) {
	examples, err := filepath.Abs(examples)
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(examples, "*", "kubernetes"))
	if err != nil {
		return nil, err
	}
	bases := map[string]*Base{}
	var components []string
	for _, root := range files {
		program := filepath.Base(filepath.Dir(root))
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.Name() != "kustomization.yaml" {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			var k struct{ Kind string }
			if err := yaml.Unmarshal(text, &k); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			switch dir := filepath.Dir(path); k.Kind {
			case "Kustomization":
				bases[dir] = &Base{Program: program, Dir: dir}
			case "Component":
				components = append(components, dir)
			default:
				return fmt.Errorf("%s: the kind is %q", path, k.Kind)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for _, component := range components {
		dir := filepath.Dir(component)
		for bases[dir] == nil && len(dir) > len(examples) {
			dir = filepath.Dir(dir)
		}
		if bases[dir] == nil {
			return nil, fmt.Errorf("%s: no kustomization above the component", component)
		}
		bases[dir].Components = append(bases[dir].Components, component)
	}
	var found []Base
	for _, b := range bases {
		slices.Sort(b.Components)
		found = append(found, *b)
	}
	slices.SortFunc(found, func(a, b Base) int { return cmp.Compare(a.Dir, b.Dir) })
	return found, nil
}

// Render returns the objects of a kustomization with the named components.
func (b Base) Render(components ...string) ([]*unstructured.Unstructured, error) {
	return Render([]string{b.Dir}, components)
}

// Render makes an overlay of the kustomizations in dirs and of the components, and returns its
// objects. It writes the overlay to a temporary directory.
func Render(dirs, components []string) ([]*unstructured.Unstructured, error) {
	overlay, err := os.MkdirTemp("", "overlay")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(overlay)
	if overlay, err = filepath.EvalSymlinks(overlay); err != nil {
		return nil, err
	}
	var text strings.Builder
	text.WriteString("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n")
	for field, paths := range map[string][]string{"resources": dirs, "components": components} {
		if len(paths) > 0 {
			fmt.Fprintf(&text, "%s:\n", field)
		}
		for _, path := range paths {
			relative, err := filepath.Rel(overlay, path)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(&text, "- %s\n", relative)
		}
	}
	if err := os.WriteFile(filepath.Join(overlay, "kustomization.yaml"), []byte(text.String()), 0o600); err != nil {
		return nil, err
	}
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), overlay)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", strings.Join(dirs, ", "), err)
	}
	var objects []*unstructured.Unstructured
	for _, r := range rendered.Resources() {
		text, err := r.MarshalJSON() // the map of a Resource has types that Unstructured does not know
		if err != nil {
			return nil, err
		}
		o := &unstructured.Unstructured{}
		if err := o.UnmarshalJSON(text); err != nil {
			return nil, fmt.Errorf("%s: %w", strings.Join(dirs, ", "), err)
		}
		objects = append(objects, o)
	}
	return objects, nil
}
