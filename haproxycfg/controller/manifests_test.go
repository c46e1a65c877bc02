package controller_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/controller"
)

const localManifests = `{apiVersion: v1, kind: Node, metadata: {name: a}, status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: b}, status: {addresses: [{type: InternalIP, address: 10.0.0.2}]}}
---
{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: web}, spec: {type: NodePort, externalTrafficPolicy: Local, ports: [{port: 80, nodePort: 30080}]}}
`

const localSlice = `{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {namespace: shop, name: web-1, labels: {kubernetes.io/service-name: web}}, addressType: IPv4, endpoints: [{addresses: [10.244.0.1], nodeName: a}]}
`

// With LocalEndpoints, the pods in the EndpointSlices of the directory decide which nodes are used.
func TestManifestsReadEndpointSlices(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "objects.yaml")
	write := func(text string) {
		require.NoError(t, os.WriteFile(path+".new", []byte(text), 0o600))
		require.NoError(t, os.Rename(path+".new", path))
	}
	read := func(m controller.Manifests) controller.ClusterState {
		state, err := m.Read(t.Context(), controller.Start{})
		require.NoError(t, err)
		require.True(t, state.Synced)
		return state
	}
	source := controller.Manifests{Dir: dir, LocalEndpoints: true}
	write(localManifests)
	require.Nil(t, read(source).Objects.ReadyNodes, "nothing is known about pods")
	write(localManifests + "---\n" + localSlice)
	require.Equal(t, map[string][]string{"shop/web": {"a"}}, read(source).Objects.ReadyNodes)
	require.Nil(t, read(controller.Manifests{Dir: dir}).Objects.ReadyNodes)
	write(localManifests + "---\n{apiVersion: v1, kind: Status}\n")
	require.Len(t, read(source).Problems, 1, "both readers find the same problem")
	_, err := controller.Manifests{Dir: filepath.Join(dir, "missing"), LocalEndpoints: true}.Read(t.Context(), controller.Start{})
	require.Error(t, err)

	write(localManifests + "---\n" + localSlice)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	first := true
	err = source.Follow(ctx, controller.Start{}, func(state controller.ClusterState) {
		nodes := state.Objects.ReadyNodes["shop/web"]
		require.True(t, state.Synced)
		require.Len(t, state.Objects.Nodes, 2)
		if first {
			require.Equal(t, []string{"a"}, nodes)
			first = false
			write(localManifests + "---\n" + strings.ReplaceAll(localSlice, "nodeName: a", "nodeName: b"))
		}
		if len(nodes) == 1 && nodes[0] == "b" {
			cancel()
		}
	})
	require.ErrorIs(t, err, context.Canceled)
}
