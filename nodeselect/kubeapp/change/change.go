package change

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/nodeselect"
)

// Annotation is the annotation of a Service with which an operator permits findings: parts of a
// change that would hurt traffic.
const Annotation = "headgate.dev/allow-change"

// Objects are objects of one cluster.
type Objects struct {
	Namespaces  []string // names of Namespace objects
	Services    []*corev1.Service
	Deployments []*appsv1.Deployment
}

// AllNamespaces returns the names of the Namespaces, and the namespaces of all other objects, sorted
// and without duplicates.
func (o *Objects) AllNamespaces() []string {
	names := slices.Clone(o.Namespaces)
	for _, s := range o.Services {
		names = append(names, s.Namespace)
	}
	for _, d := range o.Deployments {
		names = append(names, d.Namespace)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Use is a service port that a declaration of a host and path uses.
type Use struct {
	nodeselect.Ref
	// Route names the declaration for messages, such as "api.example.com/tracks (routes.yaml:2)".
	Route string
}

// Change is a change of the objects of a cluster.
type Change struct {
	// Old are the objects before the change: all Services of the cluster, and all Deployments of the
	// namespaces of New. If some Services are missing, Check cannot find out that a node port belongs
	// to one of them.
	Old Objects
	// New are the objects that the change creates or replaces. Check understands a node port of 0 as
	// the API server does: the port keeps its node port, or gets a free one.
	New Objects
	// Prune means that the change also deletes the Services and Deployments of Old that New does not
	// contain, in the namespaces of New. Otherwise such objects stay.
	Prune bool
	// Uses are the service ports of this cluster that declarations use.
	Uses []Use
}

// Kind is a kind of finding.
type Kind string

// The kinds of findings.
const (
	NodePortDropped       Kind = "node-port-dropped"       // no port of the Service has the node port
	NodePortChanged       Kind = "node-port-changed"       // the port has another node port
	NodePortTaken         Kind = "node-port-taken"         // another port or another Service gets the node port
	TypeChanged           Kind = "type-changed"            // the new type of the Service has no node ports
	ServiceDeleted        Kind = "service-deleted"         // the Service is published or used
	PortRenamed           Kind = "port-renamed"            // a declaration uses the old name or number
	PortRemoved           Kind = "port-removed"            // a declaration uses the port
	ExternalTrafficPolicy Kind = "external-traffic-policy" // from Cluster to Local
	NoPods                Kind = "no-pods"                 // the Service selects the pods of no Deployment any more
	TargetPortMissing     Kind = "target-port-missing"     // the pods have no port with the name of the target port
	SelectorChanged       Kind = "selector-changed"        // the API server refuses another selector of a Deployment
)

// Finding is a part of a change that would hurt traffic, or that nobody can undo.
type Finding struct {
	Kind   Kind   `json:"kind"`
	Object string `json:"object"` // such as "Service media/tracks"
	Field  string `json:"field"`  // such as "spec.ports[http].nodePort"
	// Change says what changes, such as "30080 → 30090".
	Change string `json:"change"`
	// Effect says what happens to the traffic, and Instead says what the user should do instead of
	// the change.
	Effect  string `json:"effect"`
	Instead string `json:"instead"`
	// Routes are the declarations of routes that this part of the change affects, sorted.
	Routes []string `json:"routes,omitempty"`
	// Allow has the words that the annotation of the Service must contain to permit this part of
	// the change. It is empty if no annotation helps, because the API server refuses the change
	// anyway.
	Allow []string `json:"allow,omitempty"`
	// Allowed means that the annotation of the Service contains the words in Allow, so kubeapp does
	// not refuse the change because of this Finding.
	Allowed bool `json:"allowed"`
}

// String returns the finding in several lines, without a line feed at the end.
func (f Finding) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s: %s (%s)\n  effect: %s", f.Object, f.Field, f.Change, f.Kind, f.Effect)
	for _, r := range f.Routes {
		fmt.Fprintf(&b, "\n  declared by: %s", r)
	}
	switch {
	case f.Allowed:
		fmt.Fprintf(&b, "\n  allowed by the annotation %s", Annotation)
	case len(f.Allow) == 0:
		fmt.Fprintf(&b, "\n  instead: %s", f.Instead)
	default:
		fmt.Fprintf(&b, "\n  instead: %s\n  to allow it: set the annotation %s: %q on the Service", f.Instead, Annotation, strings.Join(f.Allow, ","))
	}
	return b.String()
}

// Refused returns those findings (harmful parts of a change) that no annotation allows.
func Refused(findings []Finding) []Finding {
	return slices.DeleteFunc(slices.Clone(findings), func(f Finding) bool { return f.Allowed })
}

// Check returns the findings of the change, the parts that would hurt traffic or that nobody can
// undo, sorted by object, field and kind. It does not change the objects.
func (c *Change) Check() []Finding {
	k := newChecker(c)
	for _, p := range k.services {
		k.service(p)
	}
	k.taken()
	k.deployments()
	slices.SortStableFunc(k.findings, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.Object, b.Object), strings.Compare(a.Field, b.Field), strings.Compare(string(a.Kind), string(b.Kind)))
	})
	return k.findings
}

