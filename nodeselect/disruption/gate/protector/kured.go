package protector

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/internal/kubeclient"
	"github.com/headgate/headgate/nodeselect/disruption/gate/keeper"
	"github.com/headgate/headgate/nodeselect/disruption/gate/protect"
)

// These are names that kured and this package share.
const (
	// KuredSelector is the value for kured's flag --blocking-pod-selector.
	KuredSelector = "headgate.dev/blocks=kured"
	// kuredWanted is the annotation with which kured shows that it wants to restart a node. With
	// its flag --annotate-nodes, kured sets this annotation before it looks for blocking pods.
	kuredWanted = "weave.works/kured-reboot-in-progress"
	// kuredPrefix is the first part of the name of a blocking pod. The second part is the name of
	// the node.
	kuredPrefix = "nodegate-blocks-kured-"
)

// DefaultKuredImage is the image of a blocking pod if Kured.Image is empty. A blocking pod is a pod
// that keeps kured from restarting its node; see Kured.
const DefaultKuredImage = "registry.k8s.io/pause:3.10"

// PodClient is a client of the pods of one namespace, safe for concurrent use. NewPodClient returns
// a PodClient; a PodInterface of client-go's clientset is a PodClient too.
type PodClient interface {
	List(context.Context, metav1.ListOptions) (*corev1.PodList, error)
	Create(context.Context, *corev1.Pod, metav1.CreateOptions) (*corev1.Pod, error)
	Delete(context.Context, string, metav1.DeleteOptions) error
}

// NewPodClient returns a PodClient. It does not connect yet, and does not change config.
func NewPodClient(config *rest.Config, namespace string) (PodClient, error) {
	return kubeclient.NewPods(config, namespace)
}

// Kured is the Tool kured, which restarts nodes.
//
// kured does not restart a node while a pod on it matches kured's flag --blocking-pod-selector. So
// the protection of a node is such a pod, which does nothing. If the pod ends, for example because
// the kubelet has no room for it, the next Step creates another one.
//
// The pod is bound to its node without the scheduler, tolerates all taints, and has the priority
// system-node-critical, so no other pod evicts it. Its owner is the Node, so "kubectl drain"
// accepts it, and Kubernetes deletes it with the Node.
//
// Run kured 1.13 or later with these flags:
//
//	--blocking-pod-selector=headgate.dev/blocks=kured --annotate-nodes --concurrency=50 --period=1m
//
// With --annotate-nodes, kured shows which nodes it wants to restart. --concurrency must be at
// least the number of nodes that may be away. protect.Settings.Settle must be longer than kured's
// --drain-delay, and protect.Settings.Free longer than --period.
type Kured struct {
	Nodes keeper.NodeClient
	// Pods reads and writes the Pods of the namespace for the blocking pods. In this namespace,
	// nothing except a Kured of this package should create pods with the label of KuredSelector.
	Pods PodClient
	// Image is the image of the blocking pods. Its program must run until it gets SIGTERM. "" means
	// DefaultKuredImage.
	Image string
	// Selector selects the nodes on which kured runs. "" means all nodes.
	Selector string
}

// OnDemand returns true.
func (k *Kured) OnDemand() bool { return true }

// List returns the selected nodes. If kured has marked a node with a time that List cannot read,
// List sets Wanted to a time in 1970. This node then seems to have waited longer than all others,
// so its protection ends first.
func (k *Kured) List(ctx context.Context) (subjects []protect.Subject, err error) {
	pods := map[string]*corev1.Pod{} // by node
	options := metav1.ListOptions{LabelSelector: KuredSelector, Limit: pageSize}
	for {
		page, err := k.Pods.List(ctx, options)
		if err != nil {
			return nil, err
		}
		for i := range page.Items {
			if pod := &page.Items[i]; pod.Spec.NodeName != "" {
				pods[pod.Spec.NodeName] = pod
			}
		}
		if options.Continue = page.Continue; options.Continue == "" {
			break
		}
	}
	err = eachNode(ctx, k.Nodes, k.Selector, func(n *corev1.Node) {
		x := protect.Subject{Object: n.Name, Node: n.Name, Ours: true, Taken: n.DeletionTimestamp != nil}
		if text, ok := n.Annotations[kuredWanted]; ok {
			if x.Wanted, err = time.Parse(time.RFC3339, text); err != nil {
				x.Wanted = time.Unix(0, 0)
			}
		}
		x.UID = string(n.UID)
		if pod := pods[n.Name]; pod != nil {
			x.Version, x.Since = string(pod.UID), pod.CreationTimestamp.Time
			x.Protected = blocks(pod)
		}
		subjects = append(subjects, x)
	})
	return subjects, err
}

// blocks reports whether kured leaves the node of the pod alone because of the pod. kured ignores
// pods that have ended. A pod that is being deleted does not count, because it ends soon.
func blocks(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && (pod.Status.Phase == corev1.PodPending || pod.Status.Phase == corev1.PodRunning || pod.Status.Phase == "")
}

// Protect creates the blocking pod of the node. If the node has a blocking pod that has ended,
// Protect replaces this pod.
func (k *Kured) Protect(ctx context.Context, x protect.Subject) error {
	if x.Version != "" {
		if err := k.Free(ctx, x); err != nil {
			return err
		}
	}
	_, err := k.Pods.Create(ctx, k.pod(x), metav1.CreateOptions{FieldManager: manager})
	return err
}

// Free deletes the blocking pod of the node.
func (k *Kured) Free(ctx context.Context, x protect.Subject) error {
	uid, now := types.UID(x.Version), int64(0)
	err := k.Pods.Delete(ctx, kuredPod(x.Node), metav1.DeleteOptions{GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &uid}})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// maxPodName is the largest length of the name of a pod.
const maxPodName = 253

// kuredPod returns the name of the blocking pod of a node.
func kuredPod(node string) string {
	name := kuredPrefix + node
	if len(name) > maxPodName {
		sum := sha256.Sum256([]byte(node))
		name = name[:200] + "-" + hex.EncodeToString(sum[:16])
	}
	return name
}

func (k *Kured) pod(x protect.Subject) *corev1.Pod {
	image := k.Image
	if image == "" {
		image = DefaultKuredImage
	}
	yes, no, user, grace := true, false, int64(65535), int64(0)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name:   kuredPod(x.Node),
			Labels: map[string]string{"headgate.dev/blocks": "kured", "app.kubernetes.io/name": "headgate-nodegate-blocks-kured"},
			// Without this annotation, the pod would keep the cluster autoscaler from removing the
			// node.
			Annotations:     map[string]string{"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: x.Node, UID: types.UID(x.UID), Controller: &yes}},
		},
		Spec: corev1.PodSpec{
			NodeName:                      x.Node,
			PriorityClassName:             "system-node-critical",
			Tolerations:                   []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			TerminationGracePeriodSeconds: &grace, // so that the pod is gone at once
			AutomountServiceAccountToken:  &no,
			EnableServiceLinks:            &no,
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: &yes, RunAsUser: &user, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "pause", Image: image,
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}
}
