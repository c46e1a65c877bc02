package headgate_test

import (
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// tableOf returns the cells of each row of a table in a page. The argument "heading" is the first
// line of the table.
func tableOf(t *testing.T, page, heading string) (rows [][]string) {
	t.Helper()
	_, rest, ok := strings.Cut(page, "\n"+heading+"\n")
	require.True(t, ok, heading)
	for line := range strings.Lines(rest) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			break
		}
		if strings.HasPrefix(line, "|---") {
			continue
		}
		cells := strings.Split(strings.Trim(strings.ReplaceAll(line, `\|`, "\x00"), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(strings.ReplaceAll(cells[i], "\x00", "|"))
		}
		rows = append(rows, cells)
	}
	require.NotEmpty(t, rows, heading)
	return rows
}

// TestOperationsPage checks OPERATIONS.md: the code has each message of the troubleshooting table,
// and the pages have each figure of the capacity table, with its command.
func TestOperationsPage(t *testing.T) {
	text, err := os.ReadFile("examples/OPERATIONS.md")
	require.NoError(t, err)
	page := string(text)

	var code strings.Builder
	for _, dir := range []string{"agentcheck", "examples", "haproxycfg", "internal", "nodeselect", "sniproxy"} {
		require.NoError(t, filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
				return err
			}
			data, err := os.ReadFile(file)
			for line := range strings.Lines(string(data)) {
				if !strings.HasPrefix(strings.TrimSpace(line), "//") { // a comment prints nothing
					code.WriteString(line)
				}
			}
			return err
		}))
	}
	messages := 0
	for _, row := range tableOf(t, page, "| you see | look at | do |") {
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[0], -1) {
			messages++
			for part := range strings.SplitSeq(m[1], "…") {
				if !strings.Contains(code.String(), strings.TrimSpace(part)) {
					t.Errorf("no code has the text %q of the message %q", part, m[1])
				}
			}
		}
	}
	require.Greater(t, messages, 15)

	for _, row := range tableOf(t, page, "| what | figure | page | command |") {
		link := regexp.MustCompile(`\]\(([^)#]+)`).FindStringSubmatch(row[2])
		require.NotNil(t, link, row)
		source, err := os.ReadFile(filepath.Join("examples", link[1]))
		require.NoError(t, err)
		require.True(t, strings.Contains(string(source), row[1]), "%s has no figure %s", link[1], row[1])
		command := strings.Trim(row[3], "`")
		require.True(t, strings.Contains(string(source), command), "%s has no command %s", link[1], command)
	}
	terminators := (20000*134e-6 + 1000*0.5e-3) / (2 * 0.5)
	routers := (5000*84.1e-6 + 2*0.24) / (2 * 0.5)
	require.Contains(t, page, fmt.Sprintf("%.2f machines, so %.0f,", terminators, math.Ceil(terminators)))
	require.Contains(t, page, fmt.Sprintf("%.2f machines, so %.0f,", routers, math.Ceil(routers)))
}
