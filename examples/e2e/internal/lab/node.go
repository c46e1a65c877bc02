//go:build linux

package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// NodeSpec describes a node to add.
type NodeSpec struct {
	// Name is the name of the node, unique in the lab. Zone is the zone of the node; "" means no
	// zone.
	Name, Zone string
	// Labels are additional labels.
	Labels map[string]string
}

// Node is a machine with kube-proxy and a Node object.
type Node struct {
	*Machine
	Spec    NodeSpec
	Plan    NodePlan
	Cluster *Cluster
	// Proxy is the kube-proxy of the node.
	Proxy *Process

	mu   sync.Mutex
	pods []*Pod
	made int // number of all pods ever run; addresses are not used twice
}

// AddNode adds a node, and returns when its kube-proxy has written its rules.
func (c *Cluster) AddNode(ctx context.Context, spec NodeSpec) (*Node, error) {
	plan, err := c.nextNode()
	if err != nil {
		return nil, err
	}
	return c.addNode(ctx, spec, plan)
}

// nextNode returns the addresses for a new node. No earlier node of the cluster had them.
func (c *Cluster) nextNode() (NodePlan, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	plan, err := c.Plan.Node(c.made)
	if err == nil {
		c.made++
	}
	return plan, err
}

func (c *Cluster) addNode(ctx context.Context, spec NodeSpec, plan NodePlan) (n *Node, err error) {
	n = &Node{Spec: spec, Plan: plan, Cluster: c}
	if n.Machine, err = c.lab.machine(spec.Name, plan.Addr); err != nil {
		return nil, err
	}
	if err := n.route(); err != nil {
		return nil, err
	}
	if err := n.Create(ctx); err != nil {
		return nil, err
	}
	if n.Proxy, err = n.Start(spec.Name+"-kube-proxy", "kube-proxy",
		"--kubeconfig", c.file("kube-proxy.kubeconfig"),
		"--hostname-override", spec.Name,
		"--proxy-mode", "nftables",
		"--cluster-cidr", c.Plan.Pods.String(),
		// With 0, kube-proxy does not change the conntrack settings. It must not change them,
		// because they belong to the whole computer, not to the namespace.
		"--conntrack-max-per-core", "0",
		"--conntrack-tcp-timeout-established", "0",
		"--conntrack-tcp-timeout-close-wait", "0",
	); err != nil {
		return nil, err
	}
	if _, err := Until(ctx, "kube-proxy on "+spec.Name, 3*time.Minute, n.proxyReady, n.Proxy); err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.nodes = append(c.nodes, n)
	c.mu.Unlock()
	return n, nil
}

