package nodeselect_test

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/manifest"
)

const manifests = `apiVersion: v1
items:
- apiVersion: v1
  kind: Node
  metadata:
    name: worker-1
  status:
    addresses:
    - address: 10.0.0.1
      type: InternalIP
- apiVersion: v1
  kind: Node
  metadata:
    name: worker-2
  spec:
    taints:
    - effect: NoSchedule
      key: ToBeDeletedByClusterAutoscaler
  status:
    addresses:
    - address: 10.0.0.2
      type: InternalIP
- apiVersion: v1
  kind: Node
  metadata:
    name: worker-3
  status:
    addresses:
    - address: 10.0.0.3
      type: InternalIP
- apiVersion: v1
  kind: Node
  metadata:
    labels:
      node.kubernetes.io/exclude-from-external-load-balancers: ""
    name: control-plane
  status:
    addresses:
    - address: 10.0.0.9
      type: InternalIP
- apiVersion: v1
  kind: Service
  metadata:
    annotations:
      headgate.dev/agent-port: "9801"
      headgate.dev/weight: "50"
    name: tracks
    namespace: media
  spec:
    ports:
    - name: http
      nodePort: 30080
      port: 80
    type: NodePort
kind: List
`

// Example chooses the nodes of a service from the output of kubectl.
func Example() {
	objects, problems := manifest.Parse("cluster.yaml", []byte(manifests))
	for _, p := range problems {
		fmt.Println(p)
	}
	refs := []nodeselect.Ref{
		{Namespace: "media", Service: "tracks", Port: "http"},
		{Namespace: "media", Service: "tracks", Port: "https"},
	}
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	selection := nodeselect.Selector{Size: 2}.Select(objects, refs, at, nil)
	for _, t := range selection.Targets {
		fmt.Printf("%s on node port %d, agent port %d, weight %d%%\n", t.Ref, t.NodePort, t.AgentPort, t.WeightPercent)
		for _, n := range t.Nodes {
			fmt.Println(" ", n.Name, n.Addr)
		}
	}
	for _, f := range selection.Findings {
		fmt.Printf("%s: %s: %s\n", f.Node, f.Verdict, f.Reason)
	}
	for _, p := range selection.Problems {
		fmt.Println(p)
	}
	// Output:
	// media/tracks:http on node port 30080, agent port 9801, weight 50%
	//   worker-1 10.0.0.1
	//   worker-3 10.0.0.3
	// control-plane: excluded: label node.kubernetes.io/exclude-from-external-load-balancers=""
	// worker-2: avoid: taint ToBeDeletedByClusterAutoscaler
	// Service media/tracks: spec.ports: no port "https"; the service has http (80)
}

// workers returns n nodes with addresses, in two zones.
func workers(n int) []*corev1.Node {
	nodes := make([]*corev1.Node, n)
	for i := range nodes {
		nodes[i] = &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{
				Name:   fmt.Sprintf("worker-%d", i+1),
				Labels: map[string]string{corev1.LabelTopologyZone: fmt.Sprint("zone-", i%2)},
			},
			Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("10.0.0.%d", i+1)},
			}},
		}
	}
	return nodes
}

// This predicate excludes all nodes outside of the node pool "edge".
func ExamplePredicate() {
	edgePool := func(node *corev1.Node, _ time.Time) (nodeselect.Verdict, string) {
		if node.Labels["pool"] != "edge" {
			return nodeselect.Excluded, "not in the pool edge"
		}
		return nodeselect.Eligible, ""
	}
	nodes := workers(3)
	nodes[1].Labels["pool"] = "edge"

	selector := nodeselect.Selector{Predicates: append(nodeselect.DefaultPredicates(), edgePool)}
	pool := selector.Pool(nodes, time.Now())
	for _, n := range pool.Pick("media/tracks", nil) {
		fmt.Println("use", n.Name)
	}
	for _, f := range pool.Findings() {
		fmt.Println(f.Node, "is", f.Verdict, "for:", f.Reason)
	}
	// Output:
	// use worker-2
	// worker-1 is excluded for: not in the pool edge
	// worker-3 is excluded for: not in the pool edge
}

