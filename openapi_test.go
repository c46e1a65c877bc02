package headgate_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/openapitest"
)

// apis are the OpenAPI documents, and the directories whose handlers they describe.
var apis = []struct {
	file string
	dirs []string
}{
	{"sniproxy/hostlookup/httpapi/openapi.yaml", []string{"sniproxy/hostlookup/httpapi"}},
	{"nodeselect/endpoints/httpapi/openapi.yaml", []string{"nodeselect/endpoints/httpapi"}},
	{"nodeselect/disruption/gate/keeper/openapi.yaml", []string{"nodeselect/disruption/gate/keeper"}},
	{"examples/openapi.yaml", []string{"examples/internal/cli"}},
	{"examples/terminator/openapi.yaml", []string{"examples/terminator", "haproxycfg/controller", "haproxycfg/shift"}},
	{"examples/snirouter/openapi.yaml", []string{"examples/snirouter"}},
	{"examples/nodeagent/openapi.yaml", []string{"examples/nodeagent"}},
	{"examples/frontproxy/openapi.yaml", []string{"examples/frontproxy"}},
}

const apisPage = "examples/HTTP.md"

// TestOpenAPIDocuments: each operation says what it does, who may call it, which parameters and
// answers it has, and how to call it with curl.
func TestOpenAPIDocuments(t *testing.T) {
	parameter := regexp.MustCompile(`\{(\w+)\}`)
	for _, api := range apis {
		doc := openapitest.Load(t, api.file)
		require.NotEmpty(t, doc.Title)
		require.NotEmpty(t, doc.Description)
		for _, op := range doc.Operations {
			where := api.file + ": " + op.Method + " " + op.Path
			require.NotEmpty(t, op.Summary, where)
			require.NotEmpty(t, op.Security, where)
			require.NotEmpty(t, op.Answers, where)
			names := map[string]bool{}
			for _, p := range op.Parameters {
				require.NotEmpty(t, p.Description, where+" "+p.Name)
				require.Contains(t, []string{"path", "query", "header"}, p.In, where)
				if p.In == "path" {
					require.Contains(t, op.Path, "{"+p.Name+"}", where)
					require.True(t, p.Required, where)
				}
				if p.In == "query" && p.Required {
					require.Contains(t, op.Curl, p.Name+"=", where)
				}
				names[p.Name] = true
			}
			pattern := regexp.QuoteMeta(op.Path)
			for _, match := range parameter.FindAllStringSubmatch(op.Path, -1) {
				require.True(t, names[match[1]], "%s: parameter %s", where, match[1])
				pattern = strings.ReplaceAll(pattern, regexp.QuoteMeta(match[0]), `[^/?' ]+`)
			}
			require.Regexp(t, pattern+`(['? ]|$)`, op.Curl, where)
			if op.Method == "DELETE" {
				require.Contains(t, op.Curl, "-X DELETE", where)
			}
			for _, a := range op.Answers {
				require.NotEmpty(t, a.Description, "%s %d", where, a.Status)
			}
		}
	}
}

// pattern matches the patterns of http.ServeMux, and the paths that a handler compares.
var pattern = regexp.MustCompile(`^((GET|POST|PUT|DELETE) )?(/[a-z0-9{}.:/$-]*)$`)

// TestEveryPathIsDocumented: a document lists each path that the code registers, and the code
// registers each path that a document lists. The tests TestOpenAPI of the packages compare the
// answers. The test does not look into the directory "internal", whose packages serve no API of a
// binary.
func TestEveryPathIsDocumented(t *testing.T) {
	of := map[string]int{} // directory: index in apis
	listed := make([]map[string]bool, len(apis))
	for i, api := range apis {
		for _, dir := range api.dirs {
			of[dir] = i
		}
		listed[i] = map[string]bool{}
		for _, op := range openapitest.Load(t, api.file).Operations {
			listed[i][op.Method+" "+op.Path] = false
		}
	}
	require.NoError(t, filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (path == "out" || path == "bin" || path == ".git" || path == "examples/e2e" || path == "internal"):
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		if !serves(file) {
			return nil
		}
		i, ok := of[filepath.Dir(path)]
		if !ok {
			t.Errorf("%s serves HTTP; add its directory to an OpenAPI document in apis", path)
			return nil
		}
		ast.Inspect(file, func(n ast.Node) bool {
			literal, ok := n.(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(literal.Value)
			require.NoError(t, err)
			match := pattern.FindStringSubmatch(text)
			if match == nil || text == "/" { // "/" is the answer to all other paths
				return true
			}
			method, url := match[2], strings.TrimSuffix(match[3], "{$}")
			found := false
			for key := range listed[i] {
				m, p, _ := strings.Cut(key, " ")
				if p == url && (method == "" || m == method) {
					listed[i][key], found = true, true
				}
			}
			if !found {
				t.Errorf("%s serves %s, and %s does not list it", path, text, apis[i].file)
			}
			return true
		})
		return nil
	}))
	for i, api := range apis {
		for key, found := range listed[i] {
			require.True(t, found, "%s lists %s, and no code serves it", api.file, key)
		}
	}
}

