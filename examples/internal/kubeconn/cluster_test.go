package kubeconn

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseClusters(t *testing.T) {
	clusters, err := ParseClusters([]string{"a=kubeconfig:f:ctx", "b=f", "c=in-cluster", "d=dir:objects"})
	require.NoError(t, err)
	require.Equal(t, []Cluster{
		{Name: "a", spec: "f:ctx"}, {Name: "b", spec: "f"}, {Name: "c", spec: InCluster}, {Name: "d", Dir: "objects"},
	}, clusters)
	require.True(t, clusters[0].Live())
	require.False(t, clusters[3].Live())
	for text, want := range map[string]string{
		"a": clusterForm, "=f": clusterForm, "a=": clusterForm, "a=dir:": clusterForm, "a=kubeconfig:": clusterForm,
		"a=kubeconfig:in-cluster": clusterForm, "A.b=f": "no name of a cluster", "b=f": "given twice",
	} {
		_, err := ParseClusters([]string{"b=f", text})
		require.ErrorContains(t, err, want, text)
	}
}