// One of 40 nodes is replaced. DiffSubsets lists the services that change nodes.
func ExampleDiffSubsets() {
	nodes := workers(40)
	subsets := func(nodes []*corev1.Node) nodeselect.Subsets {
		pool := nodeselect.Selector{Size: 5}.Pool(nodes, time.Now())
		s := nodeselect.Subsets{}
		for i := range 20 {
			key := fmt.Sprintf("media/service-%d", i)
			s[key] = pool.Pick(key, nil)
		}
		return s
	}
	before := subsets(nodes)
	nodes[9] = workers(41)[40]
	changes := nodeselect.DiffSubsets(before, subsets(nodes))
	for _, c := range changes.Services {
		fmt.Print(c.Service, ":")
		for _, n := range c.Leave {
			fmt.Print(" -", n.Name)
		}
		for _, n := range c.Enter {
			fmt.Print(" +", n.Name)
		}
		fmt.Println()
	}
	fmt.Printf("%d of %d places, %.0f%%\n", changes.Leave, changes.Before, 100*changes.Share())
	// Output:
	// media/service-11: -worker-34 +worker-41
	// media/service-16: -worker-26 +worker-41
	// media/service-18: -worker-10 +worker-27
	// media/service-2: -worker-10 +worker-26
	// media/service-4: -worker-18 +worker-41
	// 5 of 100 places, 5%
}

// A sticky subset stays the same when nodes join.
func ExampleSelector_sticky() {
	selector := nodeselect.Selector{Size: 4, Sticky: true}
	current := selector.Pool(workers(8), time.Now()).Pick("media/tracks", nil)

	joined := selector.Pool(workers(80), time.Now())
	fmt.Println("sticky, the same after 72 nodes joined:", fmt.Sprint(current) == fmt.Sprint(joined.Pick("media/tracks", current)))

	selector.Sticky = false
	ranked := selector.Pool(workers(80), time.Now()).Pick("media/tracks", current)
	fmt.Println("not sticky, the same:", fmt.Sprint(current) == fmt.Sprint(ranked))
	// Output:
	// sticky, the same after 72 nodes joined: true
	// not sticky, the same: false
}

// With Spread, a subset contains the same number of nodes from each of the two zones.
func ExampleSelector_spread() {
	pool := nodeselect.Selector{Size: 6, Spread: true}.Pool(workers(30), time.Now())
	zones := map[string]int{}
	for _, n := range pool.Pick("media/tracks", nil) {
		zones[n.Zone]++
	}
	fmt.Println(zones)
	// Output: map[zone-0:3 zone-1:3]
}

// A node leaves the cluster. Each service that used this node gets another node.
func ExampleTracker() {
	objects, _ := manifest.Parse("cluster.yaml", []byte(manifests))
	var d nodeselect.Delta
	d.Nodes = map[string]*corev1.Node{}
	for _, n := range objects.Nodes {
		d.Nodes[n.Name] = n
	}
	d.Services = map[string]*corev1.Service{}
	for _, s := range objects.Services {
		d.Services[s.Namespace+"/"+s.Name] = s
	}
	d.Refs = []nodeselect.Ref{{Namespace: "media", Service: "tracks", Port: "http"}}
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

	tracker := nodeselect.NewTracker(nodeselect.Selector{Size: 1}, nil)
	before, _ := tracker.Update(d, at)
	leaves := before.Targets[0].Nodes[0].Name
	after, changed := tracker.Update(nodeselect.Delta{Nodes: map[string]*corev1.Node{leaves: nil}}, at)
	fmt.Println("changed:", changed.Nodes, changed.Services)
	fmt.Println("before:", before.Targets[0].Nodes[0].Name)
	fmt.Println("after:", after.Targets[0].Nodes[0].Name)
	// Output:
	// changed: [worker-3] [media/tracks]
	// before: worker-3
	// after: worker-1
}
