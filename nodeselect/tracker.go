package nodeselect

import (
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Tracker keeps a Selection up to date while a cluster changes. Each Update returns the same
// Selection as a call of Selector.Select for all received objects, with the last subsets of the
// Tracker as the argument "current". It resolves and picks again only for services that the change
// may affect.
//
// Only one goroutine may call Update at a time. Neither the Tracker nor the caller may change the
// returned values.
type Tracker struct {
	selector   Selector
	predicates []Predicate

	objects    Objects
	agentPorts *agentPorts
	nodes      []*candidate // sorted by name
	pool       *Pool

	refs        []Ref
	resolutions []resolution        // one for each ref
	services    map[string]*service // the services that refs name, by Ref.Key
	order       []*service          // the same services, in the order of the refs
	initial     Subsets             // the caller's current subsets, until the first refs are known

	selection Selection
}

// resolution is the result for one ref.
type resolution struct {
	target   Target // NodePort is 0 if the ref cannot be resolved
	problems []Problem
}

// service is the state of one Kubernetes service. At least one Ref of the Tracker names a port of
// this service.
type service struct {
	key  string
	refs []int32 // positions in Tracker.refs
	// subset holds the nodes that the last pick chose for the service. The next pick needs these
	// nodes as the current nodes. So they stay here even while the service has none of the ports
	// that the refs name.
	subset
	picked bool // the field subset has the result of a pick
	local  bool // externalTrafficPolicy is Local

	stale  bool // the refs must be resolved again
	repick bool // the subset must be picked again, too

	described bool       // the fields below are set; see the method describe
	excluded  bool       // the subset has Excluded nodes, because there were no others
	last      []zoneLast // the node that ranks last in each zone
}

// subset is the result of a pick for one service.
type subset struct {
	nodes      []Node
	restricted bool    // Pick chose only among nodes with a ready pod
	warning    Problem // zero for no warning
	// otherFamily is true if the service has only one IP family, and not every usable node has its
	// address in this family. The subset was then chosen among the nodes with an address in this
	// family.
	otherFamily bool
}

// NewTracker returns a Tracker without objects. current contains the nodes that each service uses
// now, as for Select; nil means unknown. The Tracker reads current at the first Update with refs,
// and does not copy it, so the caller must not change it.
func NewTracker(s Selector, current Subsets) *Tracker {
	t := &Tracker{
		selector: s, predicates: s.predicates(),
		agentPorts: newAgentPorts(s.Annotations, s.Reserved),
		services:   map[string]*service{},
		initial:    current,
	}
	t.pool = s.pool(nil)
	t.assemble()
	return t
}

// Objects returns the objects of the cluster.
func (t *Tracker) Objects() Objects { return t.objects }

// Refs returns the service ports for which the Tracker chooses nodes.
func (t *Tracker) Refs() []Ref { return t.refs }

// Delta is a change of a cluster's objects. The zero Delta means that no object has changed.
type Delta struct {
	Nodes    map[string]*corev1.Node    // by name; nil if the node is deleted
	Services map[string]*corev1.Service // by Ref.Key; nil if the service is deleted
	// ReadyNodes has the changed services of Objects.ReadyNodes, each with its new list of nodes.
	// An empty list means that the service has no ready pod. A nil map changes nothing. An empty
	// map changes no list, but turns a nil Objects.ReadyNodes (unknown) into an empty map (known).
	ReadyNodes map[string][]string
	// Refs replace all refs of the Tracker. nil means no change.
	Refs []Ref
}

// Changed names the nodes and services whose part of the Selection an Update has changed. It is for
// logs. If Changed is zero, the Selection is the same as before the Update.
type Changed struct {
	// Nodes are the names of nodes that are new or deleted, or whose verdict, reason, address or
	// identity has changed.
	Nodes []string `json:"nodes,omitempty"`
	// Services lists the services for which the update has changed a target or a problem, as
	// "namespace/name".
	Services []string `json:"services,omitempty"`
}

// IsZero reports whether nothing has changed.
func (c Changed) IsZero() bool { return len(c.Nodes)+len(c.Services) == 0 }

// Update applies the change d, and computes the verdict of each node at the time now. It returns
// the new Selection, and which parts of it have changed. The Tracker keeps the objects in d; the
// caller must not change them later.
func (t *Tracker) Update(d Delta, now time.Time) (Selection, Changed) {
	u := update{Tracker: t}
	if d.Refs != nil {
		u.setRefs(d.Refs)
	}
	u.setServices(d.Services)
	u.setReadyNodes(d.ReadyNodes)
	nodes := u.setNodes(d.Nodes, now)
	u.resolve()
	slices.Sort(u.touched)
	changed := Changed{Nodes: nodes, Services: slices.Compact(u.touched)}
	if !changed.IsZero() || d.Refs != nil {
		t.assemble()
	}
	return t.selection, changed
}

// load makes the first Selection of a new Tracker, from all objects of a cluster.
func (t *Tracker) load(objects Objects, refs []Ref, now time.Time) {
	t.objects = objects
	t.agentPorts.addAll(objects.Services)
	t.pool = t.selector.Pool(objects.Nodes, now)
	u := update{Tracker: t}
	u.setRefs(refs)
	u.resolve()
	t.assemble()
}

// assemble makes the Selection from the findings and problems of the pool and the result for each
// ref.
func (t *Tracker) assemble() {
	s := Selection{
		Targets:  make([]Target, 0, len(t.resolutions)),
		Findings: t.pool.findings,
		Problems: slices.Clone(t.pool.problems),
	}
	s.Problems = append(s.Problems, t.agentPorts.nodePortProblems()...)
	var seen map[Problem]bool
	for i := range t.resolutions {
		r := &t.resolutions[i]
		for _, p := range r.problems {
			if seen == nil {
				seen = map[Problem]bool{}
			}
			if !seen[p] {
				seen[p] = true
				s.Problems = append(s.Problems, p)
			}
		}
		if r.target.NodePort != 0 {
			s.Targets = append(s.Targets, r.target)
		}
	}
	t.selection = s
}

// merge applies changes to a sorted list and returns a new list. It adds or replaces the object of
// each key in changes, and removes the object of a key whose value is nil. compareKey compares an
// object with a key; compareKeys compares two keys in the same order.
func merge[K comparable, T any](list []*T, changes map[K]*T, compareKey func(*T, K) int, compareKeys func(a, b K) int) []*T {
	keys := make([]K, 0, len(changes))
	for key := range changes {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, compareKeys)
	merged := make([]*T, 0, len(list)+len(keys))
	for _, key := range keys {
		n, found := slices.BinarySearchFunc(list, key, compareKey)
		merged = append(merged, list[:n]...)
		list = list[n:]
		if found {
			list = list[1:]
		}
		if object := changes[key]; object != nil {
			merged = append(merged, object)
		}
	}
	return append(merged, list...)
}

func compareNode(n *corev1.Node, name string) int { return strings.Compare(n.Name, name) }

func compareCandidate(c *candidate, name string) int { return strings.Compare(c.Name, name) }

func compareService(s *corev1.Service, key string) int {
	namespace, name, _ := strings.Cut(key, "/")
	if c := strings.Compare(s.Namespace, namespace); c != 0 {
		return c
	}
	return strings.Compare(s.Name, name)
}

// compareKeys compares two keys "namespace/name" by namespace, and then by name. As whole strings,
// "a-b/x" would come before "a/x".
func compareKeys(a, b string) int {
	aspace, aname, _ := strings.Cut(a, "/")
	bspace, bname, _ := strings.Cut(b, "/")
	if c := strings.Compare(aspace, bspace); c != 0 {
		return c
	}
	return strings.Compare(aname, bname)
}

// update is the state of one Tracker.Update.
type update struct {
	*Tracker
	stale   []*service // services with stale set
	touched []string   // keys of services whose targets or problems have changed
}

// mark notes that the update must resolve the refs of the service s again. If repick is true, it
// must also choose the nodes of s again. If s is nil, mark does nothing.
func (u *update) mark(s *service, repick bool) {
	if s == nil {
		return
	}
	if !s.stale {
		s.stale = true
		u.stale = append(u.stale, s)
	}
	s.repick = s.repick || repick
}

// setRefs replaces all refs. If an old ref and a new ref name the same service, the service keeps
// its subset, the nodes that were chosen for it.
func (u *update) setRefs(refs []Ref) {
	before := u.services
	resolutions := make(map[Ref]resolution, len(u.refs))
	for i, ref := range u.refs {
		resolutions[ref] = u.resolutions[i]
	}
	u.refs = slices.Clone(refs)
	u.resolutions = make([]resolution, len(refs))
	u.services = make(map[string]*service, len(refs))
	u.order = nil
	// Allocate all new services together, and all their lists of refs together. Each list has room
	// for one ref, which is enough for most services.
	added, positions := make([]service, 0, len(refs)), make([]int32, len(refs))
	for i, ref := range refs {
		key := ref.Key()
		s := u.services[key]
		if s == nil {
			if s = before[key]; s != nil {
				s.refs = s.refs[:0]
			} else {
				added = append(added, service{key: key, refs: positions[i : i : i+1], subset: subset{nodes: u.initial[key]}})
				s = &added[len(added)-1]
			}
			u.services[key] = s
			u.order = append(u.order, s)
			u.mark(s, false)
		}
		s.refs = append(s.refs, int32(i))
		u.resolutions[i] = resolutions[ref]
	}
	for _, ref := range refs {
		delete(resolutions, ref)
	}
	for ref := range resolutions {
		u.touched = append(u.touched, ref.Key())
	}
	u.initial = nil
}

func (u *update) setServices(changes map[string]*corev1.Service) {
	if len(changes) == 0 {
		return
	}
	for key, svc := range changes {
		old := u.objects.serviceOf(key)
		u.agentPorts.replace(old, svc, func(key string) { u.mark(u.services[key], false) })
		u.mark(u.services[key], isLocal(old) != isLocal(svc) || familyOf(old) != familyOf(svc))
		if !slices.Equal(u.agentPorts.conflicts(old), u.agentPorts.conflicts(svc)) {
			u.touched = append(u.touched, key)
		}
	}
	u.objects.Services = merge(u.objects.Services, changes, compareService, compareKeys)
}

func (u *update) setReadyNodes(changes map[string][]string) {
	if changes == nil {
		return
	}
	first := u.objects.ReadyNodes == nil
	ready := make(map[string][]string, len(u.objects.ReadyNodes)+len(changes))
	maps.Copy(ready, u.objects.ReadyNodes)
	for key, nodes := range changes {
		if len(nodes) > 0 {
			ready[key] = nodes
		} else {
			delete(ready, key)
		}
		if isLocal(u.objects.serviceOf(key)) {
			u.mark(u.services[key], true)
		}
	}
	u.objects.ReadyNodes = ready
	if !first {
		return
	}
	for _, s := range u.order {
		if isLocal(u.objects.serviceOf(s.key)) {
			u.mark(s, true)
		}
	}
}

// setNodes stores the nodes of changes in u. If the value of a name is nil, setNodes removes the
// node. Then it computes the verdict of each node in u, the result of the Predicate, at the time
// "now". It returns the sorted names of the nodes that have changed.
func (u *update) setNodes(changes map[string]*corev1.Node, now time.Time) []string {
	var changed []string
	if len(changes) > 0 {
		candidates := make(map[string]*candidate, len(changes))
		before := make(map[string]*candidate, len(changes))
		for name, node := range changes {
			candidates[name] = nil
			i, found := slices.BinarySearchFunc(u.nodes, name, compareCandidate)
			if found {
				before[name] = u.nodes[i]
			}
			if node == nil {
				continue
			}
			c := u.selector.candidate(node)
			if found {
				c.verdict, c.reason = u.nodes[i].verdict, u.nodes[i].reason // judged below
			}
			candidates[name] = &c
		}
		u.nodes = merge(u.nodes, candidates, compareCandidate, strings.Compare)
		u.objects.Nodes = merge(u.objects.Nodes, changes, compareNode, strings.Compare)
		for _, c := range u.selector.separate(u.nodes) {
			if candidates[c.Name] == nil {
				changed = append(changed, c.Name)
			}
		}
		for name, c := range candidates {
			if b := before[name]; c != b && (c == nil || b == nil || !c.same(b)) {
				changed = append(changed, name)
			}
		}
	}
	for _, c := range u.nodes {
		if c.judge(u.predicates, now) {
			changed = append(changed, c.Name)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	slices.Sort(changed)
	before := u.pool
	u.pool = u.selector.pool(u.nodes)
	u.markAffected(before)
	return slices.Compact(changed)
}

// The method "same" reports whether c and other have the same values in all fields that a pool
// reads, except verdict and reason.
func (c *candidate) same(other *candidate) bool {
	return c.Node == other.Node && c.other == other.other && c.unreachable == other.unreachable && c.shared == other.shared &&
		c.source.CreationTimestamp.Equal(&other.source.CreationTimestamp)
}

// resolve resolves the refs of all services that the method "mark" has marked, and chooses new
// nodes for those services that need it.
func (u *update) resolve() {
	var results []resolution
	for _, s := range u.stale {
		svc := u.objects.serviceOf(s.key)
		s.local = isLocal(svc)
		results = results[:0]
		resolved := false
		for _, i := range s.refs {
			var r resolution
			r.target, r.problems = u.selector.Annotations.resolve(svc, u.refs[i])
			resolved = resolved || r.target.NodePort != 0
			results = append(results, r)
		}
		switch {
		case resolved && (s.repick || !s.picked):
			s.subset = u.pool.pickFor(svc, s.key, s.nodes, u.objects.ReadyNodes)
			s.picked, s.described = true, false
		case !resolved:
			s.picked = false
		}
		for n, i := range s.refs {
			r := &results[n]
			r.complete(s.subset, u.agentPorts.problems[s.key])
			if !r.equal(&u.resolutions[i]) {
				u.touched = append(u.touched, s.key)
			}
			u.resolutions[i] = *r
		}
		s.stale, s.repick = false, false
	}
	u.stale = nil
}

// complete adds the nodes of the service to the target. If the ref of the target could not be
// resolved, complete does nothing.
//
// portProblem is the reason why the service does not get its agent port, or zero. If it is not
// zero, complete removes the agent port from the target, and adds portProblem as a warning.
func (r *resolution) complete(s subset, portProblem Problem) {
	if r.target.NodePort == 0 {
		return
	}
	if s.warning != (Problem{}) {
		r.problems = append([]Problem{s.warning}, r.problems...)
	}
	if portProblem != (Problem{}) && r.target.AgentPort != 0 {
		r.problems = append(r.problems, asWarning(portProblem, ""))
		r.target.AgentPort = 0
	}
	r.target.Nodes = s.nodes
}

func (r *resolution) equal(other *resolution) bool {
	x, y := &r.target, &other.target
	return x.Ref == y.Ref && x.NodePort == y.NodePort && x.AgentPort == y.AgentPort && x.WeightPercent == y.WeightPercent && x.AppProtocol == y.AppProtocol &&
		slices.Equal(x.Nodes, y.Nodes) && slices.Equal(r.problems, other.problems)
}