// serves reports whether a file makes an http.ServeMux or compares the path of a request.
func serves(file *ast.File) (found bool) {
	ast.Inspect(file, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, _ := s.X.(*ast.Ident)
		inner, _ := s.X.(*ast.SelectorExpr)
		found = found || x != nil && x.Name == "http" && s.Sel.Name == "NewServeMux" ||
			inner != nil && inner.Sel.Name == "URL" && s.Sel.Name == "Path" && pathOfRequest(inner)
		return true
	})
	return found
}

// pathOfRequest reports whether s has the form r.NAME, such as r.URL. By convention, the variable r
// is a request.
func pathOfRequest(s *ast.SelectorExpr) bool {
	x, ok := s.X.(*ast.Ident)
	return ok && x.Name == "r"
}

// TestHTTPPage: the page of all HTTP APIs has the content of the documents. To write the page, run
// UPDATE_HTTP=1 go test -run TestHTTPPage .
func TestHTTPPage(t *testing.T) {
	page := httpPage(t)
	if os.Getenv("UPDATE_HTTP") != "" {
		require.NoError(t, os.WriteFile(apisPage, []byte(page), 0o644))
	}
	have, err := os.ReadFile(apisPage)
	require.NoError(t, err)
	require.Equal(t, page, string(have), "run UPDATE_HTTP=1 go test -run TestHTTPPage .")
}

func httpPage(t *testing.T) string {
	var b strings.Builder
	b.WriteString(`# HTTP APIs

All HTTP APIs of headgate. A test makes this page from OpenAPI 3.1 documents, and tests compare each document with the answers of the
real handlers. In the column "who", *anybody* means that a request needs no token, and *token* means the header
` + "`Authorization: Bearer TOKEN`" + `. Parameters in bold are required.

A document in YAML is also an input for tools, such as generators of clients.

`)
	for _, api := range apis {
		doc := openapitest.Load(t, api.file)
		link, err := filepath.Rel("examples", api.file)
		require.NoError(t, err)
		fmt.Fprintf(&b, "## %s\n\n%s\n\nDocument: [`%s`](%s)\n\n", doc.Title, strings.TrimSpace(doc.Description), api.file, link)
		b.WriteString("| request | what | who | parameters | answers |\n|---|---|---|---|---|\n")
		for _, op := range doc.Operations {
			var parameters, answers []string
			for _, p := range op.Parameters {
				name := "`" + p.Name + "`"
				if p.Required {
					name = "**" + name + "**"
				}
				parameters = append(parameters, name+": "+p.Description)
			}
			if op.Body {
				parameters = append(parameters, "**body**: see the document")
			}
			for _, a := range op.Answers {
				text := fmt.Sprintf("%d: %s", a.Status, a.Description)
				if types := a.MediaTypes(); len(types) > 0 {
					text = fmt.Sprintf("%d (%s): %s", a.Status, strings.Join(types, ", "), a.Description)
				}
				answers = append(answers, text)
			}
			fmt.Fprintf(&b, "| `%s %s` | %s | %s | %s | %s |\n", op.Method, op.Path, cell(op.Summary), who(op), cell(parameters...), cell(answers...))
		}
		b.WriteString("\n```sh\n")
		for _, op := range doc.Operations {
			b.WriteString(op.Curl + "\n")
		}
		b.WriteString("```\n\n")
	}
	return strings.TrimSpace(b.String()) + "\n"
}

// who says who may call an operation.
func who(op *openapitest.Operation) string {
	var names []string
	for _, s := range op.Security {
		names = append(names, cmp.Or(s, "anybody"))
	}
	if slices.Equal(names, []string{"anybody", "token"}) {
		return "token, if the server has one"
	}
	if slices.Equal(names, []string{"token"}) {
		return "token, or anybody over the Unix socket"
	}
	return strings.Join(names, " or ")
}

// cell returns the text of a cell of a table.
func cell(lines ...string) string {
	text := strings.Join(lines, "<br>")
	return strings.NewReplacer("\n", " ", "|", `\|`).Replace(text)
}
