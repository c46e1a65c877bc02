package drill

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/nodeselect"
)

// The functions in this file that return Objects describe a cluster after a fault. They are pure,
// and ignore names of nodes that the Objects do not contain.

// Zones returns the zones of the nodes, sorted. It leaves out nodes without the zone label.
func Zones(o nodeselect.Objects) []string {
	zones := map[string]bool{}
	for _, n := range o.Nodes {
		if zone := n.Labels[corev1.LabelTopologyZone]; zone != "" {
			zones[zone] = true
		}
	}
	return slices.Sorted(maps.Keys(zones))
}

// InZone returns the names of the nodes in a zone, sorted.
func InZone(o nodeselect.Objects, zone string) (names []string) {
	for _, n := range o.Nodes {
		if n.Labels[corev1.LabelTopologyZone] == zone {
			names = append(names, n.Name)
		}
	}
	return names
}

// Share returns the names of a share (0 to 1) of the nodes, but of at least one node. It chooses
// them at equal distances in the sorted list of all nodes.
func Share(o nodeselect.Objects, share float64) (names []string) {
	count := min(len(o.Nodes), max(1, int(float64(len(o.Nodes))*share)))
	for i := range count {
		names = append(names, o.Nodes[i*len(o.Nodes)/count].Name)
	}
	return names
}

// NotReady makes the nodes unreachable, as the node controller of Kubernetes does when kubelets
// stop answering: the condition Ready of the nodes becomes Unknown, they get the taint
// node.kubernetes.io/unreachable, and their pods are not ready. The argument "now" is the time of
// the changed condition.
func NotReady(o nodeselect.Objects, names []string, now time.Time) nodeselect.Objects {
	o = change(o, names, func(n *corev1.Node) {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{
			Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute, TimeAdded: &metav1.Time{Time: now},
		})
		setReady(n, corev1.ConditionUnknown, now)
	})
	return withoutPods(o, names)
}

// Cordon cordons the nodes. The argument "now" is the time of the cordon.
func Cordon(o nodeselect.Objects, names []string, now time.Time) nodeselect.Objects {
	return change(o, names, func(n *corev1.Node) {
		n.Spec.Unschedulable = true
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{
			Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule, TimeAdded: &metav1.Time{Time: now},
		})
	})
}

// Remove deletes the nodes with these names, and the pods on these nodes.
func Remove(o nodeselect.Objects, names []string) nodeselect.Objects {
	o.Nodes = slices.DeleteFunc(slices.Clone(o.Nodes), func(n *corev1.Node) bool { return slices.Contains(names, n.Name) })
	return withoutPods(o, names)
}

// Register deletes the nodes and creates them again. The argument "now" is the time of the
// creation. Apart from the time of creation, the UID and the condition Ready, the new nodes equal
// the old nodes.
func Register(o nodeselect.Objects, names []string, now time.Time) nodeselect.Objects {
	return change(o, names, func(n *corev1.Node) {
		n.CreationTimestamp = metav1.Time{Time: now}
		n.UID = ""
		setReady(n, corev1.ConditionTrue, now)
	})
}

