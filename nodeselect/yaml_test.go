package nodeselect

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/headgate/headgate/internal/manifesttest"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// fastTable holds documents, and whether fastYAML reads them: where it does, it
// must agree with the full parser, and where it is expected to, it must.
var fastTable = []struct {
	name, text string
	fast       bool
}{
	{"scalars", "a: b\nc: 1\nd: -5\ne: true\nf: false\ng: null\nh: 0\n", true},
	{"strings that look like something", "a: 10.0.0.1\nb: 8Gi\nc: 100m\nd: 10.0.0.0/24\ne: v1.2\nf: 910a2dec-8902-4cc1-a758-35de1c9756ce\ng: 0a1b2c3d\nh: 2001:db8::1\n", true},
	{"times", "a: 2026-03-02T07:30:00Z\nb: 2026-03-02T07:30:00.5Z\n", true},
	{"date", "a: 2026-03-02\n", true},
	{"truth words", "a: yes\n", false},
	{"one letter truth", "a: y\n", false},
	{"upper case truth", "a: TRUE\n", false},
	{"tilde", "a: ~\n", false},
	{"octal", "a: 012\n", false},
	{"underscores", "a: 1_000\n", false},
	{"binary", "a: 0b11\n", false},
	{"hexadecimal", "a: 0x1F\n", false},
	{"float", "a: 1.5\n", false},
	{"exponent", "a: 1e5\n", false},
	{"exponent of digits", "a: 12e45678\n", false},
	{"signed exponent", "a: 1e-5\n", false},
	{"infinity", "a: .inf\n", false},
	{"large integer", "a: 12345678901234567890\n", false},
	{"plus", "a: +1\n", false},
	{"minus zero", "a: -0\n", false},
	{"word with dash", "a: -foo\n", false},
	{"number keys", "1: a\n", false},
	{"truth keys", "yes: a\n", false},
	{"merge key", "a: &x\n  b: c\nd:\n  <<: *x\n", false},
	{"managed fields", "f:metadata:\n  f:annotations:\n    .: {}\n    k:{\"type\":\"Ready\"}:\n      f:x: {}\n    v:\"10.0.0.0/24\": {}\n", true},
	{"quoted keys", "\"a b\": 1\n'c: d': 2\n\"\": 3\n", true},
	{"escaped key", "\"a\\nb\": 1\n", false},
	{"doubled quote key", "'a''b': 1\n", false},
	{"key with blank", "a b: c\n", true},
	{"blank before colon", "a : c\n", false},
	{"colon inside", "a: b:c\nd: http://x:80/\n", true},
	{"colon and blank inside", "a: b: c\n", false},
	{"colon at the end", "a: b:\n", false},
	{"hash inside", "a: b#c\n", true},
	{"comment", "# x\na: b\n  # y\nc: d\n", true},
	{"comment behind", "a: b # c\n", false},
	{"comment behind key", "a: # c\n  b: d\n", false},
	{"empty collections", "a: {}\nb: []\n", true},
	{"flow mapping", "a: {b: c}\n", false},
	{"flow sequence", "a: [b, c]\n", false},
	{"sequence at the key", "a:\n- b\n- c\nd: e\n", true},
	{"sequence deeper", "a:\n  - b\n  - c\nd: e\n", true},
	{"sequence of mappings", "a:\n- b: 1\n  c: 2\n- b: 3\nd: e\n", true},
	{"sequence of sequences", "a:\n- - b\n  - c\n- - d\n", true},
	{"sequence in sequence item", "a:\n- b:\n  - c\n  d: e\n", true},
	{"empty element", "a:\n-\n- b\n", false},
	{"wide dash", "a:\n-   b: c\n    d: e\n", false},
	{"null values", "a:\nb:\n  c:\n  d: e\n", true},
	{"null at the end", "a:\n  b:\n", true},
	{"value on the next line", "a:\n  b\n", false},
	{"plain goes on", "a: b\n  c d\n  e\nf: g\n", true},
	{"plain goes on with a dash", "a: b\n  - c\n", false},
	{"plain goes on after a blank line", "a: b\n\n  c\n", false},
	{"plain and a key below", "a: b\n  c: d\n", false},
	{"number goes on", "a: 1\n  2\n", true},
	{"word goes on", "a: true\n  false\n", true},
	{"element goes on", "a:\n- b\n  c\n", true},
	{"single quotes", "a: 'b'\nc: 'it''s'\nd: ''\ne: '\"\\'\n", true},
	{"single quotes go on", "a: 'b\n  c'\nd: e\n", true},
	{"single quotes go on after a blank line", "a: 'b\n\n  c'\n", false},
	{"single quotes begin with a break", "a: '\n  c'\n", false},
	{"single quotes at the left", "a: 'b\nc'\n", false},
	{"text behind quotes", "a: 'b' c\n", false},
	{"double quotes", "a: \"b\"\nc: \"\\\"\\\\\\n\\t\\r\"\nd: \"\"\n", true},
	{"double quotes go on", "a: \"b\n  \\ c\"\nd: e\n", true},
	{"double quotes with a joined break", "a: \"b\\\n  c\"\n", false},
	{"other escapes", "a: \"\\x41\\u0041\\e\"\n", false},
	{"open quotes", "a: \"b\n", false},
	{"quoted sequence", "a:\n- 'b: c'\n- \"d\"\n", true},
	{"literal", "a: |\n  b\n    c\n\n  d\ne: f\n", true},
	{"literal, stripped", "a: |-\n  b\n\n\ne: f\n", true},
	{"literal, trailing blanks", "a: |\n  b  \n  c\t\nd: e\n", false},
	{"literal, trailing spaces", "a: |\n  b  \nd: e\n", true},
	{"literal, kept", "a: |+\n  b\n\nc: d\n", false},
	{"literal, indented by number", "a: |2\n  b\n", false},
	{"literal with comment and colon", "a: |\n  # b\n  c: d\n  - e\nf: g\n", true},
	{"literal, leading blank", "a: |\n\n  b\n", false},
	{"literal, blank line too long", "a: |\n  b\n      \n  c\n", false},
	{"literal, no newline at the end", "a: |\n  b", false},
	{"literal, empty", "a: |\nb: c\n", false},
	{"literal, then a comment", "a: |\n    b\n  # c\nd: e\n", true},
	{"literal, then less text", "a: |\n    b\n  c\n", false},
	{"literal in sequence", "a:\n- |\n  b\n- c\n", true},
	{"folded", "a: >\n  b\n  c\n", false},
	{"anchor", "a: &b c\nd: *b\n", false},
	{"tag", "a: !!str 1\n", false},
	{"duplicate key", "a: 1\na: 2\n", false},
	{"duplicate key, quoted", "a: 1\n\"a\": 2\n", false},
	{"same key elsewhere", "a:\n  b: 1\nc:\n  b: 2\n", true},
	{"tab", "a:\tb\n", false},
	{"carriage return", "a: b\r\nc: d\r\n", false},
	{"not ASCII", "a: é\n", false},
	{"too deep after scalar", "a: {}\n  b: c\n", false},
	{"indented less", "a:\n    b: c\n  d: e\n", false},
	{"sequence below mapping", "a: b\n- c\n", false},
	{"sequence", "- a\n", false},
	{"scalar", "a\n", false},
	{"indented", "  a: b\n", false},
	{"reserved", "a: @b\n", false},
	{"percent", "a: %b\n", false},
	{"question mark", "? a\n: b\n", false},
	{"no newline at the end", "a: b", true},
	{"trailing space", "a: b \n", false},
	{"blank lines", "\n\na: b\n\nc: d\n\n", true},
	{"long key", strings.Repeat("k", 1100) + ": a\n", false},
	{"deep", strings.Repeat("- ", 200) + "a\n", false},
}

