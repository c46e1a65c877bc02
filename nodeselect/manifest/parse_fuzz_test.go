package manifest

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzParse compares Parse, which cuts lists into items, with a parse of each whole document, and
// checks the promises that Parse makes about its result.
func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		got, problems := Parse("f", data)
		lines := bytes.Count(plainText(data), []byte("\n")) + 1
		for _, p := range problems {
			require.Equal(t, "f", p.File)
			require.NotEmpty(t, p.Message)
			require.NotContains(t, p.Message, "\n")
			require.LessOrEqual(t, p.Line, lines)
		}
		names := map[string]bool{}
		for _, n := range got.Nodes {
			require.False(t, names["Node "+n.Name])
			names["Node "+n.Name] = true
			require.Same(t, n, got.Node(n.Name))
		}
		for _, s := range got.Services {
			require.False(t, names["Service "+s.Namespace+"/"+s.Name])
			names["Service "+s.Namespace+"/"+s.Name] = true
			require.Same(t, s, got.Service(s.Namespace, s.Name))
		}

		var reference []batch
		for _, doc := range splitDocuments(plainText(data)) {
			if isBlank(doc.text) {
				continue
			}
			if looksLikeJSON(doc.text) {
				return // JSON has rules of its own
			}
			reference = append(reference, parseYAML(doc))
		}
		if len(reference) == 0 {
			require.Len(t, problems, 1)
			return
		}
		usable, ignored := 0, 0
		for _, b := range reference {
			usable += b.usable
			ignored += b.ignored
		}
		want, wantProblems := collect(reference)
		if len(wantProblems) == 0 && usable == 0 && ignored > 0 {
			require.Len(t, problems, 1)
			require.True(t, problems[0].Warning, "the file has only objects of other kinds")
			return
		}
		if len(wantProblems) == 0 {
			require.Empty(t, problems)
		}
		if len(problems) == 0 {
			require.Empty(t, wantProblems)
			require.Equal(t, want, got)
		}
	})
}