// pair contains an object before the change (old) and after it (new). old and new are equal if the
// change does not affect the object. One of the two is nil if the change creates or deletes the
// object.
type pair[T any] struct{ old, new *T }

// checker is the state of one Check.
type checker struct {
	services []pair[corev1.Service]    // sorted by name
	deploys  []pair[appsv1.Deployment] // sorted by name
	touched  map[string]bool           // the namespaces of New
	uses     map[string][]Use          // by Ref.Key
	findings []Finding
}

func newChecker(c *Change) *checker {
	k := &checker{touched: map[string]bool{}, uses: map[string][]Use{}}
	for _, n := range c.New.AllNamespaces() {
		k.touched[n] = true
	}
	for _, u := range c.Uses {
		k.uses[u.Key()] = append(k.uses[u.Key()], u)
	}
	gone := func(namespace string) bool { return c.Prune && k.touched[namespace] }
	k.services = pairs(c.Old.Services, c.New.Services, gone, func(s *corev1.Service) (string, string) { return s.Namespace, s.Name })
	k.deploys = pairs(c.Old.Deployments, c.New.Deployments, gone, func(d *appsv1.Deployment) (string, string) { return d.Namespace, d.Name })
	return k
}

// pairs joins the objects before and after a change by their names. If an object is missing after
// the change, and the function "gone" returns true for its namespace, the change deletes the
// object.
func pairs[T any](before, after []*T, gone func(namespace string) bool, nameOf func(*T) (namespace, name string)) []pair[T] {
	type key struct{ namespace, name string }
	m := map[key]*pair[T]{}
	for _, o := range before {
		p := &pair[T]{old: o, new: o}
		k := key{}
		if k.namespace, k.name = nameOf(o); gone(k.namespace) {
			p.new = nil
		}
		m[k] = p
	}
	for _, o := range after {
		k := key{}
		k.namespace, k.name = nameOf(o)
		if m[k] == nil {
			m[k] = &pair[T]{}
		}
		m[k].new = o
	}
	keys := make([]key, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(strings.Compare(a.namespace, b.namespace), strings.Compare(a.name, b.name))
	})
	list := make([]pair[T], len(keys))
	for i, k := range keys {
		list[i] = *m[k]
	}
	return list
}

// add adds the Finding f about a Service. If the annotation of the Service permits this part of the
// change, add sets f.Allowed.
func (k *checker) add(p pair[corev1.Service], f Finding) {
	s := cmp.Or(p.new, p.old)
	f.Object = "Service " + s.Namespace + "/" + s.Name
	slices.Sort(f.Routes)
	f.Routes = slices.Compact(f.Routes)
	f.Allowed = len(f.Allow) > 0
	for _, word := range f.Allow {
		f.Allowed = f.Allowed && (permits(p.old, word) || permits(p.new, word))
	}
	k.findings = append(k.findings, f)
}

// permits reports whether the annotation of a Service contains a word.
func permits(s *corev1.Service, word string) bool {
	if s == nil {
		return false
	}
	for w := range strings.SplitSeq(s.Annotations[Annotation], ",") {
		if strings.TrimSpace(w) == word {
			return true
		}
	}
	return false
}