func TestFastYAML(t *testing.T) {
	for _, tt := range fastTable {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.fast, checkFast(t, []byte(tt.text)))
			checkFast(t, indentItem([]byte(tt.text)))
		})
	}
}

// The very text that the fast reader is for is read by it, every item of it.
func TestFastYAMLReadsKubectl(t *testing.T) {
	for _, text := range [][]byte{manifesttest.YAML(manifesttest.Nodes(3)), manifesttest.YAML(manifesttest.Services(3))} {
		require.True(t, checkFast(t, text))
		_, items, _, ok := cutItems(text)
		require.True(t, ok)
		require.Len(t, items, 3)
		for _, item := range items {
			require.True(t, checkFast(t, text[item.start:item.end]))
		}
	}
}

// Strings of every shape come through the printer that kubectl uses and either
// reader alike.
func TestFastYAMLStrings(t *testing.T) {
	pieces := []string{"a", " ", "'", "\"", "\\", "\n", ":", "#", "-", "0", "1", ".", "e", "yes", "{", "|", "long words in a row that go beyond the width of the line, of which there are many"}
	fast, total := 0, 0
	for i := range pieces {
		for j := range pieces {
			for k := range pieces {
				s := pieces[i] + pieces[j] + pieces[k]
				text, err := yaml.Marshal(map[string]any{"a": map[string]string{s: s}, "b": []string{s, s}})
				require.NoError(t, err)
				total++
				if checkFast(t, text) {
					fast++
				}
			}
		}
	}
	require.Greater(t, fast, total/2, "the fast reader should know most of what is printed, even of these")
}

