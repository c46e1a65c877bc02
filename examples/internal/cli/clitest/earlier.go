package clitest

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// EarlierVersions returns the directories testdata/files/VERSION: files that earlier versions of a
// program have written. The test fails if there is none.
func EarlierVersions(t testing.TB) []string {
	t.Helper()
	dirs, err := filepath.Glob("testdata/files/*")
	if err != nil || len(dirs) == 0 {
		t.Fatal("no files of earlier versions in testdata/files: ", err)
	}
	return dirs
}

// ReplaceInFiles replaces a text in all files in a directory and below it.
func ReplaceInFiles(t testing.TB, dir, old, text string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(name, bytes.ReplaceAll(data, []byte(old), []byte(text)), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ReadsAll decodes a JSON text of an earlier version into a value. The test fails if the value, as
// JSON, lacks a member of the text or has another content for it.
func ReadsAll(t testing.TB, name string, text []byte, value any) {
	t.Helper()
	if err := json.Unmarshal(text, value); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	again, err := json.Marshal(value)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	KeepsAll(t, name, text, again)
}

// KeepsAll fails if the JSON text "after" lacks a member of the JSON text "before", or has another
// content for it. Further members are no fault: later versions add them.
func KeepsAll(t testing.TB, name string, before, after []byte) {
	t.Helper()
	var b, a any
	if err := json.Unmarshal(before, &b); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if err := json.Unmarshal(after, &a); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	lost(t, name, b, a)
}

// lost fails the test for each value that is in the decoded JSON "before", and not at the same
// place in "after". It ignores empty values. path is the place of "before" in the whole document,
// for the error message.
func lost(t testing.TB, path string, before, after any) {
	t.Helper()
	switch b := before.(type) {
	case map[string]any:
		a, ok := after.(map[string]any)
		if !ok {
			t.Errorf("%s was an object", path)
		}
		for key, value := range b {
			if _, ok := a[key]; !ok && !empty(value) {
				t.Errorf("%s.%s is not read", path, key)
				continue
			}
			lost(t, path+"."+key, value, a[key])
		}
	case []any:
		a, _ := after.([]any)
		if len(a) != len(b) {
			t.Errorf("%s had %d items and has %d", path, len(b), len(a))
			return
		}
		for i := range b {
			lost(t, path+"[]", b[i], a[i])
		}
	default:
		if !reflect.DeepEqual(before, after) && !empty(before) {
			t.Errorf("%s was %v and is %v", path, before, after)
		}
	}
}

// empty reports whether a value is empty, so that a program may leave it out when it writes JSON.
func empty(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case float64:
		return v == 0
	case bool:
		return !v
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}
