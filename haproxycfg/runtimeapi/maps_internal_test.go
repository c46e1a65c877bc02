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

func FuzzParseMapCounts(f *testing.F) {
	f.Fuzz(func(t *testing.T, answer string) {
		for path, n := range parseMapCounts(answer) {
			if n < 0 || !strings.Contains(answer, " ("+path+") ") {
				t.Fatalf("%q: %d", path, n)
			}
		}
	})
}

func TestParseVersion(t *testing.T) {
	for info, want := range map[string]Version{
		"Name: HAProxy\nVersion: 2.6.12-1+deb12u4\nUptime: 1\n": {2, 6},
		"Version: 3.5-dev5-b8a2763\n":                           {3, 5},
	} {
		got, err := parseVersion(info)
		if err != nil || got != want {
			t.Errorf("%q: %v, %v", info, got, err)
		}
	}
	for _, info := range []string{"", "Permission denied\n", "Version: 3\n", "Version: x.6\n", "Version: 99999.1\n"} {
		if got, err := parseVersion(info); err == nil {
			t.Errorf("%q: %v", info, got)
		}
	}
}

// FuzzParseActual parses any text as the answers to "show info" and "show backend".
func FuzzParseActual(f *testing.F) {
	f.Fuzz(func(t *testing.T, answer string) {
		if v, err := parseVersion(answer); err == nil && !strings.Contains(answer, "Version: ") || v.Major < 0 || v.Minor < 0 {
			t.Fatalf("%v, %v", v, err)
		}
		names, err := parseBackends(answer)
		if err != nil && names != nil {
			t.Fatal("both names and an error")
		}
		for _, name := range names {
			if !strings.Contains(answer, name) {
				t.Fatalf("%q", name)
			}
		}
	})
}