func indentItem(text []byte) []byte {
	var b bytes.Buffer
	indent := "- "
	for line := range bytes.Lines(text) {
		b.WriteString(indent)
		b.Write(line)
		indent = "  "
	}
	return b.Bytes()
}

// checkFast holds the fast reader against the full parser, as a document and as
// an item, and says whether one of both was read.
func checkFast(t testing.TB, text []byte) bool {
	t.Helper()
	var p fastYAML
	p.reset(text, false)
	if p.document() {
		slow, err := yamlToJSON(text)
		require.NoError(t, err, "%q is read by the fast reader alone", text)
		require.Equal(t, jsonValue(t, slow), jsonValue(t, p.out), "%q", text)
		return true
	}
	p.reset(text, false)
	if p.item() {
		slow, err := yamlToJSON(text)
		require.NoError(t, err, "%q is read by the fast reader alone", text)
		require.Equal(t, jsonValue(t, slow), []any{jsonValue(t, p.out)}, "%q", text)
		return true
	}
	return false
}

func jsonValue(t testing.TB, text []byte) any {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	require.NoError(t, dec.Decode(&v), "%s", text)
	return v
}

func FuzzFastYAML(f *testing.F) {
	for _, tt := range fastTable {
		f.Add([]byte(tt.text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 4096 {
			return
		}
		checkFast(t, text)
	})
}

// FuzzParse compares Parse with the full parser for the whole of each document,
// and holds what Parse promises of its result.
func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		got, problems := Parse("f", data)
		lines := bytes.Count(toUTF8(data), []byte("\n")) + 1
		for _, p := range problems {
			require.Equal(t, "f", p.File)
			require.NotEmpty(t, p.Message)
			require.NotContains(t, p.Message, "\n")
			require.LessOrEqual(t, p.Line, lines)
		}
		names := map[string]bool{}
		for _, n := range got.Nodes {
			require.False(t, names[nodeObject(n)])
			names[nodeObject(n)] = true
			require.Same(t, n, got.Node(n.Name))
		}
		for _, s := range got.Services {
			require.False(t, names[serviceObject(s)])
			names[serviceObject(s)] = true
			require.Same(t, s, got.Service(s.Namespace, s.Name))
		}

		var reference []batch
		for _, doc := range splitDocuments(toUTF8(data)) {
			if isBlank(doc.text) {
				continue
			}
			if looksLikeJSON(doc.text) {
				return // JSON has rules of its own
			}
			reference = append(reference, slowDocument(doc))
		}
		if len(reference) == 0 {
			require.Len(t, problems, 1)
			return
		}
		want, wantProblems := collect(reference)
		if len(wantProblems) == 0 {
			require.Empty(t, problems)
		}
		if len(problems) == 0 {
			require.Empty(t, wantProblems)
			require.Equal(t, want, got)
		}
	})
}
