package clitest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/headgate/headgate/examples/internal/usage"
)

// FlagsPage checks the command line of a binary:
//
//   - its section of examples/FLAGS.md is up to date,
//   - each flag is in a group of the table "purpose, flags" in the README,
//   - the help names what the value of each flag is, and fits into 60 columns.
//
// With the environment variable UPDATE_FLAGS, FlagsPage writes the section.
func FlagsPage(t testing.TB, p usage.Program) {
	t.Helper()
	for _, c := range p.Commands {
		for _, g := range c.Groups {
			if g.Title == usage.Other {
				t.Errorf("%s %s: the table \"purpose, flags\" in the README has no row with these flags: %v", p.Name, c.Name, names(g.Flags))
			}
			for _, f := range g.Flags {
				if slices.Contains([]string{"string", "int", "uint", "float", "value"}, f.Value) { // the words of package flag
					t.Errorf("%s %s: the help of -%s must have a word in back quotes that says what the value is", p.Name, c.Name, f.Name)
				}
			}
		}
		for _, width := range []int{60, 80, usage.MaxWidth} {
			for line := range strings.Lines(usage.Help(p, c, width)) {
				line = strings.TrimSuffix(line, "\n")
				if utf8.RuneCountInString(line) > width && strings.Contains(strings.TrimSpace(line), " ") {
					t.Errorf("%s %s -h: with %d columns, the line %q is too long", p.Name, c.Name, width, line)
				}
			}
		}
	}
	file := filepath.Join(Root(t), "examples", "FLAGS.md")
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	begin, end, ok := sectionOf(string(page), p.Name)
	if !ok {
		t.Fatalf("%s has no section %q", file, p.Name)
	}
	want := "\n" + usage.Page(p)
	if string(page[begin:end]) == want {
		return
	}
	if os.Getenv("UPDATE_FLAGS") == "" {
		t.Errorf("the section %q of %s is out of date; UPDATE_FLAGS=1 go test -p 1 -run TestFlagsPage ./examples/... (for e2e: in examples/e2e) writes it", p.Name, file)
		return
	}
	if err := os.WriteFile(file, slices.Concat(page[:begin], []byte(want), page[end:]), 0o644); err != nil {
		t.Fatal(err)
	}
}

func names(flags []usage.Flag) (list []string) {
	for _, f := range flags {
		list = append(list, "-"+f.Name)
	}
	return list
}
