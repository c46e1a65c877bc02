package protector_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

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

// managementCluster is an API server that has Machines in the version v1beta1, and not in v1beta2.
type managementCluster struct {
	mu       sync.Mutex
	machines []*unstructured.Unstructured
}

func (c *managementCluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	const path = "/apis/cluster.x-k8s.io/v1beta1/namespaces/fleet/machines"
	name, one := strings.CutPrefix(r.URL.Path, path+"/")
	i := slices.IndexFunc(c.machines, func(m *unstructured.Unstructured) bool { return m.GetName() == name })
	var answer any
	switch {
	case r.Method == http.MethodGet && r.URL.Path == path && r.URL.Query().Get("labelSelector") == "cluster.x-k8s.io/cluster-name=eu-1":
		answer = map[string]any{"apiVersion": "cluster.x-k8s.io/v1beta1", "kind": "MachineList", "items": c.machines}
	case r.Method == http.MethodPatch && one && i >= 0 && r.Header.Get("Content-Type") == "application/merge-patch+json":
		var patch struct {
			Metadata struct {
				UID, ResourceVersion string
				Annotations          map[string]*string
			}
		}
		m := c.machines[i]
		if json.NewDecoder(r.Body).Decode(&patch) != nil || patch.Metadata.UID != string(m.GetUID()) || patch.Metadata.ResourceVersion != m.GetResourceVersion() {
			w.WriteHeader(http.StatusConflict)
			return
		}
		annotations := m.GetAnnotations()
		for key, value := range patch.Metadata.Annotations {
			if value == nil {
				delete(annotations, key)
				continue
			}
			if annotations == nil {
				annotations = map[string]string{}
			}
			annotations[key] = *value
		}
		m.SetAnnotations(annotations)
		answer = m
	default:
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

func TestMachines(t *testing.T) {
	hooked := map[string]any{hook: "headgate-nodegate", "pre-drain.delete.hook.machine.cluster.x-k8s.io/etcd": "other"}
	management := &managementCluster{machines: []*unstructured.Unstructured{
		machine("new", "", false, nil),
		machine("joined", "n02", false, hooked),
		machine("deleted", "n00", true, hooked),
		machine("neighbour", "n01", true, hooked),
		machine("without-node", "", true, hooked),
		machine("draining", "n03", true, nil),
	}}
	server := httptest.NewServer(management)
	t.Cleanup(server.Close)
	client, err := dynamic.NewForConfig(&rest.Config{Host: server.URL})
	require.NoError(t, err)
	c := newCluster(6)
	p := &protector.Protector{Keeper: c.keeper(), Tool: &protector.Machines{Client: client, Namespace: "fleet", Cluster: "eu-1"}, Holder: "protect-cluster-api"}
	status := step(t, p)
	require.Equal(t, protector.Status{Objects: 6, Free: 2, Waiting: 1}, status)
	management.mu.Lock()
	defer management.mu.Unlock()
	got := map[string]bool{}
	for _, m := range management.machines {
		_, got[m.GetName()] = m.GetAnnotations()[hook]
		_, other := m.GetAnnotations()["pre-drain.delete.hook.machine.cluster.x-k8s.io/etcd"]
		require.Equal(t, m.GetName() != "new" && m.GetName() != "draining", other)
	}
	require.Equal(t, map[string]bool{"new": true, "joined": true, "deleted": false, "neighbour": true, "without-node": false, "draining": false}, got)
}
