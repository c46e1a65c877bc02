package nodeselect_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/internal/manifesttest"
	"github.com/headgate/headgate/nodeselect"
)

// Select gives the same result for trimmed objects as for whole ones.
func TestTrimChangesNoSelection(t *testing.T) {
	nodes, services := manifesttest.Nodes(50), manifesttest.Services(20)
	nodes[3].Labels[nodeselect.ExcludeLabel] = ""
	nodes[4].Spec.Taints = []corev1.Taint{{Key: nodeselect.TaintKarpenter}}
	nodes[5].Spec.Unschedulable = true
	nodes[6].Status.Addresses = nil
	for i := range nodes[7].Status.Conditions {
		nodes[7].Status.Conditions[i].Status = corev1.ConditionUnknown
	}
	services[1].Spec.Type = corev1.ServiceTypeClusterIP
	services[2].Annotations = map[string]string{"headgate.dev/agent-port": "9801", "headgate.dev/weight": "7"}
	services[3].Annotations = map[string]string{"headgate.dev/agent-port": "9801", "other": "x"}
	services[4].Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	services[5].Annotations = map[string]string{"headgate.dev/agent-port": "9805"}
	services[6].Spec.HealthCheckNodePort = 9805
	var refs []nodeselect.Ref
	for _, s := range services {
		refs = append(refs, nodeselect.Ref{Namespace: s.Namespace, Service: s.Name, Port: "http"})
	}
	for _, s := range []nodeselect.Selector{
		{Predicates: append(nodeselect.DefaultPredicates(), nodeselect.NotCordoned)},
		{Identity: nodeselect.ByProviderID, Spread: true, Size: 3},
	} {
		at := manifesttest.Epoch.AddDate(0, 2, 0)
		want := s.Select(nodeselect.NewObjects(nodes, services), refs, at, nil)
		require.Contains(t, fmt.Sprint(want.Problems), "health check node port")
		var trimmedNodes []*corev1.Node
		for _, n := range nodes {
			trimmed := nodeselect.TrimNode(n.DeepCopy())
			trimmedNodes = append(trimmedNodes, trimmed)
		}
		var trimmedServices []*corev1.Service
		for _, svc := range services {
			trimmed := nodeselect.Annotations{}.TrimService(svc.DeepCopy())
			require.NotContains(t, trimmed.Annotations, "other")
			trimmedServices = append(trimmedServices, trimmed)
		}
		require.Equal(t, want, s.Select(nodeselect.NewObjects(trimmedNodes, trimmedServices), refs, at, nil))
	}
}

// A trimmed node keeps no memory of the API server's message alive, because the decoder copies each
// string.
func TestTrimmedNodesHoldNothingElse(t *testing.T) {
	var list corev1.NodeList
	for _, n := range manifesttest.Nodes(1000) {
		for i := range 40 { // the images in a kubelet's report
			n.Status.Images = append(n.Status.Images, corev1.ContainerImage{Names: []string{
				fmt.Sprintf("registry.example.com/%s/app-%d@sha256:%064x", n.Name, i, i),
				fmt.Sprintf("registry.example.com/%s/app-%d:v1", n.Name, i),
			}})
		}
		list.Items = append(list.Items, *n)
	}
	message, err := list.Marshal()
	require.NoError(t, err)
	list = corev1.NodeList{}
	heap := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	size := len(message)
	before := heap() // includes the message
	kept := func() []*corev1.Node {
		var decoded corev1.NodeList
		require.NoError(t, decoded.Unmarshal(message))
		kept := make([]*corev1.Node, len(decoded.Items))
		for i := range decoded.Items {
			n := decoded.Items[i] // a copy, as in the Reflector
			kept[i] = nodeselect.TrimNode(&n)
		}
		return kept
	}()
	message = nil
	after := heap()
	t.Logf("%d kB of a message of %d kB, %d B for a node", (after-before+size)>>10, size>>10, (after-before+size)/len(kept))
	require.Less(t, after-before+size, 6<<20)
	runtime.KeepAlive(kept)
}
