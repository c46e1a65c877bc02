package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCompare(t *testing.T) {
	want := []string{"std go1.26.0", "a.example/a v1.0.0"}
	for listed, message := range map[string]string{
		"std go1.26.0,a.example/a v1.0.0":                      "",
		"a.example/a v1.0.0":                                   "the list lacks std go1.26.0",
		"std go1.26.0,a.example/a v1.0.1":                      "the list has a.example/a v1.0.1, which the binary lacks",
		"std go1.26.0,a.example/a v1.0.0,b.example/b v0.0.0-1": "the list has b.example/b v0.0.0-1, which the binary lacks",
	} {
		err := compare(strings.Split(listed, ","), want)
		if message == "" && err != nil || message != "" && (err == nil || !strings.Contains(err.Error(), message)) {
			t.Errorf("%s: %v, want %q", listed, err, message)
		}
	}
}

// TestSchemaRejects checks that the schemas are found, and that a list with a wrong type of
// component fails.
func TestSchemaRejects(t *testing.T) {
	schema, err := compile()
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(t.TempDir(), "list.json")
	text := `{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{"type": "nonsense", "name": "a"}]}`
	if err := os.WriteFile(list, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := check(schema, list, os.Args[0]); err == nil || !strings.Contains(err.Error(), "/components/0/type") {
		t.Errorf("%v, want an error of /components/0/type", err)
	}
}
