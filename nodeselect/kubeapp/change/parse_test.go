package change_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/nodeselect/kubeapp"
	"github.com/headgate/headgate/nodeselect/kubeapp/change"
)

// Parse reads what package kubeapp writes.
func TestParseReadsAnApp(t *testing.T) {
	app := kubeapp.App{
		Name: "tracks", Namespace: "media", Image: "tracks:1", Ingress: &kubeapp.Ingress{Host: "a.example.com"},
		Ports: []kubeapp.Port{{Name: "http", Number: 8080, NodePort: 30080}},
	}
	objects, err := app.Objects()
	require.NoError(t, err)
	text, err := kubeapp.AppendYAML([]byte("# a comment\n"), objects.List()...)
	require.NoError(t, err)
	got, problems := change.Parse("app.yaml", text)
	require.Empty(t, problems)
	require.Equal(t, []string{"media"}, got.Namespaces)
	require.Len(t, got.Services, 1)
	require.Equal(t, objects.Service, got.Services[0])
	require.Len(t, got.Deployments, 1)
	require.Equal(t, objects.Deployment.Spec.Selector, got.Deployments[0].Spec.Selector)
	require.Equal(t, []string{"media"}, got.AllNamespaces())

	require.Equal(t, []string{"Service media/tracks", "Deployment media/tracks"}, got.Add(got))
	require.Len(t, got.Services, 1)
}

func TestParseProblems(t *testing.T) {
	objects, problems := change.Parse("f.yaml", []byte(`
apiVersion: v1
kind: Service
metadata: {name: good}
---
apiVersion: v1
kind: Service
metadata: {name: good}
---
apiVersion: v1
kind: Service
metadata: {name: mistyped}
spec:
  ports: [{port: 80, nodeport: 30080}]
---
apiVersion: v1
kind: Service
metadata: {namespace: media}
---
apiVersion: v1
kind: Service
 metadata: {name: indented}
---
kind: Service
---
- a
---
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
--- # a comment
{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "json", "namespace": "media"}}
`))
	require.Len(t, objects.Services, 1)
	require.Equal(t, "default", objects.Services[0].Namespace)
	require.Len(t, objects.Deployments, 1)
	require.Equal(t, []string{"default", "media"}, objects.AllNamespaces())
	var texts []string
	for _, p := range problems {
		texts = append(texts, p.Error())
	}
	require.Len(t, texts, 6, texts)
	for i, want := range []string{
		"f.yaml:5: Service default/good: another object has this name",
		`f.yaml:9: Service default/mistyped: strict decoding error: unknown field "spec.ports[0].nodeport"`,
		"f.yaml:15: Service: metadata.name is missing",
		"f.yaml:22: yaml: mapping values", // the line of the mistake
		"f.yaml:23: want an object with apiVersion and kind",
		"f.yaml:25: ",
	} {
		require.Contains(t, texts[i], want)
	}
	_, problems = change.Parse("big.yaml", make([]byte, change.MaxFileBytes+1))
	require.Equal(t, "big.yaml: the file is larger than 16777216 bytes", problems[0].Error())
}

func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<14 {
			return
		}
		objects, problems := change.Parse("f", data)
		lines := bytes.Count(data, []byte("\n")) + 1
		for _, p := range problems {
			require.Equal(t, "f", p.File)
			require.NotEmpty(t, p.Message)
			require.False(t, strings.Contains(p.Message, "\n"))
			require.LessOrEqual(t, p.Line, lines+1)
		}
		for _, s := range objects.Services {
			require.NotEmpty(t, s.Name)
			require.NotEmpty(t, s.Namespace)
		}
		// A change to the same objects is no change.
		same := change.Change{Old: objects, New: objects}
		for _, f := range same.Check() {
			require.Equal(t, change.NodePortTaken, f.Kind)
			require.Empty(t, f.Allow)
		}
	})
}
