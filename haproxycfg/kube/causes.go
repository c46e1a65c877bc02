package kube

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
)

// Cause is one difference between the inputs of two configurations.
type Cause struct {
	// Cluster is empty for a route.
	Cluster string `json:"cluster,omitempty"`
	// Object is "Node a", "Service media/tracks" or "Route api.example.com/tracks";
	// empty for the cluster as a whole.
	Object string `json:"object,omitempty"`
	// What happened to it: "added", "removed", or what of it changed.
	What string `json:"what"`
}

// String gives "cluster: object: what" with the parts that are known.
func (c Cause) String() string {
	parts := slices.DeleteFunc([]string{c.Cluster, c.Object, c.What}, func(s string) bool { return s == "" })
	return strings.Join(parts, ": ")
}

// Input is what a configuration is built of.
type Input struct {
	Table    routes.Table
	Clusters []Cluster // by name
}

// Causes returns what differs between two inputs of Build: routes first, then
// clusters, nodes and services, as far as a configuration can depend on them. It
// takes no time for objects that are the same in memory.
func Causes(before, after Input) []Cause {
	causes := routeCauses(before.Table, after.Table)
	byName := func(x, y Cluster) int { return cmp.Compare(x.Name, y.Name) }
	a, b := slices.SortedFunc(slices.Values(before.Clusters), byName), slices.SortedFunc(slices.Values(after.Clusters), byName)
	for len(a) > 0 || len(b) > 0 {
		switch order := headOrder(a, b, byName); {
		case order < 0:
			causes = append(causes, Cause{Cluster: a[0].Name, What: "removed"})
			a = a[1:]
		case order > 0:
			causes = append(causes, Cause{Cluster: b[0].Name, What: "added"})
			b = b[1:]
		default:
			causes = appendClusterCauses(causes, a[0], b[0])
			a, b = a[1:], b[1:]
		}
	}
	return causes
}

func routeCauses(before, after routes.Table) []Cause {
	if len(before.Routes) > 0 && len(before.Routes) == len(after.Routes) && &before.Routes[0] == &after.Routes[0] {
		return nil
	}
	var causes []Cause
	a, b := before.Routes, after.Routes
	for len(a) > 0 || len(b) > 0 {
		switch order := headOrder(a, b, compareRoutes); {
		case order < 0:
			causes = append(causes, Cause{Object: routeObject(a[0]), What: "removed"})
			a = a[1:]
		case order > 0:
			causes = append(causes, Cause{Object: routeObject(b[0]), What: "added"})
			b = b[1:]
		default:
			if what := routeFields(a[0], b[0]); what != "" {
				causes = append(causes, Cause{Object: routeObject(b[0]), What: what})
			}
			a, b = a[1:], b[1:]
		}
	}
	return causes
}

// compareRoutes is the order of a table.
func compareRoutes(x, y routes.Route) int {
	exactFirst := 0
	if x.Exact != y.Exact {
		exactFirst = 1
		if x.Exact {
			exactFirst = -1
		}
	}
	return cmp.Or(cmp.Compare(x.Host, y.Host), cmp.Compare(x.Path, y.Path), exactFirst)
}

func routeObject(r routes.Route) string { return "Route " + r.Host + r.Path }

func routeFields(a, b routes.Route) string {
	var f fields
	f.add("backends", slices.Equal(a.Backends, b.Backends))
	f.add("check", a.Check == b.Check || a.Check != nil && b.Check != nil && *a.Check == *b.Check)
	f.add("timeouts", a.Timeouts == b.Timeouts)
	return f.String()
}

func appendClusterCauses(causes []Cause, a, b Cluster) []Cause {
	if a.Contact.Away() != b.Contact.Away() {
		what := "answers again"
		if b.Contact.Away() {
			what = "does not answer"
		} else if a.Contact.State == Never {
			what = "answers"
		}
		causes = append(causes, Cause{Cluster: b.Name, What: what})
	}
	if a.hasObjects() && b.hasObjects() { // else all there is would be new
		causes = append(causes, objectCauses(b.Name, a.Objects, b.Objects)...)
	}
	return causes
}

