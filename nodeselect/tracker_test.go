package nodeselect_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/internal/testscale"
	"github.com/headgate/headgate/nodeselect"
)

// dice is the source of numbers for a random walk.
type dice interface{ IntN(n int) int }

// bytesDice are dice with the bytes of a fuzzer. After the last byte they return 0.
type bytesDice struct{ left []byte }

func (d *bytesDice) IntN(n int) int {
	if len(d.left) == 0 {
		return 0
	}
	b := d.left[0]
	d.left = d.left[1:]
	return int(b) % n
}

// walk is a cluster with random changes, a Tracker of that cluster, and the expected Selection.
type walk struct {
	dice
	selector nodeselect.Selector
	tracker  *nodeselect.Tracker
	maxNodes int
	unusual  bool // nodes have several addresses

	nodes    map[string]*corev1.Node
	services map[string]*corev1.Service
	ready    map[string][]string
	refs     []nodeselect.Ref
	current  nodeselect.Subsets
	now      time.Time
	last     nodeselect.Selection
}

func newWalk(d dice) *walk {
	w := &walk{
		dice: d, now: now, maxNodes: 6 + d.IntN(30),
		nodes: map[string]*corev1.Node{}, services: map[string]*corev1.Service{}, current: nodeselect.Subsets{},
	}
	w.selector = nodeselect.Selector{
		Size: 1 + d.IntN(8), Spread: d.IntN(2) == 0, Sticky: d.IntN(3) == 0, AllLocal: d.IntN(4) == 0, LocalWeights: d.IntN(2) == 0,
		Identity: []nodeselect.Identity{nodeselect.ByAddress, nodeselect.ByName, nodeselect.ByProviderID}[d.IntN(3)],
		Reserved: []uint16{9001},
	}
	if d.IntN(2) == 0 {
		w.selector.Predicates = append(nodeselect.DefaultPredicates(), nodeselect.NotCordoned)
	}
	w.unusual = d.IntN(2) == 0
	if d.IntN(3) == 0 { // subsets of an earlier process
		for i := range 5 {
			w.current[serviceRef(i).Key()] = []nodeselect.Node{{Identity: fmt.Sprint("10.0.0.", 1+i)}, {Identity: fmt.Sprint("n", i)}}
		}
	}
	w.tracker = nodeselect.NewTracker(w.selector, maps.Clone(w.current))
	w.last, _ = w.tracker.Update(nodeselect.Delta{}, w.now)
	return w
}

func (w *walk) node(name string) *corev1.Node {
	n := newNode(name, fmt.Sprint("10.0.0.", 1+w.IntN(w.maxNodes)), zone(string(rune('a'+w.IntN(1+w.IntN(4))))))
	n.CreationTimestamp = metav1.NewTime(now.Add(time.Duration(w.IntN(3)) * time.Hour))
	if w.IntN(3) == 0 {
		n.Spec.ProviderID = fmt.Sprint("cloud://", w.IntN(w.maxNodes))
	}
	switch w.IntN(9) {
	case 0:
		n.Labels[nodeselect.ExcludeLabel] = ""
	case 1:
		n.Spec.Taints = []corev1.Taint{{Key: nodeselect.TaintKarpenter}}
	case 2:
		n.Status.Conditions = []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionFalse,
			LastTransitionTime: metav1.NewTime(w.now.Add(-time.Duration(w.IntN(6)) * time.Minute)),
		}}
	case 3:
		n.Spec.Unschedulable = true
	case 4:
		n.Status.Addresses = nil
	}
	if w.IntN(6) == 0 {
		delete(n.Labels, corev1.LabelTopologyZone)
	}
	if w.unusual {
		addr := func(format string) corev1.NodeAddress {
			return corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: fmt.Sprintf(format, 1+w.IntN(w.maxNodes))}
		}
		switch w.IntN(5) {
		case 0:
			n.Status.Addresses = append(n.Status.Addresses, addr("fd00::%d"))
		case 1:
			n.Status.Addresses = append([]corev1.NodeAddress{addr("fd00::%d"), addr("fd00::%d")}, n.Status.Addresses...)
		case 2:
			n.Status.Addresses = append([]corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.1.1"}}, n.Status.Addresses...)
		case 3:
			n.Status.Addresses = append(n.Status.Addresses, addr("10.0.0.%d"))
		}
	}
	return n
}

