// Package clitest has helpers for tests of the example binaries.
package clitest

import (
	"bytes"
	"os"
	"sync"
	"testing"

	"sigs.k8s.io/yaml"
)

// Output is a buffer that a running binary and its test may use at the same time. The zero value is
// ready to use.
type Output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// String returns all bytes written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// Manifest reads the YAML documents of a file into the values of into, in order. The test fails if the
// number of documents differs, or if a document has a field that its value does not have.
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
