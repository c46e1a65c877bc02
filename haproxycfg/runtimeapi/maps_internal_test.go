package runtimeapi

import (
	"strings"
	"testing"
)

func FuzzParseMap(f *testing.F) {
	f.Fuzz(func(t *testing.T, answer string) {
		entries, ok := parseMap(answer)
		if !ok && entries != nil {
			t.Fatal("both entries and a failure")
		}
		for _, e := range entries {
			if !strings.Contains(answer, " "+e.Key+" "+e.Value) {
				t.Fatalf("%+v", e)
			}
		}
	})
}