// serviceRef returns a service in one of two namespaces. The names of the namespaces test the order
// of services: a sort by namespace puts "ns" before "ns-b", and a sort by Ref.Key puts "ns-b/"
// before "ns/".
func serviceRef(i int) nodeselect.Ref {
	return nodeselect.Ref{Namespace: []string{"ns", "ns-b"}[i%2], Service: fmt.Sprint("s", i)}
}

func (w *walk) service(ref nodeselect.Ref) *corev1.Service {
	s := newService(named(ref.Namespace, ref.Service), nodePort(int32(30000+w.IntN(12))))
	s.CreationTimestamp = metav1.NewTime(now.Add(time.Duration(w.IntN(3)) * time.Hour))
	if w.IntN(2) == 0 {
		annotate("headgate.dev/agent-port", []string{"9001", "9002", "9003", "30001", "30002", "x"}[w.IntN(6)])(s)
	}
	if w.IntN(3) == 0 {
		annotate("headgate.dev/weight", []string{"0", "50", "much"}[w.IntN(3)])(s)
	}
	switch w.IntN(8) {
	case 0:
		s.Spec.Type = corev1.ServiceTypeClusterIP
	case 3:
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol}
	case 4:
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
		s.Spec.Ports[0].NodePort = []int32{9001, 10250, 30000}[w.IntN(3)]
	case 1, 2:
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		s.Spec.HealthCheckNodePort = int32(30001 + w.IntN(3))
	}
	return s
}

// step makes a random change and updates the Tracker.
func (w *walk) step(t *testing.T) {
	var d nodeselect.Delta
	for range 1 + w.IntN(2) {
		kind := w.IntN(12)
		if w.refs == nil && d.Refs == nil {
			kind = 9
		}
		switch kind {
		case 0, 1, 2, 3, 4:
			if d.Nodes == nil {
				d.Nodes = map[string]*corev1.Node{}
			}
			many := 1
			if w.IntN(20) == 0 {
				many = w.maxNodes
			}
			for range many {
				name := fmt.Sprint("n", w.IntN(w.maxNodes))
				d.Nodes[name] = nil
				if w.IntN(4) > 0 {
					d.Nodes[name] = w.node(name)
				}
			}
		case 5, 6, 7:
			if d.Services == nil {
				d.Services = map[string]*corev1.Service{}
			}
			ref := serviceRef(w.IntN(8))
			d.Services[ref.Key()] = nil
			if w.IntN(5) > 0 {
				d.Services[ref.Key()] = w.service(ref)
			}
		case 8:
			if d.ReadyNodes == nil {
				d.ReadyNodes = map[string][]string{}
			}
			var names []string
			for i := range w.maxNodes {
				if w.IntN(3) == 0 {
					for range 1 + w.IntN(4) {
						names = append(names, fmt.Sprint("n", i))
					}
				}
			}
			slices.Sort(names)
			d.ReadyNodes[serviceRef(w.IntN(8)).Key()] = names
		case 9:
			if w.refs != nil && w.IntN(4) > 0 {
				continue
			}
			d.Refs = []nodeselect.Ref{}
			for range w.IntN(12) {
				ref := serviceRef(w.IntN(8))
				ref.Port = []string{"http", "http", "80", "", "none"}[w.IntN(5)]
				d.Refs = append(d.Refs, ref)
			}
		default:
			w.now = w.now.Add(time.Duration(w.IntN(120)) * time.Second)
		}
	}
	maps.Copy(w.nodes, d.Nodes)
	maps.DeleteFunc(w.nodes, func(_ string, n *corev1.Node) bool { return n == nil })
	maps.Copy(w.services, d.Services)
	maps.DeleteFunc(w.services, func(_ string, s *corev1.Service) bool { return s == nil })
	if d.ReadyNodes != nil {
		if w.ready == nil {
			w.ready = map[string][]string{}
		}
		maps.Copy(w.ready, d.ReadyNodes)
		maps.DeleteFunc(w.ready, func(_ string, names []string) bool { return len(names) == 0 })
	}
	if d.Refs != nil {
		w.refs = d.Refs
	}
	w.check(t, d)
}

