package kube

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
)

// Cause is one difference between the inputs of two calls of Build.
type Cause struct {
	// Cluster is empty for a route.
	Cluster string `json:"cluster,omitempty"`
	// Object is "Node a", "Service media/tracks", "Route api.example.com/tracks" or "Certificate
	// a.pem". It is empty if the cause concerns the whole cluster.
	Object string `json:"object,omitempty"`
	// What says what happened to the object: "added", "removed", or the names of its fields that
	// changed.
	What string `json:"what"`
}

// String returns "cluster: object: what". It leaves out parts that are empty.
func (c Cause) String() string {
	parts := slices.DeleteFunc([]string{c.Cluster, c.Object, c.What}, func(s string) bool { return s == "" })
	return strings.Join(parts, ": ")
}

// Input contains the arguments of one call of Build: the table of routes, the regions and the
// clusters. Causes compares two Inputs.
type Input struct {
	Table    routes.Table
	Regions  routes.Regions // Build uses Builder.Edge.Regions
	Clusters []Cluster
}

// Causes returns the differences between the inputs of two calls of Build: first routes, then
// regions, then clusters with their nodes and services. It compares only fields that can change a
// configuration, and does not compare an object with itself (the same pointer).
func Causes(before, after Input) []Cause {
	causes := routeCauses(before.Table, after.Table)
	if !before.Regions.Equal(after.Regions) {
		causes = append(causes, Cause{Object: "Regions", What: "changed"})
	}
	byName := func(x, y Cluster) int { return cmp.Compare(x.Name, y.Name) }
	a, b := slices.SortedFunc(slices.Values(before.Clusters), byName), slices.SortedFunc(slices.Values(after.Clusters), byName)
	walk(a, b, byName,
		func(was Cluster) { causes = append(causes, Cause{Cluster: was.Name, What: "removed"}) },
		func(is Cluster) { causes = append(causes, Cause{Cluster: is.Name, What: "added"}) },
		func(was, is Cluster) { causes = appendClusterCauses(causes, was, is) },
	)
	return causes
}

func routeCauses(before, after routes.Table) []Cause {
	was, is := before.Routes(), after.Routes()
	if len(was) > 0 && len(was) == len(is) && &was[0] == &is[0] { // The tables share memory.
		return nil
	}
	var causes []Cause
	walk(was, is, routes.Route.Compare,
		func(was routes.Route) { causes = append(causes, Cause{Object: routeObject(was), What: "removed"}) },
		func(is routes.Route) { causes = append(causes, Cause{Object: routeObject(is), What: "added"}) },
		func(was, is routes.Route) {
			if what := routeFields(was, is); what != "" {
				causes = append(causes, Cause{Object: routeObject(is), What: what})
			}
		},
	)
	return causes
}

func routeObject(r routes.Route) string { return "Route " + r.Host + r.Path }

func routeFields(a, b routes.Route) string {
	var f fields
	f.add("backends", slices.Equal(a.Backends, b.Backends))
	f.add("check", a.Check == b.Check || a.Check != nil && b.Check != nil && *a.Check == *b.Check)
	f.add("protocol", a.Protocol == b.Protocol)
	f.add("limits", a.Limits == b.Limits)
	f.add("timeouts", a.Timeouts == b.Timeouts)
	f.add("shift", a.Shift == b.Shift)
	f.add("prefer", routes.SamePreferences(a.Prefer, b.Prefer))
	return f.String()
}

func appendClusterCauses(causes []Cause, a, b Cluster) []Cause {
	if a.Connectivity.Unreachable() != b.Connectivity.Unreachable() {
		what := "answers again"
		if b.Connectivity.Unreachable() {
			what = "does not answer"
		} else if a.Connectivity.State == Never {
			what = "answers"
		}
		causes = append(causes, Cause{Cluster: b.Name, What: what})
	}
	if a.hasObjects() && b.hasObjects() { // without this condition, every object would be a cause
		causes = append(causes, objectCauses(b.Name, a.Objects, b.Objects)...)
	}
	return causes
}

// fields are the names of the fields in which two versions of an object differ.
type fields []string

