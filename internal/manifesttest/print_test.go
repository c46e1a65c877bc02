package manifesttest_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/headgate/headgate/internal/manifesttest"
)

// The printed objects can be read back, in both formats.
func TestPrintedReadsBack(t *testing.T) {
	nodes, services := manifesttest.Nodes(5), manifesttest.Services(5)
	for _, n := range []int{0, 1, 5} {
		for format, text := range map[string][]byte{"yaml": manifesttest.YAML(nodes[:n]), "json": manifesttest.JSON(nodes[:n])} {
			t.Run(fmt.Sprint(format, n), func(t *testing.T) {
				var list corev1.NodeList
				require.NoError(t, yaml.UnmarshalStrict(text, &list))
				require.Equal(t, "List", list.Kind)
				require.Len(t, list.Items, n)
				for i := range list.Items {
					require.Equal(t, nodes[i].ObjectMeta.Labels, list.Items[i].Labels)
					require.Equal(t, nodes[i].Status.Addresses, list.Items[i].Status.Addresses)
					require.Equal(t, nodes[i].Status.Images, list.Items[i].Status.Images)
					require.Len(t, list.Items[i].ManagedFields, 3)
				}
			})
		}
	}
	var list corev1.ServiceList
	require.NoError(t, yaml.UnmarshalStrict(manifesttest.YAML(services), &list))
	for i := range list.Items {
		require.Equal(t, services[i].Annotations, list.Items[i].Annotations)
		require.Equal(t, services[i].Spec, list.Items[i].Spec)
	}
}

// Benchmarks are meaningful only with objects of realistic size.
func TestSizes(t *testing.T) {
	const n = 50
	node, service := len(manifesttest.YAML(manifesttest.Nodes(n)))/n, len(manifesttest.YAML(manifesttest.Services(n)))/n
	require.True(t, node > 4500 && node < 8000, "a node is %d bytes", node)
	require.True(t, service > 1500 && service < 3000, "a service is %d bytes", service)
}

func TestDeterministic(t *testing.T) {
	require.Equal(t, manifesttest.YAML(manifesttest.Nodes(3)), manifesttest.YAML(manifesttest.Nodes(3)))
	require.Equal(t, manifesttest.JSON(manifesttest.Services(3)), manifesttest.JSON(manifesttest.Services(3)))
	seen := map[string]bool{}
	for _, n := range manifesttest.Nodes(3000) {
		require.False(t, seen[n.Status.Addresses[0].Address])
		seen[n.Status.Addresses[0].Address] = true
	}
}
