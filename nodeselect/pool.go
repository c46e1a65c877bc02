package nodeselect

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/hashring"
)

// DefaultSize is how many nodes a service gets unless another number is set.
const DefaultSize = 20

// Identity says what a node is known by: what is hashed, and what tells whether
// it is still the same node.
type Identity uint8

const (
	// ByAddress: the address that the AddressPolicy chooses. A node that comes
	// back under its name with another address is another node, and so is what
	// the balancer has to be told.
	ByAddress Identity = iota
	// ByName: the node's name. Right where machines keep names and change
	// addresses.
	ByName
	// ByProviderID: spec.providerID, so that a machine put up anew under an old
	// name is a new node. A node without one goes by its name.
	ByProviderID
)

// Node is a node as far as traffic is concerned. Nodes are comparable.
type Node struct {
	Name string     `json:"name"`
	Addr netip.Addr `json:"addr"`
	Zone string     `json:"zone,omitempty"` // label topology.kubernetes.io/zone
	// Identity is what was hashed; see the type Identity.
	Identity string `json:"identity"`
}

// Finding is the reason why a node is not Eligible.
type Finding struct {
	Node    string  `json:"node"`
	Verdict Verdict `json:"verdict"`
	Reason  string  `json:"reason"`
}

// Selector holds the settings of a selection. The zero value is ready to use.
type Selector struct {
	// Size is how many nodes a service gets; 0 or less is DefaultSize. A service
	// gets all there are if they are fewer.
	Size int
	// Predicates judge nodes; nil is DefaultPredicates(). An empty slice that is
	// not nil judges none.
	Predicates []Predicate
	// Identity of a node; its address unless set.
	Identity Identity
	// Address chooses the address of a node.
	Address AddressPolicy
	// Spread takes nodes evenly from all zones, see hashring.Ring.Spread.
	Spread bool
	// Sticky keeps the nodes of the current subset as long as they are Eligible
	// or to Avoid, even where a node of better rank has come. A service then
	// changes a node only because it lost one: nodes that join disturb nobody.
	// The price is that subsets depend on history, so that the current ones must
	// be stored and shared, and that new nodes stay empty until old ones leave;
	// zones, too, are balanced only as places fall free.
	Sticky bool
	// Annotations names the annotations that Select reads.
	Annotations Annotations
	// Reserved are ports of nodes that Select gives to no service's agent: the
	// port of the node agent itself, first of all. They must be the ones that
	// the agents reserve.
	Reserved []uint16
}

func (s Selector) size() int {
	if s.Size <= 0 {
		return DefaultSize
	}
	return s.Size
}

// Pool is the nodes of a cluster, judged and ready to be picked from. It never
// changes and may be used by any number of goroutines.
type Pool struct {
	size   int
	spread bool
	sticky bool

	members  []member                     // those that may be picked, by name
	index    map[string]int32             // of members, by identity
	rings    [Excluded + 1]*hashring.Ring // by verdict
	findings []Finding                    // by node name
	problems []Problem

	avoidable map[string]int // number of nodes to Avoid by zone
}

type member struct {
	Node
	verdict Verdict
}

// Pool judges nodes as of now. It reads no clock: what a predicate says of a
// node depends on the arguments alone.
func (s Selector) Pool(nodes []*corev1.Node, now time.Time) *Pool {
	predicates := s.predicates()
	all := make([]candidate, len(nodes))
	candidates := make([]*candidate, len(nodes))
	for i, n := range nodes {
		all[i] = s.candidate(n)
		all[i].judge(predicates, now)
		candidates[i] = &all[i]
	}
	return s.pool(candidates)
}

func (s Selector) predicates() []Predicate {
	if s.Predicates == nil {
		return DefaultPredicates()
	}
	return s.Predicates
}

// pool makes a pool of nodes that have been judged. It changes no candidate.
func (s Selector) pool(candidates []*candidate) *Pool {
	p := &Pool{size: s.size(), spread: s.Spread, sticky: s.Sticky, index: make(map[string]int32, len(candidates))}
	// Of several nodes with one identity the best is kept.
	kept := make([]*candidate, 0, len(candidates))
	var others []*candidate
	for _, c := range candidates {
		if c.unreachable != "" {
			p.findings = append(p.findings, Finding{Node: c.Name, Verdict: Unusable, Reason: c.unreachable})
			continue
		}
		i, taken := p.index[c.Identity]
		switch {
		case !taken:
			p.index[c.Identity] = int32(len(kept))
			kept = append(kept, c)
		case better(c, kept[i]) < 0:
			others = append(others, kept[i])
			kept[i] = c
		default:
			others = append(others, c)
		}
	}
	for _, c := range others {
		reason := fmt.Sprintf("node %s has the same identity %s", kept[p.index[c.Identity]].Name, c.Identity)
		p.findings = append(p.findings, Finding{Node: c.Name, Verdict: Unusable, Reason: reason})
		p.problems = append(p.problems, Problem{Object: nodeObject(c.source), Message: reason})
	}
	p.members = make([]member, 0, len(kept))
	for _, c := range kept {
		if c.verdict != Eligible {
			p.findings = append(p.findings, Finding{Node: c.Name, Verdict: c.verdict, Reason: c.reason})
		}
		if c.verdict >= Unusable {
			delete(p.index, c.Identity)
			continue
		}
		p.members = append(p.members, c.member)
	}
	slices.SortFunc(p.members, member.compare)
	p.arrange()
	slices.SortStableFunc(p.findings, func(a, b Finding) int { return strings.Compare(a.Node, b.Node) })
	slices.SortStableFunc(p.problems, func(a, b Problem) int { return strings.Compare(a.Object, b.Object) })
	p.warnOfFallback()
	return p
}