// Join adds "count" new nodes, created at the time "now" and not ready yet, and returns their
// names. Each new node has the labels, and so the zone, of a node in o, and an address above all
// addresses of its family in o. If o has no nodes, Join adds no nodes.
func Join(o nodeselect.Objects, count int, now time.Time) (_ nodeselect.Objects, names []string) {
	if len(o.Nodes) == 0 {
		return o, nil
	}
	next := map[bool]netip.Addr{} // the highest address; the key is netip.Addr.Is4
	taken := map[string]bool{}
	for _, n := range o.Nodes {
		taken[n.Name] = true
		for _, a := range n.Status.Addresses {
			addr, err := netip.ParseAddr(a.Address)
			if err == nil && next[addr.Is4()].Less(addr) {
				next[addr.Is4()] = addr
			}
		}
	}
	nodes := slices.Clone(o.Nodes)
	for i := 0; len(names) < count; i++ {
		name := fmt.Sprintf("drill-new-%d", i+1)
		if taken[name] {
			continue
		}
		n := o.Nodes[i*len(o.Nodes)/count%len(o.Nodes)].DeepCopy()
		n.Name, n.UID, n.Spec.ProviderID, n.CreationTimestamp = name, "", "", metav1.Time{Time: now}
		if _, ok := n.Labels[corev1.LabelHostname]; ok {
			n.Labels[corev1.LabelHostname] = name
		}
		n.Spec.Unschedulable, n.Spec.Taints, n.DeletionTimestamp = false, nil, nil
		addresses := n.Status.Addresses[:0]
		for _, a := range n.Status.Addresses {
			addr, err := netip.ParseAddr(a.Address)
			if err != nil || a.Type != corev1.NodeInternalIP {
				continue
			}
			next[addr.Is4()] = next[addr.Is4()].Next()
			a.Address = next[addr.Is4()].String()
			addresses = append(addresses, a)
		}
		n.Status.Addresses = addresses
		setReady(n, corev1.ConditionFalse, now)
		nodes = append(nodes, n)
		names = append(names, name)
	}
	ready := o.ReadyNodes
	o = nodeselect.NewObjects(nodes, o.Services)
	o.ReadyNodes = ready
	return o, names
}

// Ready makes the nodes ready. The argument "now" is the time at which they become ready.
func Ready(o nodeselect.Objects, names []string, now time.Time) nodeselect.Objects {
	return change(o, names, func(n *corev1.Node) { setReady(n, corev1.ConditionTrue, now) })
}

// RemoveService deletes a service.
func RemoveService(o nodeselect.Objects, namespace, name string) nodeselect.Objects {
	o.Services = slices.DeleteFunc(slices.Clone(o.Services), func(s *corev1.Service) bool {
		return s.Namespace == namespace && s.Name == name
	})
	return o
}

// Renumber assigns a new node port to each port of a service: the lowest node ports from 30000 on
// that no service in o has.
func Renumber(o nodeselect.Objects, namespace, name string) nodeselect.Objects {
	used := map[int32]bool{}
	for _, s := range o.Services {
		for _, p := range s.Spec.Ports {
			used[p.NodePort] = true
		}
		used[s.Spec.HealthCheckNodePort] = true
	}
	services, free := slices.Clone(o.Services), int32(30000)
	for i, s := range services {
		if s.Namespace != namespace || s.Name != name {
			continue
		}
		s = s.DeepCopy()
		for k := range s.Spec.Ports {
			if s.Spec.Ports[k].NodePort == 0 {
				continue
			}
			for used[free] {
				free++
			}
			used[free] = true
			s.Spec.Ports[k].NodePort = free
		}
		services[i] = s
	}
	o.Services = services
	return o
}

// change applies f to copies of the named nodes.
func change(o nodeselect.Objects, names []string, f func(*corev1.Node)) nodeselect.Objects {
	nodes := slices.Clone(o.Nodes)
	for _, name := range names {
		i, ok := slices.BinarySearchFunc(nodes, name, func(n *corev1.Node, name string) int { return cmp.Compare(n.Name, name) })
		if ok {
			nodes[i] = nodes[i].DeepCopy()
			f(nodes[i])
		}
	}
	o.Nodes = nodes
	return o
}

func setReady(n *corev1.Node, status corev1.ConditionStatus, now time.Time) {
	conditions := slices.DeleteFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady })
	n.Status.Conditions = append(conditions, corev1.NodeCondition{
		Type: corev1.NodeReady, Status: status, LastTransitionTime: metav1.Time{Time: now}, LastHeartbeatTime: metav1.Time{Time: now},
	})
}

// withoutPods returns a copy of o in which no service has a ready pod on the nodes with these
// names. The copy still has these nodes.
func withoutPods(o nodeselect.Objects, names []string) nodeselect.Objects {
	if o.ReadyNodes == nil {
		return o
	}
	ready := make(map[string][]string, len(o.ReadyNodes))
	for key, nodes := range o.ReadyNodes {
		ready[key] = slices.DeleteFunc(slices.Clone(nodes), func(n string) bool { return slices.Contains(names, n) })
	}
	o.ReadyNodes = ready
	return o
}
