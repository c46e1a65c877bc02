package schemas

import (
	"go/ast"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	fence = regexp.MustCompile("(?ms)^ *```[a-z]*\n(.*?)^ *```")
	seed  = regexp.MustCompile(`(?m)^(?:\[\]byte|string)\((".*")\)$`)
)

// texts calls a function for each text of the repository that may be a file of a user: manifests,
// code blocks of pages and of comments, strings in Go code (some are inputs of tests), and seeds of
// fuzz targets.
func texts(t testing.TB, each func(where, text string)) {
	root := os.DirFS(top)
	require.NoError(t, fs.WalkDir(root, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if path != "." && (name == "out" || name == "bin" || name == "node_modules" || name == ".git") {
				return fs.SkipDir
			}
			return nil
		}
		ext := filepath.Ext(name)
		inCorpus := strings.Contains(path, "testdata/fuzz/")
		if !inCorpus && ext != ".yaml" && ext != ".yml" && ext != ".json" && ext != ".md" && ext != ".go" {
			return nil
		}
		data, err := fs.ReadFile(root, path)
		if err != nil {
			return err
		}
		switch {
		case inCorpus:
			for _, match := range seed.FindAllSubmatch(data, -1) {
				text, err := strconv.Unquote(string(match[1]))
				require.NoError(t, err, path)
				each(path, text)
			}
		case ext == ".md":
			for _, match := range fence.FindAllSubmatch(data, -1) {
				each(path, string(match[1]))
			}
		case ext == ".go":
			file, err := parser.ParseFile(token.NewFileSet(), path, data, parser.ParseComments|parser.SkipObjectResolution)
			require.NoError(t, err)
			ast.Inspect(file, func(n ast.Node) bool {
				if s, ok := n.(*ast.BasicLit); ok && s.Kind == token.STRING {
					text, err := strconv.Unquote(s.Value)
					require.NoError(t, err)
					each(path, text)
				}
				return true
			})
			for _, group := range file.Comments {
				var p comment.Parser
				for _, block := range p.Parse(group.Text()).Content {
					if code, ok := block.(*comment.Code); ok {
						each(path, code.Text)
					}
				}
			}
		default:
			each(path, string(data))
		}
		return nil
	}))
}

// TestTextsOfTheRepository: parser and schema agree about every text of the repository. The schema
// accepts every example, every input of a test and every seed of a fuzz target that the parser
// accepts.
func TestTextsOfTheRepository(t *testing.T) {
	var comparisons []*comparison
	for i := range formats {
		comparisons = append(comparisons, newComparison(t, &formats[i]))
	}
	texts(t, func(where, text string) {
		if !strings.ContainsAny(text, ":{[") || len(text) > 100_000 {
			return
		}
		for _, c := range comparisons {
			if c.json && !strings.HasPrefix(strings.TrimSpace(text), "[") {
				continue
			}
			before := c.accepted
			c.check(t, []byte(text))
			if c.accepted > before {
				c.files[where] = true
			}
		}
	})
	for _, c := range comparisons {
		t.Logf("%s: the parser accepts %d texts of %d files", c.name, c.accepted, len(c.files))
	}
	files := map[string]map[string]bool{}
	for _, c := range comparisons {
		files[c.name] = c.files
	}
	// The walk finds the files of each kind.
	require.Contains(t, files["routes"], "examples/quickstart/system/routes.yaml")
	require.Contains(t, files["routes"], "examples/terminator/README.md")
	require.Contains(t, files["routes"], "haproxycfg/routes/doc.go")
	require.Contains(t, files["routes"], "haproxycfg/routes/parse_test.go")
	require.Contains(t, files["policy"], "haproxycfg/frontproxy/policy/doc.go")
	require.Contains(t, files["policy"], "haproxycfg/frontproxy/policy/policy_test.go")
	require.Contains(t, files["policy"], "examples/frontproxy/README.md")
	require.Contains(t, files["drill"], "haproxycfg/controller/drill/policy.go")
	require.Contains(t, files["drill"], "examples/drill/README.md")
	require.Contains(t, files["hosts"], "sniproxy/hostlookup/hosts_test.go")
	require.Contains(t, files["hosts"], "examples/hostapi/README.md")
}
