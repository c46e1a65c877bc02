package clitest

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// mapping is a row of a table that maps a setting of another program to a setting of ours.
type mapping struct {
	line   int
	theirs string
	ours   string // "no equivalent", "nothing to set", or only code
	proof  string // code that the result of our setting contains
	differ string
}

var code = regexp.MustCompile("`([^`]+)`")

// codeIn returns the texts between backquotes in a cell of a table, and the rest of the cell.
func codeIn(cell string) (list []string, rest string) {
	for _, m := range code.FindAllStringSubmatch(cell, -1) {
		list = append(list, m[1])
	}
	return list, strings.Trim(code.ReplaceAllString(cell, ""), " ,")
}

// CheckMappings checks the tables of a page whose second column has the heading "headgate". The
// columns are: the setting of another program, our setting, a part of the result of our setting,
// and the difference. The function "result" returns the result of settings, a text. The second cell
// of a row is one of these:
//
//   - settings as code: the result of these settings must contain the code in the third cell more
//     often than the result without settings.
//   - "nothing to set": the result without settings must contain the code in the third cell.
//   - "no equivalent": the third cell is empty, and the fourth cell says what to do instead.
func CheckMappings(t *testing.T, page string, result func(t testing.TB, settings []string) string) {
	base := result(t, nil)
	rows := mappings(t, page)
	if len(rows) < 10 {
		t.Fatalf("%s has only %d rows of mappings", page, len(rows))
	}
	for _, row := range rows {
		settings, rest := codeIn(row.ours)
		proof, more := codeIn(row.proof)
		at := func(format string, args ...any) {
			t.Helper()
			t.Errorf("%s:%d: %s: "+format, append([]any{page, row.line, row.theirs}, args...)...)
		}
		switch {
		case rest == "no equivalent" && settings == nil:
			if row.proof != "" || row.differ == "" {
				at("without an equivalent, the third cell must be empty, and the fourth must say what to do")
			}
			continue
		case rest != "" && rest != "nothing to set" || (rest == "") == (settings == nil):
			at("the second cell must be code, or \"nothing to set\", or \"no equivalent\": %s", row.ours)
			continue
		case proof == nil || more != "":
			at("the third cell must be code that the result contains: %s", row.proof)
			continue
		}
		out := base
		if settings != nil {
			out = result(t, settings)
		}
		for _, p := range proof {
			switch n := strings.Count(out, p); {
			case n == 0:
				at("the result of %v does not contain %q", settings, p)
			case settings != nil && n <= strings.Count(base, p):
				at("the result contains %q as often without %v", p, settings)
			}
		}
	}
}

// mappings returns the rows of the tables of a page whose second column is "headgate".
func mappings(t *testing.T, page string) (rows []mapping) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	in := false
	for i, line := range strings.Split(string(text), "\n") {
		if !strings.HasPrefix(line, "|") {
			in = false
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for j := range cells {
			cells[j] = strings.TrimSpace(cells[j])
		}
		switch {
		case len(cells) > 1 && cells[1] == "headgate":
			in = true
		case !in || strings.HasPrefix(cells[0], "---"):
		case len(cells) != 4:
			t.Errorf("%s:%d: a row of mappings must have 4 cells, not %d", page, i+1, len(cells))
		default:
			rows = append(rows, mapping{i + 1, cells[0], cells[1], cells[2], cells[3]})
		}
	}
	return rows
}

// CodeBlocks returns the code blocks of a page in a language, such as "yaml". It removes the
// indentation of blocks in lists.
func CodeBlocks(t testing.TB, page, language string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?ms)^( *)```(\\w+)\n(.*?)^ *```$").FindAllStringSubmatch(string(text), -1) {
		if m[2] == language {
			blocks = append(blocks, strings.ReplaceAll("\n"+m[3], "\n"+m[1], "\n")[1:])
		}
	}
	return blocks
}
