package nodeselect

import (
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Tracker is a Selector that remembers: it is told what changes in a cluster, and
// each time gives the Selection that Selector.Select would give for everything that
// it has been told, with the subset that each declared service had last as the current
// one: also of a service that could not be resolved for a while.
//
// It does so by looking at what the change can touch. All nodes are judged anew, since
// time passes for every one of them; but a node that leaves costs a choice for the
// services that had it, one that joins a comparison for each service and a choice for
// those it belongs to, and a service its own targets and those of services that want
// the same agent port.
//
// Update is to be called by one goroutine at a time. What it returns is not changed
// later, and must not be by the caller.
type Tracker struct {
	selector   Selector
	predicates []Predicate

	objects  Objects
	services map[string]*corev1.Service // by Ref.Key
	claims   *portClaims
	nodes    []*candidate // by name
	pool     *Pool

	refs     []Ref
	answers  []answer             // of each ref
	declared map[string]*declared // by Ref.Key
	order    []*declared          // as they are first named
	users    map[string][]*declared
	initial  Subsets // in use at the start, until something is declared

	selection Selection
}

// answer is what comes of a ref.
type answer struct {
	target   Target // NodePort 0: there is none
	problems []Problem
}

// declared is a service that refs name.
type declared struct {
	key  string
	refs []int32 // the refs that name it
	// subset is the last one that was picked. It is kept while no ref can be resolved,
	// as the current one for when one can.
	subset
	picked   bool       // subset is in use
	local    bool       // the service wants nodes with pods
	excluded bool       // subset is of excluded nodes, for want of others
	last     []zoneLast // see describe
}

// NewTracker returns a Tracker that knows of nothing yet. current are the subsets in
// use, as for Select; it heeds those of services that the first refs name.
func NewTracker(s Selector, current Subsets) *Tracker {
	t := &Tracker{
		selector: s, predicates: s.predicates(),
		services: map[string]*corev1.Service{},
		claims:   newPortClaims(s.Annotations, s.Reserved),
		declared: map[string]*declared{},
		users:    map[string][]*declared{},
		initial:  current,
	}
	t.pool = s.pool(nil)
	t.assemble()
	return t
}

// Objects returns the objects of the cluster.
func (t *Tracker) Objects() Objects { return t.objects }

// Refs returns what is declared.
func (t *Tracker) Refs() []Ref { return t.refs }

// Update takes a change into account and judges nodes as of now. The objects in d are
// the Tracker's from then on. It returns the Selection and what is different in it.
func (t *Tracker) Update(d Delta, now time.Time) (Selection, Changed) {
	u := updating{Tracker: t, dirty: map[*declared]bool{}, touched: map[string]bool{}}
	if d.Refs != nil {
		u.declare(d.Refs)
	}
	u.setServices(d.Services)
	u.setReadyNodes(d.ReadyNodes)
	nodes := u.setNodes(d.Nodes, now)
	u.resolve()
	changed := Changed{Nodes: nodes, Services: slices.Sorted(maps.Keys(u.touched))}
	if !changed.IsZero() || d.Refs != nil {
		t.assemble()
	}
	return t.selection, changed
}

// assemble makes the Selection of its parts.
func (t *Tracker) assemble() {
	s := Selection{
		Targets:  make([]Target, 0, len(t.answers)),
		Findings: t.pool.findings,
		Problems: slices.Clone(t.pool.problems),
	}
	var said map[Problem]bool
	for i := range t.answers {
		a := &t.answers[i]
		for _, p := range a.problems {
			if said == nil {
				said = map[Problem]bool{}
			}
			if !said[p] {
				said[p] = true
				s.Problems = append(s.Problems, p)
			}
		}
		if a.target.NodePort != 0 {
			s.Targets = append(s.Targets, a.target)
		}
	}
	t.selection = s
}

// compareNode and the like order objects as Objects does, by their keys.
func compareNode(n *corev1.Node, name string) int { return strings.Compare(n.Name, name) }

func compareCandidate(c *candidate, name string) int { return strings.Compare(c.Name, name) }

func compareService(s *corev1.Service, key string) int {
	namespace, name, _ := strings.Cut(key, "/")
	if c := strings.Compare(s.Namespace, namespace); c != 0 {
		return c
	}
	return strings.Compare(s.Name, name)
}

// compareKeys orders keys as Objects orders services: "a-b/x" after "a/x".
func compareKeys(a, b string) int {
	aspace, aname, _ := strings.Cut(a, "/")
	bspace, bname, _ := strings.Cut(b, "/")
	if c := strings.Compare(aspace, bspace); c != 0 {
		return c
	}
	return strings.Compare(aname, bname)
}
