package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const mit = `MIT License

Copyright (c) 2026 Somebody

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
`

const gplNotice = `This program is free software: you can redistribute it and/or modify
it under the terms of the GNU General Public License as published by
the Free Software Foundation, either version 3 of the License, or
(at your option) any later version.
`

// TestRun checks a module that compiles one package of another module. The licence of that module
// differs.
func TestRun(t *testing.T) {
	for title, c := range map[string]struct {
		licences map[string]string // files of the other module
		err      string            // "" means that the licence is allowed
	}{
		"allowed":             {map[string]string{"LICENSE": mit, "NOTICE": "Other\nCopyright 2026 Somebody\n", "third/notice.txt": "Third\n", "unused/NOTICE": "Unused\n", "third/notice.go": "package third\n"}, ""},
		"British spelling":    {map[string]string{"LICENCE.md": mit}, ""},
		"beside the package":  {map[string]string{"LICENSE": mit, "third/COPYING": gplNotice}, "third/COPYING contains the licence GPL-3.0"},
		"of another package":  {map[string]string{"LICENSE": mit, "unused/LICENSE": gplNotice}, ""},
		"not allowed":         {map[string]string{"LICENSE": gplNotice}, "which is not allowed"},
		"none":                {map[string]string{"README": mit}, "other.example/other has no licence file"},
		"only a notice":       {map[string]string{"NOTICE": mit}, "other.example/other has no licence file"},
		"unknown":             {map[string]string{"LICENSE": "Use this code only on Sundays.\n"}, "only 0% of LICENSE"},
		"more than a licence": {map[string]string{"LICENSE": mit + strings.Repeat("Pay one euro for each day of use. ", 30)}, "of LICENSE is the text of known licences"},
	} {
		t.Run(title, func(t *testing.T) {
			dir := t.TempDir()
			files := map[string]string{
				"page.md":          "# Page\n\n## `main`\n\nText.\n\n## `later`\n",
				"main/go.mod":      "module main.example/main\n\ngo 1.26\n\nrequire other.example/other v0.0.0\n\nreplace other.example/other => ../other\n",
				"main/main.go":     "package main\n\nimport _ \"other.example/other/third\"\n\nfunc main() {}\n",
				"other/go.mod":     "module other.example/other\n\ngo 1.26\n",
				"other/third/a.go": "package third\n",
			}
			for name, text := range c.licences {
				files["other/"+name] = text
			}
			for name, text := range files {
				name = filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			t.Chdir(dir)
			t.Setenv("GOFLAGS", "-mod=mod")
			if title != "allowed" {
				err := run("", "page.md", "", []string{"main"})
				if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
					t.Errorf("%v, want %q", err, c.err)
				}
				return
			}
			if err := run("page.md", "", "", []string{"main"}); err == nil || !strings.Contains(err.Error(), "page.md: the table of main is out of date") {
				t.Errorf("a page without a table: %v", err)
			}
			if err := run("", "page.md", "", []string{"main"}); err != nil {
				t.Fatal(err)
			}
			page, _ := os.ReadFile("page.md")
			if want := "## `main`\n\nText.\n\n| module | licences |\n|---|---|\n| other.example/other | MIT |\n| the standard library of Go | BSD-3-Clause |\n\n## `later`\n"; !strings.HasSuffix(string(page), want) {
				t.Errorf("%s, want %s", page, want)
			}
			if err := run("page.md", "", "", []string{"main"}); err != nil {
				t.Error(err)
			}
			if err := run("", "", "texts", []string{"main"}); err != nil {
				t.Fatal(err)
			}
			texts, _ := os.ReadFile("texts")
			want := "==== other.example/other: LICENSE ====\n\n" + mit + "\n" +
				"==== other.example/other: NOTICE ====\n\nOther\nCopyright 2026 Somebody\n\n" +
				"==== other.example/other: third/notice.txt ====\n\nThird\n\n" +
				"==== the standard library of Go: "
			if !strings.HasPrefix(string(texts), want) {
				t.Errorf("texts: %s, want %s", texts, want)
			}
		})
	}
}
