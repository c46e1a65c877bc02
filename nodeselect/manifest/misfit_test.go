package manifest_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/manifest"
)

func TestObjectsInThePlaceOfTheWantedOnes(t *testing.T) {
	t.Parallel()
	const unauthorized = `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Unauthorized","reason":"Unauthorized","code":401}`
	for _, tt := range []struct{ name, text, want string }{
		{"status", unauthorized, `f:1: a Status, which is the answer to a failed request, instead of objects: "Unauthorized"`},
		{"status in YAML", "kind: Status\napiVersion: v1\n", "f:1: a Status, which is the answer to a failed request, instead of objects"},
		{"table", `{"kind":"Table","apiVersion":"meta.k8s.io/v1","rows":[]}`, "f:1: a Table, which the API server writes for people, instead of objects"},
		{
			"metadata", `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"}},{"metadata":{"name":"c"}}]}`,
			"f:1: PartialObjectMetadata, which lack all fields except metadata, instead of objects (and 2 more)",
		},
		{"lower case", "apiVersion: v1\nkind: node\nmetadata: {name: a}\n", `f:1: apiVersion "v1" and kind "node": want v1 and Node`},
		{"plural", "apiVersion: v1\nkind: Services\nmetadata: {name: a}\n", `f:1: apiVersion "v1" and kind "Services": want v1 and Service`},
		{"two letters swapped", "apiVersion: v1\nkind: Sevrice\nmetadata: {name: a}\n", `f:1: apiVersion v1 has no kind "Sevrice"`},
		{"upper-case version", "apiVersion: V1\nkind: Node\nmetadata: {name: a}\n", `f:1: apiVersion "V1" and kind "Node": want v1 and Node`},
		{"group of the core", "apiVersion: core/v1\nkind: Service\nmetadata: {name: a}\n", `f:1: apiVersion "core/v1" and kind "Service": want v1 and Service`},
		{"no version", "kind: Node\nmetadata: {name: a}\n", `f:1: apiVersion "" and kind "Node": want v1 and Node`},
		{"old version", "apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\nmetadata: {name: a}\n", `f:1: apiVersion "discovery.k8s.io/v1beta1" and kind "EndpointSlice": want discovery.k8s.io/v1 and EndpointSlice`},
		{"slice in the core", "apiVersion: v1\nkind: EndpointSlice\nmetadata: {name: a}\n", `f:1: apiVersion "v1" and kind "EndpointSlice": want discovery.k8s.io/v1 and EndpointSlice`},
		{"other kinds only", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n", "f: no Node, Service or EndpointSlice in it"},
		{"kinds of other groups", "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: a}\n", "f: no Node, Service or EndpointSlice in it"},
		{"a node and other kinds", "apiVersion: v1\nkind: Node\nmetadata: {name: a}\n---\napiVersion: apps/v1\nkind: Deployment\n---\napiVersion: v1\nkind: ConfigMap\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var of [2][]nodeselect.Problem
			_, of[0] = manifest.Parse("f", []byte(tt.text))
			_, of[1] = manifest.ParseEndpointSlices("f", []byte(tt.text))
			for _, problems := range of {
				if tt.want == "" {
					require.Empty(t, problems)
					continue
				}
				require.Len(t, problems, 1)
				require.EqualError(t, problems[0], tt.want)
				require.Equal(t, problems[0].Line == 0, problems[0].Warning, "other kinds are no mistake")
			}
		})
	}
}

// Parse, which reads nodes and services, ignores EndpointSlices without a problem.
// ParseEndpointSlices ignores nodes without a problem.
func TestFileOfTheOtherReader(t *testing.T) {
	t.Parallel()
	_, problems := manifest.Parse("f", []byte("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a}\n"))
	require.Empty(t, problems)
	_, problems = manifest.ParseEndpointSlices("f", []byte("apiVersion: v1\nkind: Node\nmetadata: {name: a}\n"))
	require.Empty(t, problems)
}

// A script may overwrite the file with the answer to a request that the API server refuses.
func TestWatchDirKeepsNodesWhenARequestFails(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "nodes.json")
	write := func(text string) {
		require.NoError(t, os.WriteFile(path+".new", []byte(text), 0o600))
		require.NoError(t, os.Rename(path+".new", path))
	}
	write(`{"apiVersion":"v1","kind":"Node","metadata":{"name":"a"}}`)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	step := 0
	err := manifest.WatchDir(ctx, filepath.Dir(path), func(objects nodeselect.Objects, problems []nodeselect.Problem) {
		step++
		switch {
		case step == 1:
			write(`{"kind":"Status","apiVersion":"v1","status":"Failure","message":"Unauthorized","code":401}`)
		case len(problems) == 2: // the Status, and that the node is kept
			require.Len(t, objects.Nodes, 1)
			cancel()
		}
	})
	require.ErrorIs(t, err, context.Canceled)
}
