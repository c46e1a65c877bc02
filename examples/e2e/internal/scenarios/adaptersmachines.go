//go:build linux

package scenarios

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
)

// machineDefinition defines Machines like those of Cluster API: with the group, the names and the
// versions, and the part of the schema that matters here.
const machineDefinition = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: machines.cluster.x-k8s.io
spec:
  group: cluster.x-k8s.io
  names: {kind: Machine, listKind: MachineList, plural: machines, singular: machine, shortNames: [ma]}
  scope: Namespaced
  versions:
  - name: v1beta2
    served: true
    storage: true
    subresources: {status: {}}
    schema: &schema
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [clusterName]
            properties:
              clusterName: {type: string, minLength: 1}
          status:
            type: object
            properties:
              nodeRef:
                type: object
                properties:
                  name: {type: string}
  - name: v1beta1
    served: true
    storage: false
    subresources: {status: {}}
    schema: *schema
`

const (
	machineNamespace = "fleet"
	machineHook      = "pre-drain.delete.hook.machine.cluster.x-k8s.io/headgate"
	machineFinalizer = "machine.cluster.x-k8s.io"
)

var machineResource = schema.GroupVersionResource{Group: "cluster.x-k8s.io", Version: "v1beta2", Resource: "machines"}

// clusterAPI deletes two Machines at the same time. nodegate gives each Machine an annotation, the
// pre-drain hook. As Cluster API does, clusterAPI drains and deletes the node of a Machine only
// after nodegate has removed the hook from the Machine.
func (a *adapted) clusterAPI(ctx context.Context, t *traffic) (err error) {
	start := time.Now()
	client, err := dynamic.NewForConfig(a.c.Config)
	if err != nil {
		return err
	}
	machines := client.Resource(machineResource).Namespace(machineNamespace)
	if err := a.installMachines(ctx, machines); err != nil {
		return err
	}
	p, err := a.protect("cluster-api", "-machine-namespace", machineNamespace)
	if err != nil {
		return err
	}
	// The function "are" returns a check. The check returns an error unless the Machines without
	// the annotation machineHook are exactly the Machines in "want". It looks only at Machines that
	// still exist.
	are := func(want ...string) func(context.Context) error {
		return func(ctx context.Context) error {
			list, err := machines.List(ctx, metav1.ListOptions{})
			if err != nil {
				return err
			}
			var free []string
			for _, m := range list.Items {
				if m.GetAnnotations()[machineHook] == "" {
					free = append(free, m.GetName())
				}
			}
			if !slices.Equal(free, want) {
				return fmt.Errorf("without the hook: %v, want %v", free, want)
			}
			return nil
		}
	}
	err = a.until(ctx, "the hooks", p, are())
	if err := t.row(scenario.Row{What: "each Machine has the hook of nodegate", Took: time.Since(start), Err: err}, start); err != nil {
		return err
	}
	start = time.Now()
	nodes := a.c.Nodes()[:2]
	if err = machines.Delete(ctx, machineOf(nodes[0]), metav1.DeleteOptions{}); err == nil {
		err = a.until(ctx, "the first Machine", p, are(machineOf(nodes[0])))
	}
	if err == nil {
		err = machines.Delete(ctx, machineOf(nodes[1]), metav1.DeleteOptions{})
	}
	if err == nil {
		err = a.sameFor(ctx, 2*time.Second, are(machineOf(nodes[0])))
	}
	if err := t.row(scenario.Row{What: "two Machines are deleted: Cluster API may drain the node of one", Took: time.Since(start), Err: err}, start); err != nil {
		return err
	}
	start = time.Now()
	for i, n := range nodes {
		if err = a.deleteMachine(ctx, p, machines, n); err != nil {
			break
		}
		if i == 0 { // the other Machine follows when no terminator uses the first node any more
			err = a.until(ctx, "the second Machine", p, are(machineOf(nodes[1])))
		}
		// The new machine of the lab has the name and the addresses of the old one.
		if err = errors.Join(err, n.Create(ctx)); err != nil {
			break
		}
	}
	err = errors.Join(err, a.until(ctx, "the last grant to end", p, a.noGrants), a.end(ctx, p, "cluster-api", "-machine-namespace", machineNamespace))
	for _, n := range a.c.Nodes()[2:] {
		m, got := machines.Get(ctx, machineOf(n), metav1.GetOptions{})
		if err = errors.Join(err, got); err == nil && m.GetAnnotations()[machineHook] != "" {
			err = errors.New("after -remove, there is a hook")
		}
	}
	return t.row(scenario.Row{What: "Cluster API deletes both nodes, one after the other", Took: time.Since(start), Err: err}, start)
}

func machineOf(n *lab.Node) string { return "machine-" + n.Name }

// installMachines creates a Machine for each node.
func (a *adapted) installMachines(ctx context.Context, machines dynamic.ResourceInterface) error {
	file := filepath.Join(a.env.Lab.Dir("edge"), "machines.yaml")
	if err := os.WriteFile(file, []byte(machineDefinition), 0o600); err != nil {
		return err
	}
	if err := errors.Join(a.c.EnsureNamespace(ctx, machineNamespace), a.c.Apply(ctx, file)); err != nil {
		return err
	}
	if _, err := lab.Until(ctx, "Machines", patience, func(ctx context.Context) error {
		_, err := machines.List(ctx, metav1.ListOptions{})
		return err
	}); err != nil {
		return err
	}
	for _, n := range a.c.Nodes() {
		m := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": machineResource.GroupVersion().String(), "kind": "Machine", "spec": map[string]any{"clusterName": a.c.Name},
		}}
		m.SetName(machineOf(n))
		m.SetLabels(map[string]string{"cluster.x-k8s.io/cluster-name": a.c.Name})
		m.SetFinalizers([]string{machineFinalizer})
		if _, err := machines.Create(ctx, m, metav1.CreateOptions{}); err != nil {
			return err
		}
		status := fmt.Sprintf(`{"status":{"nodeRef":{"name":%q}}}`, n.Name)
		if _, err := machines.Patch(ctx, machineOf(n), types.MergePatchType, []byte(status), metav1.PatchOptions{}, "status"); err != nil {
			return err
		}
	}
	return nil
}

// deleteMachine drains and deletes the node of a Machine, and then the Machine.
func (a *adapted) deleteMachine(ctx context.Context, p *lab.Process, machines dynamic.ResourceInterface, n *lab.Node) error {
	if err := n.Cordon(ctx); err != nil {
		return err
	}
	if err := a.until(ctx, "the drain of "+n.Name, p, func(ctx context.Context) error { return a.drainedInHAProxy(ctx, n) }); err != nil {
		return err
	}
	_, err := machines.Patch(ctx, machineOf(n), types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	return errors.Join(err, n.Delete(ctx))
}
