//go:build linux

package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/headgate/headgate/examples/e2e/internal/pod"
)

// PodPort is the port of the server in every pod.
const PodPort = 8080

// AppLabel is a label of each pod. Its value is the name of the app of the pod.
const AppLabel = "app.kubernetes.io/name"

// Pod is an HTTP server (package pod) in its own network namespace on a node, together with the Pod
// object of the server in Kubernetes. The lab writes the status of the object, because no kubelet
// runs.
type Pod struct {
	*Machine
	Namespace string
	Node      *Node
	Server    *Process
}

// RunPod runs a pod of an app on the node. It returns when the server answers and the Pod object is
// Ready. At that time, the endpoint slices and kube-proxy may not know the pod yet;
// [Cluster.Deploy] waits for the slices.
func (n *Node) RunPod(ctx context.Context, namespace, app string) (*Pod, error) {
	n.mu.Lock()
	addr, err := n.Plan.Pod(n.made)
	n.made++
	number := n.made
	n.mu.Unlock()
	if err != nil {
		return nil, err
	}
	p := &Pod{Namespace: namespace, Node: n}
	if p.Machine, err = n.podMachine(fmt.Sprintf("%s-%s-%d", app, n.Name, number), addr); err != nil {
		return nil, err
	}
	if p.Server, err = p.Start("pod-"+p.Name, "e2e", "pod",
		"-listen", fmt.Sprintf(":%d", PodPort),
		"-name", p.Name, "-app", app, "-node", n.Name, "-cluster", n.Cluster.Name); err != nil {
		return nil, err
	}
	if err := p.create(ctx, app); err != nil {
		return nil, err
	}
	if _, err := Until(ctx, "pod "+p.Name, 30*time.Second, p.answers, p.Server); err != nil {
		return nil, err
	}
	if err := p.SetReady(ctx, true); err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.pods = append(n.pods, p)
	n.mu.Unlock()
	return p, nil
}

// podMachine creates a network namespace for a pod, as a network plugin does. The namespace has one
// address. It is connected only to its node, and the node routes its packets.
func (n *Node) podMachine(name string, addr netip.Addr) (*Machine, error) {
	m, err := n.lab.namespace(name, addr)
	if err != nil {
		return nil, err
	}
	m.outside = n.Name
	if err := ipBatch(n.Name,
		fmt.Sprintf("link add %s type veth peer name eth0 address %s netns %s", m.link, linkAddr(addr), name),
		// Give the node the address PodGateway. When kube-proxy masquerades a request to the pod,
		// PodGateway is the source address of the request. So the pod can find out through which
		// node the request came.
		fmt.Sprintf("addr add %s/32 dev %s", n.Plan.PodGateway, m.link),
		fmt.Sprintf("link set %s up", m.link),
		fmt.Sprintf("route add %s dev %s", addr, m.link),
	); err != nil {
		return nil, err
	}
	return m, ipBatch(name,
		"link set lo up",
		fmt.Sprintf("addr add %s/32 dev eth0", addr),
		"link set eth0 up",
		fmt.Sprintf("route add %s dev eth0", n.Plan.PodGateway),
		fmt.Sprintf("route add default via %s", n.Plan.PodGateway),
	)
}

func (p *Pod) answers(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%d/", p.Addr, PodPort), nil)
	if err != nil {
		return err
	}
	res, err := p.Node.Client().Do(req)
	if err != nil {
		return err
	}
	return res.Body.Close()
}

func (p *Pod) create(ctx context.Context, app string) error {
	object := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: p.Name, Namespace: p.Namespace, Labels: map[string]string{AppLabel: app}},
		Spec: corev1.PodSpec{
			// The lab sets the node of the pod, because there is no scheduler.
			NodeName:   p.Node.Name,
			Containers: []corev1.Container{{Name: "server", Image: "e2e", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: PodPort}}}},
		},
	}
	if _, err := p.Node.Cluster.Client.CoreV1().Pods(p.Namespace).Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return nil
}

// SetReady writes the status of the Pod object, as a kubelet does after a readiness probe.
func (p *Pod) SetReady(ctx context.Context, ready bool) error {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	now := metav1.Now()
	patch, err := json.Marshal(map[string]any{"status": corev1.PodStatus{
		Phase:     corev1.PodRunning,
		PodIP:     p.Addr.String(),
		PodIPs:    []corev1.PodIP{{IP: p.Addr.String()}},
		HostIP:    p.Node.Addr.String(),
		HostIPs:   []corev1.HostIP{{IP: p.Node.Addr.String()}},
		StartTime: &now,
		Conditions: []corev1.PodCondition{
			{Type: corev1.ContainersReady, Status: status, LastTransitionTime: now},
			{Type: corev1.PodReady, Status: status, LastTransitionTime: now},
		},
	}})
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	_, err = p.Node.Cluster.Client.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return nil
}

// Delete deletes the Pod object without a grace period. Then it stops the server and deletes its
// namespace.
func (p *Pod) Delete(ctx context.Context) error {
	now := int64(0)
	err := p.Node.Cluster.Client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("lab: %w", err)
	}
	n := p.Node
	n.mu.Lock()
	n.pods = slices.DeleteFunc(n.pods, func(other *Pod) bool { return other == p })
	n.mu.Unlock()
	return p.remove()
}

// Terminate deletes the Pod object, and does the work of a kubelet: the server continues for the
// time preStop, and then receives SIGTERM. Until then, the endpoint slices list the pod as
// terminating.
func (p *Pod) Terminate(ctx context.Context, preStop time.Duration) error {
	grace := int64(60)
	err := p.Node.Cluster.Client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &grace})
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	hook := time.NewTimer(preStop)
	defer hook.Stop()
	select {
	case <-hook.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := p.Server.Stop(); err != nil {
		return err
	}
	return p.Delete(ctx)
}

// Behave changes how the server in the pod answers.
func (p *Pod) Behave(ctx context.Context, b pod.Behaviour) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, fmt.Sprintf("http://%s:%d%s?%s", p.Addr, PodPort, pod.BehaviourPath, b.Query()), nil)
	if err != nil {
		return err
	}
	res, err := p.Node.Client().Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("lab: %s answers %s", p.Name, res.Status)
	}
	return nil
}

// Counts returns how many requests the server in the pod has got.
func (p *Pod) Counts(ctx context.Context) (c pod.Counts, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%d%s", p.Addr, PodPort, pod.CountsPath), nil)
	if err != nil {
		return c, err
	}
	res, err := p.Node.Client().Do(req)
	if err != nil {
		return c, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return c, fmt.Errorf("lab: %s answers %s", p.Name, res.Status)
	}
	return c, json.NewDecoder(io.LimitReader(res.Body, 1<<10)).Decode(&c)
}

// Pods returns the pods that run on the node.
func (n *Node) Pods() []*Pod {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.pods)
}