func (c Cluster) hasObjects() bool { return len(c.Objects.Nodes)+len(c.Objects.Services) > 0 }

// fields collects the names of fields that differ.
type fields []string

func (f *fields) add(name string, same bool) {
	if !same {
		*f = append(*f, name)
	}
}

func (f fields) String() string { return strings.Join(f, ", ") }

// objectCauses walks lists that are sorted by name.
func objectCauses(cluster string, before, after nodeselect.Objects) []Cause {
	var causes []Cause
	add := func(object, what string) {
		if what != "" {
			causes = append(causes, Cause{Cluster: cluster, Object: object, What: what})
		}
	}
	for a, b := before.Nodes, after.Nodes; len(a) > 0 || len(b) > 0; {
		if len(a) > 0 && len(b) > 0 && a[0] == b[0] {
			a, b = a[1:], b[1:]
			continue
		}
		order := headOrder(a, b, nil)
		if len(a) > 0 && len(b) > 0 {
			order = strings.Compare(a[0].Name, b[0].Name)
		}
		switch {
		case order < 0:
			add("Node "+a[0].Name, "removed")
			a = a[1:]
		case order > 0:
			add("Node "+b[0].Name, "added")
			b = b[1:]
		default:
			x, y := a[0], b[0]
			var f fields
			f.add("metadata.labels", maps.Equal(x.Labels, y.Labels))
			f.add("metadata.deletionTimestamp", x.DeletionTimestamp.Equal(y.DeletionTimestamp))
			f.add("spec.providerID", x.Spec.ProviderID == y.Spec.ProviderID)
			f.add("spec.unschedulable", x.Spec.Unschedulable == y.Spec.Unschedulable)
			f.add("spec.taints", reflect.DeepEqual(x.Spec.Taints, y.Spec.Taints))
			f.add("status.addresses", slices.Equal(x.Status.Addresses, y.Status.Addresses))
			wasReady, _ := ready(x, farFuture)
			isReady, _ := ready(y, farFuture)
			f.add("status.conditions[Ready]", wasReady == isReady)
			add("Node "+y.Name, f.String())
			a, b = a[1:], b[1:]
		}
	}
	for a, b := before.Services, after.Services; len(a) > 0 || len(b) > 0; {
		if len(a) > 0 && len(b) > 0 && a[0] == b[0] {
			a, b = a[1:], b[1:]
			continue
		}
		order := headOrder(a, b, nil)
		if len(a) > 0 && len(b) > 0 {
			order = cmp.Or(strings.Compare(a[0].Namespace, b[0].Namespace), strings.Compare(a[0].Name, b[0].Name))
		}
		switch {
		case order < 0:
			add("Service "+a[0].Namespace+"/"+a[0].Name, "removed")
			a = a[1:]
		case order > 0:
			add("Service "+b[0].Namespace+"/"+b[0].Name, "added")
			b = b[1:]
		default:
			x, y := a[0], b[0]
			var f fields
			f.add("metadata.annotations", maps.Equal(x.Annotations, y.Annotations))
			f.add("spec.type", x.Spec.Type == y.Spec.Type)
			f.add("spec.ports", reflect.DeepEqual(x.Spec.Ports, y.Spec.Ports))
			f.add("spec.externalTrafficPolicy", x.Spec.ExternalTrafficPolicy == y.Spec.ExternalTrafficPolicy)
			add("Service "+y.Namespace+"/"+y.Name, f.String())
			a, b = a[1:], b[1:]
		}
	}
	for _, key := range podsMoved(before.ReadyNodes, after.ReadyNodes) {
		add("Service "+key, "nodes with ready pods")
	}
	return causes
}

// podsMoved gives the services of which other nodes have ready pods, sorted.
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

// ready judges the condition Ready alone: at the end of time no grace is left.
var (
	ready     = nodeselect.Ready(0)
	farFuture = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
)
