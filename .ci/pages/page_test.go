package main

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	page := "# Page\n```sh internet\nmake\n```\nText\n```sh\na\nb\n```\n```\nout\n```\n```yaml\nx: 1\n```\n"
	steps, err := parse("page.md", page)
	if err != nil {
		t.Fatal(err)
	}
	want := []step{
		{line: 3, commands: "make\n", internet: true},
		{line: 7, commands: "a\nb\n", output: "out\n", hasOutput: true},
	}
	if len(steps) != len(want) || steps[0] != want[0] || steps[1] != want[1] {
		t.Errorf("%+v, want %+v", steps, want)
	}
}

func TestParseRefusesPages(t *testing.T) {
	for page, message := range map[string]string{
		"only text\n":          "page.md: the page has no commands",
		"```sh\n\xff\n```\n":   "page.md: the page is not UTF-8",
		"```yaml\na: 1\n```\n": "page.md: the page has no commands",
		"```sh\nls\n":          "page.md:2: this block has no end",
		"\n```\nout\n```\n":    "page.md:3: this output follows no commands",
		"```sh\na\n```\n```\nb\n```\n```\nc\n```\n": "page.md:8: this output follows no commands",
		"```sh\na\n```\n```sh internet\nb\n```\n":   "page.md:5: a block that needs the internet",
	} {
		if _, err := parse("page.md", page); err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("%q: %v, want %q", page, err, message)
		}
	}
}

func TestCompare(t *testing.T) {
	for _, tt := range []struct {
		page, output string
		same         bool
	}{
		{"a\nb\n", "a\nb\n", true},
		{"a\n", "a  \n\n", true},
		{"a\n", "b\n", false},
		{"a\n", "a\nb\n", false},
		{"a\nb\n", "a\n", false},
		{"a\n", "", false},
		{"time=… level=INFO\n", "time=12:00 level=INFO\n", true},
		{"time=… level=INFO\n", "time=12:00\nlevel=INFO\n", false},
		{"a.c\n", "abc\n", false},
		{"…\nb\n…\n", "a\nb\n", true},
		{"…\nb\n…\n", "b\nc\nd\n", true},
		{"…\nb\n…\n", "a\nc\n", false},
		{"a\n…\n", "a\n", true},
	} {
		err := step{output: tt.page, hasOutput: true}.compare(tt.output)
		if (err == nil) != tt.same {
			t.Errorf("page %q, output %q: %v", tt.page, tt.output, err)
		}
	}
	if err := (step{}).compare("anything"); err != nil {
		t.Errorf("a step without an output on the page: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("```sh\nls\n```\n```\na…\n```\n")
	f.Fuzz(func(t *testing.T, page string) {
		steps, err := parse("page.md", page)
		if err != nil {
			return
		}
		for _, s := range steps {
			if !strings.Contains(page, s.commands) || s.hasOutput && !strings.Contains(page, s.output) {
				t.Errorf("%+v is not on the page", s)
			}
			if err := s.compare(strings.ReplaceAll(s.output, "…", "x")); err != nil {
				t.Errorf("%q: %v", s.output, err)
			}
		}
	})
}