// arrange makes index and rings of members, which are sorted.
func (p *Pool) arrange() {
	var byVerdict [Excluded + 1][]hashring.Node
	byVerdict[Eligible] = make([]hashring.Node, 0, len(p.members))
	for i := range p.members {
		m := &p.members[i]
		p.index[m.Identity] = int32(i)
		byVerdict[m.verdict] = append(byVerdict[m.verdict], m.ringNode())
	}
	for v, nodes := range byVerdict {
		p.rings[v] = newRing(nodes)
	}
	p.avoidable = make(map[string]int)
	for _, n := range byVerdict[Avoid] {
		p.avoidable[p.zone(n)]++
	}
}

// among returns the pool of those members that names has, nil if there are none.
// names is sorted.
func (p *Pool) among(names []string) *Pool {
	some := &Pool{size: p.size, spread: p.spread, sticky: p.sticky, index: make(map[string]int32, len(names))}
	for _, name := range names {
		i, _ := slices.BinarySearchFunc(p.members, name, func(m member, name string) int { return strings.Compare(m.Name, name) })
		for ; i < len(p.members) && p.members[i].Name == name; i++ {
			some.members = append(some.members, p.members[i])
		}
	}
	if len(some.members) == 0 {
		return nil
	}
	some.arrange()
	return some
}

func (s Selector) identity(n *corev1.Node, addr netip.Addr) string {
	switch s.Identity {
	case ByProviderID:
		if id := n.Spec.ProviderID; id != "" {
			return id
		}
		return n.Name
	case ByName:
		return n.Name
	default:
		return addr.String()
	}
}

// candidate is a node with what is known of it.
type candidate struct {
	member
	reason      string // unless the verdict is Eligible
	unreachable string // why it has no address or identity; "" if it has
	source      *corev1.Node
}

func (s Selector) candidate(n *corev1.Node) candidate {
	c := candidate{source: n}
	c.Name = n.Name
	addr, err := s.Address.Choose(n)
	if err != nil {
		c.unreachable = err.Error()
		return c
	}
	c.Node = Node{Name: n.Name, Addr: addr, Zone: n.Labels[corev1.LabelTopologyZone], Identity: s.identity(n, addr)}
	if c.Identity == "" {
		c.unreachable = "neither a name nor a provider ID to know it by"
	}
	return c
}

// judge says whether verdict or reason are others than before.
func (c *candidate) judge(predicates []Predicate, now time.Time) bool {
	verdict, reason := judge(predicates, c.source, now)
	if verdict == c.verdict && reason == c.reason {
		return false
	}
	c.verdict, c.reason = verdict, reason
	return true
}

// better says which of two nodes with one identity to keep, the first if it is negative: by verdict, then the one created last (the
// object of a machine that is gone lingers while its address already serves
// another), then by name.
func better(a, b *candidate) int {
	return cmp.Or(
		cmp.Compare(a.verdict, b.verdict),
		b.source.CreationTimestamp.Compare(a.source.CreationTimestamp.Time),
		strings.Compare(a.Name, b.Name),
	)
}

func (m member) compare(other member) int {
	return cmp.Or(strings.Compare(m.Name, other.Name), strings.Compare(m.Identity, other.Identity))
}

func (n Node) ringNode() hashring.Node {
	return hashring.Node{Name: n.Identity, Zone: n.Zone}
}

// newRing makes a ring of nodes whose names are known to be unique.
func newRing(nodes []hashring.Node) *hashring.Ring {
	r, err := hashring.New(nodes...)
	if err != nil {
		panic("nodeselect: " + err.Error())
	}
	return r
}

// warnOfFallback says, once for the pool, that subsets hold nodes they should
// not hold.
func (p *Pool) warnOfFallback() {
	eligible, avoid, excluded := p.rings[Eligible].Len(), p.rings[Avoid].Len(), p.rings[Excluded].Len()
	message := ""
	switch {
	case eligible+avoid+excluded == 0:
		p.problems = append(p.problems, Problem{Message: "no node can be used: every subset is empty"})
		return
	case eligible+avoid == 0:
		message = fmt.Sprintf("no node is eligible: %d excluded ones are used, since an empty subset would serve nobody", min(p.size, excluded))
	case avoid > 0 && eligible < p.size:
		message = fmt.Sprintf("%d nodes are eligible for subsets of %d: nodes to avoid are used too", eligible, p.size)
	default:
		return
	}
	p.problems = append(p.problems, Problem{Message: message, Warning: true})
}

// Findings gives the reason for every node that is not Eligible, by node name.
// The caller must not change the slice.
func (p *Pool) Findings() []Finding { return p.findings }

// Problems gives the nodes that share their identity with another, and a warning
// if signals had to be overruled to fill the subsets. The caller must not change
// the slice.
func (p *Pool) Problems() []Problem { return p.problems }
