package nodeselect

import (
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// updating is one Update of a Tracker.
type updating struct {
	*Tracker
	dirty   map[*declared]bool // whose targets have to be made anew; true: the subset, too
	touched map[string]bool    // services whose targets or problems have changed
}

// declare takes other refs. Services that are still declared keep their subsets.
func (u *updating) declare(refs []Ref) {
	before := u.declared
	answers := make(map[Ref]answer, len(u.refs))
	for i, ref := range u.refs {
		answers[ref] = u.answers[i]
	}
	u.refs = slices.Clone(refs)
	u.answers = make([]answer, len(refs))
	u.declared = make(map[string]*declared, len(refs))
	u.order = nil
	for i, ref := range refs {
		key := ref.Key()
		d := u.declared[key]
		if d == nil {
			if d = before[key]; d != nil {
				d.refs = d.refs[:0]
			} else {
				d = &declared{key: key, subset: subset{nodes: u.initial[key]}}
			}
			u.declared[key] = d
			u.order = append(u.order, d)
			u.resolveAgain(d)
		}
		d.refs = append(d.refs, int32(i))
		u.answers[i] = answers[ref]
	}
	for _, ref := range refs {
		delete(answers, ref)
	}
	for ref := range answers {
		u.touched[ref.Key()] = true
	}
	for key, d := range before {
		if u.declared[key] == nil {
			u.use(d, nil)
		}
	}
	u.initial = nil
}

func (u *updating) resolveAgain(d *declared) {
	if _, ok := u.dirty[d]; !ok {
		u.dirty[d] = false
	}
}

func (u *updating) resolveKey(key string) {
	if d := u.declared[key]; d != nil {
		u.resolveAgain(d)
	}
}

func (u *updating) setServices(changes map[string]*corev1.Service) {
	if len(changes) == 0 {
		return
	}
	for key, svc := range changes {
		old := u.services[key]
		if svc != nil {
			u.services[key] = svc
		} else {
			delete(u.services, key)
		}
		u.claims.replace(old, svc, u.resolveKey)
		if d := u.declared[key]; d != nil {
			u.dirty[d] = u.dirty[d] || isLocal(old) != isLocal(svc)
		}
	}
	u.objects.Services = merge(u.objects.Services, changes, compareService, compareKeys)
}

func (u *updating) setReadyNodes(changes map[string][]string) {
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
		if d := u.declared[key]; d != nil && isLocal(u.services[key]) {
			u.dirty[d] = true
		}
	}
	u.objects.ReadyNodes = ready
	for key, d := range u.declared {
		if first && isLocal(u.services[key]) {
			u.dirty[d] = true
		}
	}
}

// setNodes takes changes of nodes and judges all of them as of now. It returns the
// names of those that are not what they were.
func (u *updating) setNodes(changes map[string]*corev1.Node, now time.Time) []string {
	var changed []string
	if len(changes) > 0 {
		candidates := make(map[string]*candidate, len(changes))
		for name, node := range changes {
			var now, before *candidate
			if i, found := slices.BinarySearchFunc(u.nodes, name, compareCandidate); found {
				before = u.nodes[i]
			}
			if node != nil {
				c := u.selector.candidate(node)
				now = &c
			}
			candidates[name] = now
			if before != nil && now != nil {
				now.verdict, now.reason = before.verdict, before.reason // judged below
				if now.same(before) {
					continue
				}
			} else if before == nil && now == nil {
				continue
			}
			changed = append(changed, name)
		}
		u.nodes = merge(u.nodes, candidates, compareCandidate, strings.Compare)
		u.objects.Nodes = merge(u.objects.Nodes, changes, compareNode, strings.Compare)
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
	u.pickAgain(before)
	return slices.Compact(changed)
}

// same is true if one is as good as the other for a pool, but for verdict and reason.
func (c *candidate) same(other *candidate) bool {
	return c.Node == other.Node && c.unreachable == other.unreachable &&
		c.source.CreationTimestamp.Equal(&other.source.CreationTimestamp)
}

// resolve makes targets anew where that is due.
func (u *updating) resolve() {
	for d, pick := range u.dirty {
		svc := u.services[d.key]
		d.local = isLocal(svc)
		answers := make([]answer, len(d.refs))
		resolved := false
		for i, r := range d.refs {
			answers[i].target, answers[i].problems = u.selector.Annotations.resolve(svc, u.refs[r])
			resolved = resolved || answers[i].target.NodePort != 0
		}
		switch {
		case resolved && (pick || !d.picked):
			s := u.pool.pickFor(svc, d.key, d.nodes, u.objects.ReadyNodes)
			u.use(d, &s)
			u.describe(d)
		case !resolved:
			u.use(d, nil)
		}
		for i, r := range d.refs {
			a := &answers[i]
			a.target, a.problems = finish(a.target, a.problems, d.subset, u.claims.lost[d.key])
			if !a.equal(&u.answers[r]) {
				u.touched[d.key] = true
			}
			u.answers[r] = *a
		}
	}
}

func (a *answer) equal(b *answer) bool {
	x, y := &a.target, &b.target
	return x.Ref == y.Ref && x.NodePort == y.NodePort && x.AgentPort == y.AgentPort && x.WeightPercent == y.WeightPercent &&
		slices.Equal(x.Nodes, y.Nodes) && slices.Equal(a.problems, b.problems)
}

// use gives d a subset, nil for none.
func (u *updating) use(d *declared, s *subset) {
	var before, after []Node
	if d.picked {
		before = d.nodes
	}
	if d.picked = s != nil; d.picked {
		d.subset, after = *s, s.nodes
	}
	for i := range before {
		if id := before[i].Identity; !hasIdentity(after, id, i) {
			list := u.users[id]
			last := len(list) - 1
			list[slices.Index(list, d)], list[last] = list[last], nil
			if last == 0 {
				delete(u.users, id)
			} else {
				u.users[id] = list[:last]
			}
		}
	}
	for i := range after {
		if id := after[i].Identity; !hasIdentity(before, id, i) {
			u.users[id] = append(u.users[id], d)
		}
	}
}

// hasIdentity looks for a node, near position i first.
func hasIdentity(nodes []Node, id string, i int) bool {
	for j := max(i-1, 0); j < min(i+2, len(nodes)); j++ {
		if nodes[j].Identity == id {
			return true
		}
	}
	return slices.ContainsFunc(nodes, func(n Node) bool { return n.Identity == id })
}
