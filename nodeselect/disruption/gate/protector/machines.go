package protector

import (
	"context"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/headgate/headgate/nodeselect/disruption/gate/protect"
)

const (
	machineGroup = "cluster.x-k8s.io"
	// machineHook is the annotation that Protect sets: a pre-drain hook. While a Machine has an
	// annotation that begins with the prefix of pre-drain hooks, Cluster API neither drains nor
	// deletes the node of the Machine.
	machineHook = "pre-drain.delete.hook.machine.cluster.x-k8s.io/headgate"
	// machineOwner is the value of the annotation machineHook. Cluster API ignores the value.
	machineOwner = "headgate-nodegate"
	// machineCluster is a label of each Machine. Its value is the name of the cluster of the
	// Machine.
	machineCluster = "cluster.x-k8s.io/cluster-name"
)

// machineVersions are the versions of Machines, in the order in which List tries them. The fields
// that List reads are the same in both versions.
var machineVersions = []string{"v1beta2", "v1beta1"}

// Machines is the Tool Cluster API, for the Machines of one cluster. The protection of a Machine is
// a pre-drain hook: after a deletion, Cluster API waits until Free removes the hook. Free also
// removes the hook of a deleted Machine without a node.
//
// Cluster API ignores the hooks when somebody deletes the whole cluster.
type Machines struct {
	// Client is a client of the management cluster. Required.
	Client dynamic.Interface
	// Namespace is the namespace of the Machines. "" means all namespaces.
	Namespace string
	// Cluster is the name of the Cluster object. Required.
	Cluster string
}

// OnDemand returns true.
func (m *Machines) OnDemand() bool { return true }

// List returns the Machines.
func (m *Machines) List(ctx context.Context) (subjects []protect.Subject, err error) {
	for _, version := range machineVersions {
		subjects, err = m.list(ctx, machineResource(version))
		if !apierrors.IsNotFound(err) {
			break
		}
	}
	return subjects, err
}

func machineResource(version string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: machineGroup, Version: version, Resource: "machines"}
}

func (m *Machines) list(ctx context.Context, r schema.GroupVersionResource) (subjects []protect.Subject, err error) {
	options := metav1.ListOptions{LabelSelector: machineCluster + "=" + m.Cluster, Limit: pageSize}
	for {
		page, err := m.Client.Resource(r).Namespace(m.Namespace).List(ctx, options)
		if err != nil {
			return nil, err
		}
		for i := range page.Items {
			subjects = append(subjects, machineSubject(&page.Items[i]))
		}
		if options.Continue = page.GetContinue(); options.Continue == "" {
			return subjects, nil
		}
	}
}

func machineSubject(o *unstructured.Unstructured) protect.Subject {
	_, hooked := o.GetAnnotations()[machineHook]
	node, _, _ := unstructured.NestedString(o.Object, "status", "nodeRef", "name")
	x := protect.Subject{
		Object: o.GetNamespace() + "/" + o.GetName(), Node: node, UID: string(o.GetUID()), Version: o.GetResourceVersion(),
		Protected: hooked, Ours: true,
	}
	if deleted := o.GetDeletionTimestamp(); deleted != nil {
		x.Wanted, x.Taken = deleted.Time, !hooked
	}
	return x
}

// Protect adds the hook to a Machine.
func (m *Machines) Protect(ctx context.Context, x protect.Subject) error {
	return m.annotate(ctx, x, machineOwner)
}

// Free removes the hook of a Machine.
func (m *Machines) Free(ctx context.Context, x protect.Subject) error { return m.annotate(ctx, x, nil) }

func (m *Machines) annotate(ctx context.Context, x protect.Subject, hook any) (err error) {
	namespace, name, _ := strings.Cut(x.Object, "/")
	for _, version := range machineVersions {
		_, err = m.Client.Resource(machineResource(version)).Namespace(namespace).
			Patch(ctx, name, types.MergePatchType, patch(x, map[string]any{machineHook: hook}), metav1.PatchOptions{FieldManager: manager})
		if !apierrors.IsNotFound(err) {
			break
		}
	}
	return err
}
