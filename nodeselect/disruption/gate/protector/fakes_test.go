package protector_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/headgate/headgate/agentcheck/nodeagent"
	"github.com/headgate/headgate/internal/kubeclient/leasestest"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/disruption"
	"github.com/headgate/headgate/nodeselect/disruption/gate"
	"github.com/headgate/headgate/nodeselect/disruption/gate/keeper"
	"github.com/headgate/headgate/nodeselect/disruption/gate/leases"
	"github.com/headgate/headgate/nodeselect/disruption/gate/protector"
)

// cluster simulates an API server with nodes and pods, their versions and preconditions, and a
// terminator. The fields "nodes" and "pods" are clients of this API server.
type cluster struct {
	mu      sync.Mutex
	version int
	node    map[string]*corev1.Node
	pod     map[string]*corev1.Pod
	fail    error // the error of every request for nodes and pods, if not nil
	report  error // of the report, if not nil
	applied gate.Applied
	store   *leasestest.Leases
}

type nodes struct {
	keeper.NodeClient
	c *cluster
}

type pods struct {
	protector.PodClient
	c *cluster
}

// newCluster returns a cluster with the nodes n00, n01 and so on. For each node, there is one
// service on this node and on the next one.
func newCluster(n int) *cluster {
	c := &cluster{
		node: map[string]*corev1.Node{}, pod: map[string]*corev1.Pod{}, store: leasestest.New(),
		applied: gate.Applied{Source: "edge", ID: "1", Time: time.Now(), Subsets: nodeselect.Subsets{}},
	}
	var all []nodeselect.Node
	for i := range n {
		c.add(name(i))
		all = append(all, nodeselect.Node{Name: name(i), Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), Identity: name(i)})
	}
	for i := range n {
		c.applied.Subsets[fmt.Sprint("m/s", i)] = []nodeselect.Node{all[i], all[(i+1)%n]}
	}
	return c
}

func name(i int) string { return fmt.Sprintf("n%02d", i) }

func (c *cluster) add(name string) {
	c.change(func() {
		c.version++
		c.node[name] = &corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name: name, UID: types.UID("uid-" + name), ResourceVersion: strconv.Itoa(c.version), Labels: map[string]string{"karpenter.sh/nodepool": "default"},
		}}
	})
}

func (c *cluster) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// annotation returns the value of an annotation of a node. "" means that it has none.
func (c *cluster) annotation(node, key string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.node[node].Annotations[key]
}

// annotate sets an annotation of a node, as somebody else does.
func (c *cluster) annotate(node, key, value string) {
	c.change(func() {
		n := c.node[node].DeepCopy()
		if n.Annotations == nil {
			n.Annotations = map[string]string{}
		}
		n.Annotations[key] = value
		c.put(n)
	})
}

func (c *cluster) put(n *corev1.Node) {
	c.version++
	n.ResourceVersion = strconv.Itoa(c.version)
	c.node[n.Name] = n
}

func (c *cluster) keeper() *keeper.Keeper {
	return &keeper.Keeper{
		Reports: []keeper.Report{func(context.Context) (gate.Applied, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.applied, c.report
		}},
		Nodes: func(context.Context) (states []gate.Node, err error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			for _, n := range c.node {
				s := keeper.State(n, nodeagent.DefaultSignals(nodeselect.Annotations{}))
				s.Addrs = nil
				states = append(states, s)
			}
			return states, nil
		},
		Store:  &leases.Store{Client: c.store, Cluster: "eu-1"},
		Budget: disruption.Budget{Service: 1},
	}
}

func (n nodes) List(_ context.Context, o metav1.ListOptions) (*corev1.NodeList, error) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	selector, err := labels.Parse(o.LabelSelector)
	if n.c.fail != nil || err != nil {
		return nil, errors.Join(err, n.c.fail)
	}
	list := &corev1.NodeList{}
	for _, node := range n.c.node {
		if selector.Matches(labels.Set(node.Labels)) {
			list.Items = append(list.Items, *node.DeepCopy())
		}
	}
	slices.SortFunc(list.Items, func(a, b corev1.Node) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

func (n nodes) Patch(_ context.Context, name string, kind types.PatchType, data []byte, _ metav1.PatchOptions, _ ...string) (*corev1.Node, error) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	resource := schema.GroupResource{Resource: "nodes"}
	node := n.c.node[name]
	if n.c.fail != nil {
		return nil, n.c.fail
	}
	if node == nil {
		return nil, apierrors.NewNotFound(resource, name)
	}
	var p struct {
		Metadata struct {
			UID, ResourceVersion string
			Annotations          map[string]*string
		}
	}
	if err := json.Unmarshal(data, &p); err != nil || kind != types.MergePatchType {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	if p.Metadata.UID != string(node.UID) || p.Metadata.ResourceVersion != node.ResourceVersion {
		return nil, apierrors.NewConflict(resource, name, nil)
	}
	node = node.DeepCopy()
	for key, value := range p.Metadata.Annotations {
		if value == nil {
			delete(node.Annotations, key)
			continue
		}
		if node.Annotations == nil {
			node.Annotations = map[string]string{}
		}
		node.Annotations[key] = *value
	}
	n.c.put(node)
	return node, nil
}

func (p pods) List(_ context.Context, o metav1.ListOptions) (*corev1.PodList, error) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	selector, err := labels.Parse(o.LabelSelector)
	if p.c.fail != nil || err != nil {
		return nil, errors.Join(err, p.c.fail)
	}
	list := &corev1.PodList{}
	for _, pod := range p.c.pod {
		if selector.Matches(labels.Set(pod.Labels)) {
			list.Items = append(list.Items, *pod.DeepCopy())
		}
	}
	return list, nil
}

func (p pods) Create(_ context.Context, pod *corev1.Pod, _ metav1.CreateOptions) (*corev1.Pod, error) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	if p.c.fail != nil {
		return nil, p.c.fail
	}
	if p.c.pod[pod.Name] != nil {
		return nil, apierrors.NewAlreadyExists(schema.GroupResource{Resource: "pods"}, pod.Name)
	}
	p.c.version++
	pod = pod.DeepCopy()
	pod.UID, pod.CreationTimestamp, pod.Status.Phase = types.UID(strconv.Itoa(p.c.version)), metav1.Now(), corev1.PodPending
	p.c.pod[pod.Name] = pod
	return pod, nil
}

func (p pods) Delete(_ context.Context, name string, o metav1.DeleteOptions) error {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	pod, resource := p.c.pod[name], schema.GroupResource{Resource: "pods"}
	switch {
	case p.c.fail != nil:
		return p.c.fail
	case pod == nil:
		return apierrors.NewNotFound(resource, name)
	case *o.Preconditions.UID != pod.UID:
		return apierrors.NewConflict(resource, name, nil)
	}
	delete(p.c.pod, name)
	return nil
}