// route makes the node forward packets, and adds routes between the pods of this node and the pods
// of all other nodes of the cluster.
func (n *Node) route() error {
	if err := n.Do(func() error {
		for file, value := range map[string]string{
			"ipv4/ip_forward": "1",
			// Switch off reverse path filters, because the answer of a pod may take another path
			// than the request.
			"ipv4/conf/all/rp_filter":     "0",
			"ipv4/conf/default/rp_filter": "0",
		} {
			// /proc/sys/net contains the settings of the network namespace of the thread that opens
			// the file. So the thread that runs this must be in the namespace of the node.
			if err := os.WriteFile("/proc/sys/net/"+file, []byte(value), 0); err != nil {
				return fmt.Errorf("lab: %w", err)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	return n.Cluster.addRoutes(n)
}

// addRoutes adds routes between the pods of a new node and the pods of all other nodes.
func (c *Cluster) addRoutes(n *Node) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var mine []string
	for _, other := range c.routed {
		mine = append(mine, fmt.Sprintf("route add %s via %s", other.Plan.Pods, other.Addr))
		if err := ipBatch(other.Name, fmt.Sprintf("route add %s via %s", n.Plan.Pods, n.Addr)); err != nil {
			return err
		}
	}
	c.routed = append(c.routed, n)
	if mine == nil {
		return nil
	}
	return ipBatch(n.Name, mine...)
}

// proxyReady requests kube-proxy's health check, which succeeds after kube-proxy has written its
// rules.
func (n *Node) proxyReady(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:10256/healthz", nil)
	if err != nil {
		return err
	}
	res, err := n.Client().Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("kube-proxy on %s: %s", n.Name, res.Status)
	}
	return nil
}

// Nodes returns the nodes of the cluster, sorted by name.
func (c *Cluster) Nodes() []*Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	nodes := slices.Clone(c.nodes)
	slices.SortFunc(nodes, func(a, b *Node) int { return strings.Compare(a.Name, b.Name) })
	return nodes
}

// Node returns the node called name, or nil.
func (c *Cluster) Node(name string) *Node {
	for _, n := range c.Nodes() {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// Create creates the Node object with its address and condition Ready, as a kubelet does when it
// registers itself.
func (n *Node) Create(ctx context.Context) error {
	nodes := n.Cluster.Client.CoreV1().Nodes()
	made, err := nodes.Create(ctx, n.object(), metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	made.Status = nodeStatus(n.Plan, n.Name, true)
	if _, err := nodes.UpdateStatus(ctx, made, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return nil
}

func (n *Node) object() *corev1.Node {
	labels := map[string]string{
		corev1.LabelHostname:   n.Name,
		corev1.LabelOSStable:   "linux",
		corev1.LabelArchStable: "amd64",
	}
	if n.Spec.Zone != "" {
		labels[corev1.LabelTopologyZone] = n.Spec.Zone
	}
	for k, v := range n.Spec.Labels {
		labels[k] = v
	}
	pods := n.Plan.Pods.String()
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: labels},
		Spec:       corev1.NodeSpec{PodCIDR: pods, PodCIDRs: []string{pods}},
	}
}

func nodeStatus(plan NodePlan, name string, ready bool) corev1.NodeStatus {
	condition := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady"}
	if !ready {
		condition.Status, condition.Reason = corev1.ConditionFalse, "KubeletNotReady"
	}
	condition.LastTransitionTime = metav1.Now()
	condition.LastHeartbeatTime = condition.LastTransitionTime
	return corev1.NodeStatus{
		Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: plan.Addr.String()},
			{Type: corev1.NodeHostName, Address: name},
		},
		Conditions: []corev1.NodeCondition{condition},
	}
}

// Delete deletes the Node object. The machine and its processes continue to run.
func (n *Node) Delete(ctx context.Context) error {
	return n.Cluster.Client.CoreV1().Nodes().Delete(ctx, n.Name, metav1.DeleteOptions{})
}

// Remove removes the node completely: it deletes the Node and Pod objects, kills the processes and
// pods, and deletes the machine.
func (n *Node) Remove(ctx context.Context) error {
	if err := n.Delete(ctx); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("lab: %w", err)
	}
	for _, p := range n.Pods() {
		if err := p.Delete(ctx); err != nil {
			return err
		}
	}
	c := n.Cluster
	c.mu.Lock()
	same := func(other *Node) bool { return other == n }
	c.nodes, c.routed = slices.DeleteFunc(c.nodes, same), slices.DeleteFunc(c.routed, same)
	c.mu.Unlock()
	return n.remove()
}

// Cordon sets spec.unschedulable, as kubectl cordon does.
func (n *Node) Cordon(ctx context.Context) error { return n.unschedulable(ctx, true) }

// Uncordon clears spec.unschedulable, as kubectl uncordon does.
func (n *Node) Uncordon(ctx context.Context) error { return n.unschedulable(ctx, false) }

func (n *Node) unschedulable(ctx context.Context, v bool) error {
	return n.patch(ctx, map[string]any{"spec": map[string]any{"unschedulable": v}})
}

// Annotate sets an annotation of the Node; an empty value removes it.
func (n *Node) Annotate(ctx context.Context, key, value string) error {
	return n.patch(ctx, metadataPatch("annotations", key, value))
}

// Label sets a label of the Node; an empty value removes it.
func (n *Node) Label(ctx context.Context, key, value string) error {
	return n.patch(ctx, metadataPatch("labels", key, value))
}

// Taint replaces the taints of the Node.
func (n *Node) Taint(ctx context.Context, taints ...corev1.Taint) error {
	return n.patch(ctx, map[string]any{"spec": map[string]any{"taints": taints}})
}

// SetReady writes the Ready condition.
func (n *Node) SetReady(ctx context.Context, ready bool) error {
	status := nodeStatus(n.Plan, n.Name, ready)
	return n.patch(ctx, map[string]any{"status": map[string]any{"conditions": status.Conditions}}, "status")
}

func (n *Node) patch(ctx context.Context, patch any, subresources ...string) error {
	b, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	_, err = n.Cluster.Client.CoreV1().Nodes().Patch(ctx, n.Name, types.MergePatchType, b, metav1.PatchOptions{}, subresources...)
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return nil
}

// metadataPatch returns a merge patch of one label or annotation. An empty value removes it.
func metadataPatch(field, key, value string) any {
	var v any
	if value != "" {
		v = value
	}
	return map[string]any{"metadata": map[string]any{field: map[string]any{key: v}}}
}
