package schemas

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// TestSchemasOfOpenAPI: a complete library understands each schema of the OpenAPI documents.
// Package openapitest, which compares the answers of handlers with the schemas, is not complete.
func TestSchemasOfOpenAPI(t *testing.T) {
	documents := 0
	require.NoError(t, filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "out" || entry.Name() == ".git"):
			return fs.SkipDir
		case entry.Name() != "openapi.yaml":
			return nil
		}
		documents++
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		var root yaml.Node
		require.NoError(t, yaml.Unmarshal(text, &root))
		budget := 100_000
		document, err := value(&root, &budget)
		require.NoError(t, err)
		compiler := jsonschema.NewCompiler()
		compiler.DefaultDraft(jsonschema.Draft2020)
		require.NoError(t, compiler.AddResource("openapi.json", document))
		schemas := 0
		var walk func(v any, pointer string)
		walk = func(v any, pointer string) {
			switch v := v.(type) {
			case []any:
				for i, item := range v {
					walk(item, pointer+"/"+strconv.Itoa(i))
				}
			case map[string]any:
				for key, member := range v {
					at := pointer + "/" + strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(key)
					if key == "schema" || strings.HasSuffix(pointer, "/components/schemas") {
						_, err := compiler.Compile("openapi.json#" + at)
						require.NoError(t, err, "%s %s", path, at)
						schemas++
						continue
					}
					walk(member, at)
				}
			}
		}
		walk(document, "")
		if path != top+"examples/openapi.yaml" { // it has only texts
			require.Positive(t, schemas, path)
		}
		return nil
	}))
	require.Equal(t, 8, documents)
}
