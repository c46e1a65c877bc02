package nodeselect_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/nodeselect"
)

// The nodes of a service with externalTrafficPolicy Local get weights in proportion to their pods.
// The weights change only if some pod would get over 25% more or less than its share.
func TestLocalWeights(t *testing.T) {
	var nodes []*corev1.Node
	for i := range 3 {
		nodes = append(nodes, newNode(fmt.Sprint("n", i), fmt.Sprintf("10.0.0.%d", i+1)))
	}
	svc := newService(named("shop", "web"), nodePort(30080), func(s *corev1.Service) {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	})
	s := nodeselect.Selector{LocalWeights: true}
	var current nodeselect.Subsets
	choose := func(pods ...int) (weights []int) {
		objects := nodeselect.NewObjects(nodes, []*corev1.Service{svc})
		var ready []string
		for i, n := range pods {
			ready = append(ready, slices.Repeat([]string{fmt.Sprint("n", i)}, n)...)
		}
		objects.ReadyNodes = map[string][]string{"shop/web": ready}
		selection := s.Select(objects, []nodeselect.Ref{webRef}, now, current)
		require.Empty(t, selection.Problems)
		current = selection.Subsets()
		for _, n := range current["shop/web"] {
			weights = append(weights, n.Weight)
		}
		return weights
	}
	for _, step := range []struct{ pods, want []int }{
		{[]int{3, 1}, []int{3, 1}},
		{[]int{4, 1}, []int{3, 1}}, // the pod of n1 gets 25% more than the mean
		{[]int{6, 2}, []int{3, 1}},
		{[]int{5, 1}, []int{5, 1}},
		{[]int{5, 1, 2}, []int{5, 1, 2}}, // another node
		{[]int{5, 0, 2}, []int{5, 2}},
		{[]int{1000, 1, 500}, []int{256, 1, 128}},
		{[]int{1001, 1, 499}, []int{256, 1, 128}},
	} {
		require.Equal(t, step.want, choose(step.pods...), "%v", step.pods)
	}
	s.LocalWeights = false
	require.Equal(t, []int{0, 0}, choose(3, 1), "a node counts once")
	s.LocalWeights = true
	require.Equal(t, []int{3, 1}, choose(3, 1), "the nodes had no weights")
	svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster
	require.Equal(t, []int{0, 0, 0}, choose(3, 1))
}
