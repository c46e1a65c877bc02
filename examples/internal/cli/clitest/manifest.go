package clitest

import (
	"bytes"
	"os"
	"testing"

	"sigs.k8s.io/yaml"
)

// Manifest reads the documents of a file, as kubectl would apply it, into what is given
// for each, and fails for a field that those types do not have.
func Manifest(t testing.TB, file string, into ...any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	documents := bytes.Split(text, []byte("\n---\n"))
	if len(documents) != len(into) {
		t.Fatalf("%s has %d documents, not %d", file, len(documents), len(into))
	}
	for i, document := range documents {
		if err := yaml.UnmarshalStrict(document, into[i]); err != nil {
			t.Fatalf("%s: document %d: %v", file, i+1, err)
		}
	}
}
