package protector

import (
	"context"
	"encoding/json"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/headgate/headgate/nodeselect/disruption/gate/keeper"
	"github.com/headgate/headgate/nodeselect/disruption/gate/protect"
)

// Annotation is a Tool that leaves a node alone while a certain annotation has the value "true",
// and does not show which nodes it wants to take.
//
// Protect sets Key, which the tool reads, and Mark with the present time, in one request. If Key
// has another value than "true", Protect replaces it. A node with Key but without Mark is protected
// by somebody else, and Free does not change it.
type Annotation struct {
	Client keeper.NodeClient
	// Key is the name of the annotation that the tool reads.
	Key string
	// Mark is the name of the annotation which shows that Protect, and nobody else, has set Key.
	Mark string
	// Selector selects the nodes by their labels. "" means all nodes. Protect and Free never change
	// the annotations of other nodes.
	Selector string
}

// Karpenter returns an Annotation for Karpenter 0.32 and later. It selects the nodes that Karpenter
// has created.
//
// The annotation karpenter.sh/do-not-disrupt prevents consolidation and drift. It does not protect
// a node that the cloud interrupts, that node repair replaces, that somebody deletes, or that has
// expired (Karpenter 1.0 and later).
func Karpenter(c keeper.NodeClient) *Annotation {
	return &Annotation{
		Client: c, Key: "karpenter.sh/do-not-disrupt", Mark: "headgate.dev/protected-from-karpenter", Selector: "karpenter.sh/nodepool",
	}
}

// ClusterAutoscaler returns an Annotation for the cluster autoscaler. It selects all nodes.
//
// The annotation cluster-autoscaler.kubernetes.io/scale-down-disabled keeps the autoscaler from
// removing a node with too few pods. It does not keep the cloud from replacing an instance, for
// example to balance a node group over zones.
func ClusterAutoscaler(c keeper.NodeClient) *Annotation {
	return &Annotation{
		Client: c, Key: "cluster-autoscaler.kubernetes.io/scale-down-disabled", Mark: "headgate.dev/protected-from-cluster-autoscaler",
	}
}

// OnDemand returns false.
func (a *Annotation) OnDemand() bool { return false }

// List returns the selected nodes.
func (a *Annotation) List(ctx context.Context) (subjects []protect.Subject, err error) {
	err = eachNode(ctx, a.Client, a.Selector, func(n *corev1.Node) {
		mark, ours := n.Annotations[a.Mark]
		x := protect.Subject{
			Object: n.Name, Node: n.Name, UID: string(n.UID), Version: n.ResourceVersion,
			Protected: n.Annotations[a.Key] == "true", Ours: ours, Taken: n.DeletionTimestamp != nil,
		}
		x.Since, _ = time.Parse(time.RFC3339, mark)
		subjects = append(subjects, x)
	})
	return subjects, err
}

// Protect implements Tool.
func (a *Annotation) Protect(ctx context.Context, x protect.Subject) error {
	return a.annotate(ctx, x, "true", time.Now().UTC().Format(time.RFC3339))
}

// Free implements Tool.
func (a *Annotation) Free(ctx context.Context, x protect.Subject) error {
	return a.annotate(ctx, x, nil, nil)
}

// annotate sets the annotations Key and Mark. nil removes an annotation. The request fails if the
// node has changed since List, because somebody else may have set Key in the meantime.
func (a *Annotation) annotate(ctx context.Context, x protect.Subject, value, mark any) error {
	_, err := a.Client.Patch(ctx, x.Object, types.MergePatchType, patch(x, map[string]any{a.Key: value, a.Mark: mark}), metav1.PatchOptions{FieldManager: manager})
	return err
}

// manager is the name of the field manager for the changes that this package makes.
const manager = "headgate-nodegate-protect"

// patch returns a merge patch for the annotations. The API server refuses the patch if the object
// has changed since the method List read it.
func patch(x protect.Subject, annotations map[string]any) []byte {
	data, _ := json.Marshal(map[string]any{"metadata": map[string]any{ // strings and nil always become JSON
		"uid": x.UID, "resourceVersion": x.Version, "annotations": annotations,
	}})
	return data
}

// pageSize is the largest number of objects in one answer of the API server.
const pageSize = 500

// eachNode calls the function "use" with each node that the selector selects.
func eachNode(ctx context.Context, c keeper.NodeClient, selector string, use func(*corev1.Node)) error {
	options := metav1.ListOptions{LabelSelector: selector, Limit: pageSize}
	for {
		page, err := c.List(ctx, options)
		if err != nil {
			return err
		}
		for i := range page.Items {
			use(&page.Items[i])
		}
		if options.Continue = page.Continue; options.Continue == "" {
			return nil
		}
	}
}
