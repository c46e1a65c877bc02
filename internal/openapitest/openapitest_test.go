package openapitest

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const document = `
openapi: 3.1.0
info: {title: Test}
servers: [{url: http://127.0.0.1}]
security: [{token: []}]
paths:
  /items/{name}:
    get:
      summary: An item
      x-codeSamples: [{source: curl http://127.0.0.1/items/a}]
      responses:
        "200":
          description: The item.
          headers: {ETag: {required: true, schema: {type: string, pattern: "^[a-z]$"}}}
          content: {application/json: {schema: {$ref: "#/components/schemas/item"}}}
        "404": {$ref: "#/components/responses/none"}
components:
  schemas:
    item:
      type: object
      required: [name]
      additionalProperties: false
      properties:
        name: {type: string}
        sizes: {type: array, items: {type: integer, minimum: 1, maximum: 9}}
        kind: {enum: [a, b]}
        labels: {type: object, additionalProperties: {type: string}}
        next: {type: ["null", boolean]}
        both: {allOf: [{type: string}, {const: x}]}
  responses:
    none: {description: There is no such item., content: {text/plain: {}}}
`

// recorder is a testing.TB that stores the error messages in place of failing the test.
type recorder struct {
	testing.TB
	faults []string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	panic(r)
}

// faultsOf returns what a check finds.
func faultsOf(t *testing.T, check func(t testing.TB)) string {
	r := &recorder{TB: t}
	func() {
		defer func() {
			if p := recover(); p != nil && p != any(r) {
				panic(p)
			}
		}()
		check(r)
	}()
	return strings.Join(r.faults, "\n")
}

func TestCheck(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "openapi.yaml")
	require.NoError(t, os.WriteFile(file, []byte(document), 0o600))
	for name, tt := range map[string]struct {
		status      int
		etag, media string
		body, fault string
	}{
		"all members":    {200, "a", "application/json", `{"name": "x", "sizes": [1, 9], "kind": "b", "labels": {"l": "m"}, "next": null, "both": "x"}`, ""},
		"another status": {201, "a", "application/json", `{}`, "does not list GET /items/{name} 201"},
		"no header":      {200, "", "application/json", `{"name": "x"}`, "lacks the header ETag"},
		"wrong header":   {200, "1", "application/json", `{"name": "x"}`, "breaks the rule pattern"},
		"another type":   {200, "a", "text/plain", `{"name": "x"}`, `the type "text/plain"`},
		"no JSON":        {200, "a", "application/json", `{`, "unexpected end"},
		"no name":        {200, "a", "application/json", `{}`, "the member name is missing"},
		"unknown member": {200, "a", "application/json", `{"name": "x", "y": 1}`, "does not list the member y"},
		"a number":       {200, "a", "application/json", `{"name": 5}`, "breaks the rule type"},
		"a fraction":     {200, "a", "application/json", `{"name": "x", "sizes": [1.5]}`, "breaks the rule type"},
		"too small":      {200, "a", "application/json", `{"name": "x", "sizes": [0]}`, "breaks the rule minimum"},
		"too large":      {200, "a", "application/json", `{"name": "x", "sizes": [10]}`, "breaks the rule maximum"},
		"another kind":   {200, "a", "application/json", `{"name": "x", "kind": "c"}`, "breaks the rule enum"},
		"another label":  {200, "a", "application/json", `{"name": "x", "labels": {"l": 1}}`, "breaks the rule type"},
		"another type 2": {200, "a", "application/json", `{"name": "x", "next": "y"}`, "breaks the rule type"},
		"not both":       {200, "a", "application/json", `{"name": "x", "both": "y"}`, "breaks the rule const"},
		"by reference":   {404, "", "text/plain; charset=utf-8", "none", ""},
	} {
		doc := Load(t, file)
		h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", tt.media)
			if tt.etag != "" {
				w.Header().Set("ETag", tt.etag)
			}
			w.WriteHeader(tt.status)
			fmt.Fprint(w, tt.body)
		})
		got := faultsOf(t, func(t testing.TB) { doc.Send(t, h, "GET", "/items/a", tt.status) })
		require.Contains(t, got, tt.fault, name)
		require.Equal(t, tt.fault == "", got == "", "%s: %s", name, got)
		require.Contains(t, faultsOf(t, func(t testing.TB) { doc.Send(t, h, "GET", "/items/a", 500) }), "want 500", name)
		require.Contains(t, faultsOf(t, func(t testing.TB) { doc.Send(t, h, "PUT", "/items/a", tt.status) }), "lists no PUT", name)
		require.Contains(t, faultsOf(t, func(t testing.TB) { doc.RequireAll(t, nil) }), "the test has not seen it", name)
	}
}

// If a text with a comma has no quotes, YAML cuts the text at the comma.
func TestLoadRefusesMembersWithoutValue(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "openapi.yaml")
	cut := strings.Replace(document, "description: There is no such item.", "description: There is no item, none", 1)
	require.NoError(t, os.WriteFile(file, []byte(cut), 0o600))
	require.Contains(t, faultsOf(t, func(t testing.TB) { Load(t, file) }), "/components/responses/none/none has no value")
}
