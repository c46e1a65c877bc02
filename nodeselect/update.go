package nodeselect

import (
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

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

// setRefs replaces all refs. If old and new refs name the same service, its subset stays.
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

// setNodes stores changed nodes in u, and removes each node whose value is nil. Then it computes
// the verdict of each node in u at the time "now". It returns the sorted names of the nodes that
// have changed.
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
