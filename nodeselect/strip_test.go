package nodeselect

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/headgate/headgate/internal/manifesttest"
)

// A selection of stripped objects is that of whole ones.
func TestStrippingChangesNoSelection(t *testing.T) {
	nodes, services := manifesttest.Nodes(50), manifesttest.Services(20)
	nodes[3].Labels[ExcludeLabel] = ""
	nodes[4].Spec.Taints = []corev1.Taint{{Key: TaintKarpenter}}
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
	var refs []Ref
	for _, s := range services {
		refs = append(refs, Ref{s.Namespace, s.Name, "http"})
	}
	for _, s := range []Selector{
		{Predicates: append(DefaultPredicates(), NotCordoned)},
		{Identity: ByProviderID, Spread: true, Size: 3},
	} {
		at := manifesttest.Epoch.AddDate(0, 2, 0)
		want := s.Select(NewObjects(nodes, services), refs, at, nil)
		require.Contains(t, fmt.Sprint(want.Problems), "health check node port")
		var strippedNodes []*corev1.Node
		for _, n := range nodes {
			stripped, wanted := stripNode(n.DeepCopy())
			require.True(t, wanted)
			strippedNodes = append(strippedNodes, stripped)
		}
		var strippedServices []*corev1.Service
		for _, svc := range services {
			stripped, wanted := stripService("headgate.dev/")(svc.DeepCopy())
			require.True(t, wanted)
			require.NotContains(t, stripped.Annotations, "other")
			strippedServices = append(strippedServices, stripped)
		}
		require.Equal(t, want, s.Select(NewObjects(strippedNodes, strippedServices), refs, at, nil))
	}
}

// What is kept of a message does not hold the message: it is decoded into strings of
// their own.
func TestStrippedNodesHoldNothingElse(t *testing.T) {
	var list corev1.NodeList
	for _, n := range manifesttest.Nodes(1000) {
		for i := range 40 { // as a kubelet tells of them
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
	before := heap() // with the message
	kept := func() []*corev1.Node {
		var decoded corev1.NodeList
		require.NoError(t, decoded.Unmarshal(message))
		kept := make([]*corev1.Node, len(decoded.Items))
		for i := range decoded.Items {
			n := decoded.Items[i] // as the Reflector takes lists apart
			kept[i], _ = stripNode(&n)
		}
		return kept
	}()
	message = nil
	after := heap()
	t.Logf("%d kB of a message of %d kB, %d B for a node", (after-before+size)>>10, size>>10, (after-before+size)/len(kept))
	require.Less(t, after-before+size, 6<<20)
	runtime.KeepAlive(kept)
}

func TestPodsOfAService(t *testing.T) {
	yes, no := true, false
	ready := discoveryv1.EndpointConditions{Ready: &yes}
	unknown := discoveryv1.EndpointConditions{}
	ending := discoveryv1.EndpointConditions{Ready: &no, Serving: &yes, Terminating: &yes}
	ended := discoveryv1.EndpointConditions{Ready: &no, Serving: &no, Terminating: &yes}
	starting := discoveryv1.EndpointConditions{Ready: &no}
	type nodes = map[string]discoveryv1.EndpointConditions
	for _, test := range []struct {
		name   string
		slices []nodes
		want   []string
	}{
		{"none", nil, nil},
		{"ready", []nodes{{"a": ready, "b": unknown}}, []string{"a", "b"}},
		{"not ready", []nodes{{"a": ready, "b": ended, "c": starting}}, []string{"a"}},
		{"ending ones are not used while others are ready", []nodes{{"a": ending}, {"b": ready}}, []string{"b"}},
		{"ending ones are all there is", []nodes{{"a": ending}, {"b": ending, "c": ended}}, []string{"a", "b"}},
		{"a node in two slices", []nodes{{"b": ready}, {"a": ready, "b": ending}}, []string{"a", "b"}},
		{"a pod without a node", []nodes{{"": ready}}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			told := map[string][]string{}
			p := pods{changed: func(key string, nodes []string) { told[key] = nodes }}
			p.listed()
			p.setLocal("ns/s", true)
			for i, s := range test.slices {
				kept, wanted := stripSlice(testSlice("s", string(rune('a'+i)), s))
				require.True(t, wanted)
				p.setSlice("ns/"+kept.Name, kept)
			}
			require.Equal(t, test.want, told["ns/s"])
			for i := range test.slices {
				p.setSlice("ns/"+string(rune('a'+i)), nil)
			}
			require.Empty(t, told["ns/s"])
			require.Empty(t, p.byKey)
			require.Empty(t, p.slices)
		})
	}
}

func TestPodsAreToldOfServicesThatNeedThem(t *testing.T) {
	type nodes = map[string]discoveryv1.EndpointConditions
	var told []string
	p := pods{changed: func(key string, nodes []string) { told = append(told, key) }}
	p.setLocal("ns/early", true)
	p.setSlice("ns/1", testSlice("early", "1", nodes{"a": {}}))
	p.setSlice("ns/2", testSlice("other", "2", nodes{"a": {}}))
	require.Empty(t, told, "not before all are known")
	p.listed()
	require.Equal(t, []string{"ns/early"}, told)
	p.setLocal("ns/other", true)
	require.Equal(t, []string{"ns/early", "ns/other"}, told)
	p.setSlice("ns/2", testSlice("other", "2", nodes{"a": {}}))
	require.Len(t, told, 2, "nothing is new")
	p.setSlice("ns/2", testSlice("early", "2", nodes{"b": {}}))
	require.Equal(t, []string{"ns/other", "ns/early"}, told[2:], "a slice that changes its service")
	p.setLocal("ns/early", false)
	require.Equal(t, "ns/early", told[4])
	p.setSlice("ns/1", nil)
	require.Len(t, told, 5)
}