// check compares the results of the Tracker, of Select and of AgentPorts with the results of their
// oracles; see NaiveSelect.
func (w *walk) check(t *testing.T, d nodeselect.Delta) {
	objects := nodeselect.NewObjects(slices.Collect(maps.Values(w.nodes)), slices.Collect(maps.Values(w.services)))
	objects.ReadyNodes = w.ready
	want := w.selector.NaiveSelect(objects, w.refs, w.now, w.current)
	w.equal(t, want, w.selector.Select(objects, w.refs, w.now, w.current))
	wantPorts, wantProblems := w.selector.Annotations.NaiveAgentPorts(objects, w.selector.Reserved...)
	ports, problems := w.selector.Annotations.AgentPorts(objects, w.selector.Reserved...)
	require.Equal(t, wantPorts, ports)
	require.Equal(t, wantProblems, problems)
	got, changed := w.tracker.Update(d, w.now)
	w.equal(t, want, got)
	if changed.IsZero() && d.Refs == nil {
		w.equal(t, w.last, got)
	}
	w.last = got
	if d.Refs != nil {
		for _, ref := range w.refs {
			if w.current[ref.Key()] == nil {
				w.current[ref.Key()] = []nodeselect.Node{}
			}
		}
		maps.DeleteFunc(w.current, func(key string, _ []nodeselect.Node) bool {
			return !slices.ContainsFunc(w.refs, func(r nodeselect.Ref) bool { return r.Key() == key })
		})
	}
	maps.Copy(w.current, want.Subsets())

	tracked := w.tracker.Objects()
	require.Len(t, tracked.Nodes, len(objects.Nodes))
	for i := range objects.Nodes {
		require.Same(t, objects.Nodes[i], tracked.Nodes[i])
	}
	require.Len(t, tracked.Services, len(objects.Services))
	for i := range objects.Services {
		require.Same(t, objects.Services[i], tracked.Services[i])
	}
	require.Equal(t, len(objects.ReadyNodes), len(tracked.ReadyNodes))
}

func (w *walk) equal(t *testing.T, want, got nodeselect.Selection) {
	same := slices.EqualFunc(want.Targets, got.Targets, func(a, b nodeselect.Target) bool { return reflect.DeepEqual(a, b) }) &&
		slices.Equal(want.Findings, got.Findings) && slices.Equal(want.Problems, got.Problems)
	if !same {
		require.Equal(t, want, got, "%+v", w.selector)
	}
}

// After any sequence of changes, the Tracker returns the same Selection as a Select of all objects.
func TestTrackerEqualsSelect(t *testing.T) {
	for seed := range testscale.Of(60) {
		// With the seeds from 100, these few walks run every statement that 250 walks run.
		w := newWalk(rand.New(rand.NewPCG(100+uint64(seed), 5)))
		if seed%15 == 0 {
			w.maxNodes = 150 // makes steps with many changed nodes likely
		}
		for range 60 {
			w.step(t)
		}
	}
}

// If two nodes have the same address, the newer node is used. This test replaces a node by a node
// that differs only in its creation time.
func TestTrackerSeesANewCreationTime(t *testing.T) {
	made := func(name string, age time.Duration) *corev1.Node {
		n := newNode(name, "10.0.0.1")
		n.CreationTimestamp = metav1.NewTime(now.Add(-age))
		return n
	}
	tracker := nodeselect.NewTracker(nodeselect.Selector{}, nil)
	ref := serviceRef(0)
	selection, _ := tracker.Update(nodeselect.Delta{
		Refs:     []nodeselect.Ref{ref},
		Services: map[string]*corev1.Service{ref.Key(): newService(named(ref.Namespace, ref.Service), nodePort(30000))},
		Nodes:    map[string]*corev1.Node{"a": made("a", time.Hour), "b": made("b", 2*time.Hour)},
	}, now)
	require.Equal(t, "a", selection.Targets[0].Nodes[0].Name)
	selection, changed := tracker.Update(nodeselect.Delta{Nodes: map[string]*corev1.Node{"b": made("b", 0)}}, now)
	require.Equal(t, "b", selection.Targets[0].Nodes[0].Name)
	require.Contains(t, changed.Nodes, "b")
}

func FuzzTracker(f *testing.F) {
	f.Fuzz(func(t *testing.T, throws []byte) {
		d := &bytesDice{left: throws[:min(len(throws), 1<<12)]}
		w := newWalk(d)
		for len(d.left) > 0 {
			w.step(t)
		}
	})
}