func (f *fields) add(name string, same bool) {
	if !same {
		*f = append(*f, name)
	}
}

func (f fields) String() string { return strings.Join(f, ", ") }

// objectCauses returns a Cause for each node or service that was added, removed or changed in a
// cluster. The argument "before" contains the objects of the cluster before the change, and the
// argument "after" contains the objects after the change. In both arguments, the objects must be
// sorted by name.
func objectCauses(cluster string, before, after nodeselect.Objects) []Cause {
	var causes []Cause
	add := func(object, what string) {
		if what != "" {
			causes = append(causes, Cause{Cluster: cluster, Object: object, What: what})
		}
	}
	node := func(n *corev1.Node) string { return "Node " + n.Name }
	walk(before.Nodes, after.Nodes, compareNodes,
		func(was *corev1.Node) { add(node(was), "removed") },
		func(is *corev1.Node) { add(node(is), "added") },
		func(was, is *corev1.Node) { add(node(is), nodeFields(was, is)) },
	)
	service := func(s *corev1.Service) string { return "Service " + s.Namespace + "/" + s.Name }
	walk(before.Services, after.Services, compareServices,
		func(was *corev1.Service) { add(service(was), "removed") },
		func(is *corev1.Service) { add(service(is), "added") },
		func(was, is *corev1.Service) { add(service(is), serviceFields(was, is)) },
	)
	for _, key := range podsMoved(before.ReadyNodes, after.ReadyNodes) {
		add("Service "+key, "nodes with ready pods")
	}
	return causes
}

// compareNodes orders nodes by name, as nodeselect.Objects does. If a and b are the same pointer,
// it does not compare the names. This saves time, because most nodes are the same pointers before
// and after a small change of a cluster.
func compareNodes(a, b *corev1.Node) int {
	if a == b {
		return 0
	}
	return strings.Compare(a.Name, b.Name)
}

// compareServices orders services by namespace and name; nodeselect.Objects has the same order. If
// a and b are the same pointer, it does not compare the names.
func compareServices(a, b *corev1.Service) int {
	if a == b {
		return 0
	}
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

func nodeFields(a, b *corev1.Node) string {
	if a == b {
		return ""
	}
	var f fields
	f.add("metadata.labels", maps.Equal(a.Labels, b.Labels))
	f.add("metadata.deletionTimestamp", a.DeletionTimestamp.Equal(b.DeletionTimestamp))
	f.add("spec.providerID", a.Spec.ProviderID == b.Spec.ProviderID)
	f.add("spec.unschedulable", a.Spec.Unschedulable == b.Spec.Unschedulable)
	f.add("spec.taints", reflect.DeepEqual(a.Spec.Taints, b.Spec.Taints))
	f.add("status.addresses", slices.Equal(a.Status.Addresses, b.Status.Addresses))
	wasReady, _ := ready(a, farFuture)
	isReady, _ := ready(b, farFuture)
	f.add("status.conditions[Ready]", wasReady == isReady)
	return f.String()
}

func serviceFields(a, b *corev1.Service) string {
	if a == b {
		return ""
	}
	var f fields
	f.add("metadata.annotations", maps.Equal(a.Annotations, b.Annotations))
	f.add("spec.type", a.Spec.Type == b.Spec.Type)
	f.add("spec.ports", reflect.DeepEqual(a.Spec.Ports, b.Spec.Ports))
	f.add("spec.externalTrafficPolicy", a.Spec.ExternalTrafficPolicy == b.Spec.ExternalTrafficPolicy)
	return f.String()
}

// podsMoved returns the sorted keys of the services whose ready pods are on other nodes than
// before.
func podsMoved(before, after map[string][]string) (keys []string) {
	for key, nodes := range after {
		if was, ok := before[key]; !ok || !slices.Equal(was, nodes) {
			keys = append(keys, key)
		}
	}
	for key := range before {
		if _, ok := after[key]; !ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// ready accepts a node that has the condition Ready, and also a node that lost this condition less
// than a grace period ago. Callers pass the time farFuture, at which every grace period is over, so
// that only nodes with the condition count.
var (
	ready     = nodeselect.Ready(0)
	farFuture = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
)
