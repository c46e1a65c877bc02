package protector_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/headgate/headgate/nodeselect/disruption/gate/protector"
)

const hook = "pre-drain.delete.hook.machine.cluster.x-k8s.io/headgate"

func machine(name, node string, deleted bool, annotations map[string]any) *unstructured.Unstructured {
	meta := map[string]any{
		"namespace": "fleet", "name": name, "uid": "uid-" + name, "resourceVersion": "1",
		"labels": map[string]any{"cluster.x-k8s.io/cluster-name": "eu-1"}, "annotations": annotations,
	}
	if deleted {
		meta["deletionTimestamp"] = "2026-01-02T10:00:00Z"
		meta["finalizers"] = []any{"machine.cluster.x-k8s.io"}
	}
	o := map[string]any{"apiVersion": "cluster.x-k8s.io/v1beta1", "kind": "Machine", "metadata": meta}
	if node != "" {
		o["status"] = map[string]any{"nodeRef": map[string]any{"name": node}}
	}
	return &unstructured.Unstructured{Object: o}
}

// olderVersionOnly is an API server that does not have v1beta2.
func olderVersionOnly(a clienttesting.Action) (bool, runtime.Object, error) {
	if a.GetResource().Version != "v1beta1" {
		return true, nil, apierrors.NewNotFound(a.GetResource().GroupResource(), "")
	}
	return false, nil, nil
}

func TestMachines(t *testing.T) {
	hooked := map[string]any{hook: "headgate-nodegate", "pre-drain.delete.hook.machine.cluster.x-k8s.io/etcd": "other"}
	v1beta1 := schema.GroupVersionResource{Group: "cluster.x-k8s.io", Version: "v1beta1", Resource: "machines"}
	v1beta2 := schema.GroupVersionResource{Group: "cluster.x-k8s.io", Version: "v1beta2", Resource: "machines"}
	client := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(),
		map[schema.GroupVersionResource]string{v1beta1: "MachineList", v1beta2: "MachineList"},
		machine("new", "", false, nil),
		machine("joined", "n02", false, hooked),
		machine("deleted", "n00", true, hooked),
		machine("neighbour", "n01", true, hooked),
		machine("without-node", "", true, hooked),
		machine("draining", "n03", true, nil),
	)
	client.PrependReactor("*", "machines", olderVersionOnly)
	c := newCluster(6)
	p := &protector.Protector{Keeper: c.keeper(), Tool: &protector.Machines{Client: client, Namespace: "fleet", Cluster: "eu-1"}, Holder: "protect-cluster-api"}
	status := step(t, p)
	require.Equal(t, protector.Status{Objects: 6, Free: 2, Waiting: 1}, status)
	list, err := client.Resource(v1beta1).Namespace("fleet").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	got := map[string]bool{}
	for _, m := range list.Items {
		_, got[m.GetName()] = m.GetAnnotations()[hook]
		_, other := m.GetAnnotations()["pre-drain.delete.hook.machine.cluster.x-k8s.io/etcd"]
		require.Equal(t, m.GetName() != "new" && m.GetName() != "draining", other)
	}
	require.Equal(t, map[string]bool{"new": true, "joined": true, "deleted": false, "neighbour": true, "without-node": false, "draining": false}, got)
}
