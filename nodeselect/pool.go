package nodeselect

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/hashring"
)

// DefaultSize is the default number of nodes of a service.
const DefaultSize = 20

// Identity chooses the property that identifies a node. If two nodes have the same value of this
// property, the package treats them as the same node. The hash of a node is the hash of this value.
type Identity uint8

const (
	// ByAddress identifies a node by the address that AddressPolicy chooses. If a machine gets a
	// new address, the package treats it as another node, as the balancer does.
	ByAddress Identity = iota
	// ByName identifies a node by its name. Use it for machines that keep their names and change
	// their addresses.
	ByName
	// ByProviderID identifies a node by spec.providerID, and by its name if that field is empty. A
	// new machine with the name of an old one is another node.
	ByProviderID
)

// Node has the properties of a Kubernetes node that matter for traffic. Nodes can be compared with
// ==.
type Node struct {
	Name string     `json:"name"`
	Addr netip.Addr `json:"addr"`
	Zone string     `json:"zone,omitempty"` // label topology.kubernetes.io/zone
	// Identity is the value of the property that identifies the node; see type Identity.
	Identity string `json:"identity"`
	// Weight says how many requests the node should get, in proportion to the Weights of the other
	// nodes of the same service. It is 1 or more if Selector.LocalWeights sets it. 0 means that all
	// nodes of the service get the same number.
	Weight int `json:"weight,omitempty"`
}

// Finding explains why a node is not Eligible.
type Finding struct {
	Node    string  `json:"node"`
	Verdict Verdict `json:"verdict"`
	Reason  string  `json:"reason"`
}

// Selector holds the settings of a selection. The zero value is ready to use.
type Selector struct {
	// Size is the number of nodes for each service. 0 or less means DefaultSize. If the cluster has
	// fewer nodes, each service gets all of them.
	Size int
	// Predicates judge nodes. nil means DefaultPredicates(). If the slice is empty but not nil, all
	// nodes are Eligible.
	Predicates []Predicate
	// Identity chooses the property by which the Selector identifies a node. The zero value is
	// ByAddress.
	Identity Identity
	// Address chooses the address of a node.
	Address AddressPolicy
	// Spread makes Select choose the same number of nodes from each zone, as far as possible; see
	// hashring.Ring.Spread. A node without a zone label belongs to one of the zones, by its
	// identity. The nodes of a small zone get more services than the nodes of a large zone.
	Spread bool
	// AllLocal makes Select pick all nodes with a ready pod for a service with
	// externalTrafficPolicy Local, even if they are more than Size. Without AllLocal, pods on nodes
	// outside the subset get no traffic, and a Selection has a warning.
	AllLocal bool
	// LocalWeights makes Select set Node.Weight for a service with externalTrafficPolicy Local, in
	// proportion to the ready pods of the node: such a node sends its requests only to its own
	// pods. It needs Objects.ReadyNodes.
	//
	// If the argument "current" of Select has weights for the same nodes, Select keeps them until
	// some pod would get over 25% more or less than its share. So most changes of the number of
	// pods change no weight.
	LocalWeights bool
	// Sticky makes Select keep the present nodes of a service while they are Eligible or avoided,
	// so a node that joins changes no subset.
	//
	// But subsets then depend on history, and a program must store them and share them with other
	// processes. A new node gets no traffic until an old node leaves. Unbalanced zones become
	// balanced only as places become free.
	Sticky bool
	// Annotations defines the names of the annotations that Select reads.
	Annotations Annotations
	// Reserved are ports that Select never uses as the agent port of a service, such as the port of
	// the node's own agent. The agents on the nodes must reserve the same ports.
	//
	// If a node port of a Service is a reserved port, or a port of Kubernetes itself, the Selection
	// has a warning.
	Reserved []uint16
}

// Pool holds the nodes of a cluster with their verdicts, for Pick. It is immutable, so any number
// of goroutines may use it.
type Pool struct {
	size     int
	spread   bool
	sticky   bool
	allLocal bool
	weights  bool // Selector.LocalWeights

	members  []member                     // the nodes that Pick may choose, sorted by name
	index    map[string]int32             // index in members, by Node.Identity
	rings    [Excluded + 1]*hashring.Ring // the members with each verdict
	findings []Finding                    // sorted by node name
	problems []Problem

	avoidable map[string]int // number of avoided nodes in each zone
	family    ipFamily       // the family of the addresses of all members; anyFamily if the addresses have different families
	ofFamily  [2]func() *Pool
}

type member struct {
	Node
	verdict Verdict
	zone    string     // the zone to which Spread assigns the node; see countZones
	other   netip.Addr // an address of the family that Addr does not have; invalid if there is none
}

// Pool computes the verdicts of the nodes, and returns the nodes with their verdicts. The argument
// "now" is the present time, on which a verdict may depend.
func (s Selector) Pool(nodes []*corev1.Node, now time.Time) *Pool {
	predicates := s.predicates()
	all := make([]candidate, len(nodes))
	candidates := make([]*candidate, len(nodes))
	for i, n := range nodes {
		all[i] = s.candidate(n)
		all[i].judge(predicates, now)
		candidates[i] = &all[i]
	}
	s.separate(candidates)
	return s.pool(candidates)
}

func (s Selector) predicates() []Predicate {
	if s.Predicates == nil {
		return DefaultPredicates()
	}
	return s.Predicates
}

// pool returns a Pool of candidates that already have verdicts. It does not change the candidates.
func (s Selector) pool(candidates []*candidate) *Pool {
	p := &Pool{size: cmp.Or(max(s.Size, 0), DefaultSize), spread: s.Spread, sticky: s.Sticky, allLocal: s.AllLocal, weights: s.LocalWeights, index: make(map[string]int32, len(candidates))}
	// If several nodes have the same identity, use only the one that comparePreference prefers.
	chosen := make([]*candidate, 0, len(candidates))
	var duplicates []*candidate
	for _, c := range candidates {
		if c.unreachable != "" {
			p.findings = append(p.findings, Finding{Node: c.Name, Verdict: Unusable, Reason: c.unreachable})
			if c.special != "" {
				p.problems = append(p.problems, Problem{Object: nodeObject(c.source), Field: AddressField, Message: c.special + "; the node is not used"})
			}
			continue
		}
		i, taken := p.index[c.Identity]
		switch {
		case !taken:
			p.index[c.Identity] = int32(len(chosen))
			chosen = append(chosen, c)
		case comparePreference(c, chosen[i]) < 0:
			duplicates = append(duplicates, chosen[i])
			chosen[i] = c
		default:
			duplicates = append(duplicates, c)
		}
	}
	for _, c := range duplicates {
		reason := fmt.Sprintf("node %s has the same identity %s", chosen[p.index[c.Identity]].Name, c.Identity)
		p.findings = append(p.findings, Finding{Node: c.Name, Verdict: Unusable, Reason: reason})
		p.problems = append(p.problems, Problem{Object: nodeObject(c.source), Message: reason})
	}
	p.members = make([]member, 0, len(chosen))
	for _, c := range chosen {
		if c.verdict != Eligible {
			p.findings = append(p.findings, Finding{Node: c.Name, Verdict: c.verdict, Reason: c.reason})
		}
		if c.verdict >= Unusable {
			delete(p.index, c.Identity)
			continue
		}
		if c.special != "" {
			p.problems = append(p.problems, Problem{Object: nodeObject(c.source), Field: AddressField, Message: c.special, Warning: true})
		}
		if c.shared != "" {
			p.problems = append(p.problems, Problem{Object: nodeObject(c.source), Field: AddressField, Message: c.shared, Warning: true})
		}
		p.members = append(p.members, c.member)
	}
	slices.SortFunc(p.members, member.compare)
	zoneWarning := p.countZones()
	p.arrange()
	slices.SortStableFunc(p.findings, func(a, b Finding) int { return strings.Compare(a.Node, b.Node) })
	slices.SortStableFunc(p.problems, func(a, b Problem) int { return strings.Compare(a.Object, b.Object) })
	p.warnOfFallback()
	if zoneWarning != "" {
		p.problems = append(p.problems, Problem{Message: zoneWarning, Warning: true})
	}
	return p
}

// arrange computes the fields of p that follow from p.members: index, rings and avoidable.
// p.members must be sorted.
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
	p.findFamily()
}

// The method "among" returns a pool that has only the members with these names. If no member has
// such a name, it returns nil. The argument "names" must be sorted, and may contain a name several
// times.
func (p *Pool) among(names []string) *Pool {
	some := &Pool{size: p.size, spread: p.spread, sticky: p.sticky, index: make(map[string]int32, len(names))}
	for k, name := range names {
		if k > 0 && name == names[k-1] {
			continue
		}
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

// candidate is a node with its Verdict, which says whether the node may enter subsets. A Pool
// contains the usable candidates, at most one for each identity.
type candidate struct {
	member
	reason      string // reason for the verdict; "" if Eligible
	unreachable string // why the node has no address or no identity; "" if it has both
	shared      string // a warning about addresses that other nodes have too; "" if there is none
	special     string // the problem of an address in a special range; "" if there is none
	source      *corev1.Node
	// addrs contains the usable addresses of the node that have the family and type of Addr. others
	// contains its usable addresses of the other family. If several nodes share an address, the
	// method "separate" chooses another address from these lists. If neither list would have more
	// than one address, both fields are nil.
	addrs, others []netip.Addr
}

// AddressField is the value of Problem.Field if the problem is the address of a node.
const AddressField = "status.addresses"

func (s Selector) candidate(n *corev1.Node) candidate {
	c := candidate{source: n}
	c.Name = n.Name
	addr, err := s.Address.Choose(n)
	if err != nil {
		c.unreachable = err.Error()
		var special *specialError
		if errors.As(err, &special) {
			c.special = special.Error()
		}
		return c
	}
	c.zone = n.Labels[corev1.LabelTopologyZone]
	c.Node = Node{Name: n.Name, Zone: c.zone}
	c.addrs, c.others = s.Address.alternatives(n, addr)
	if len(c.others) > 0 {
		c.other = c.others[0]
	}
	if len(c.addrs) < 2 && len(c.others) < 2 {
		c.addrs, c.others = nil, nil
	}
	s.setAddr(&c, addr)
	if c.Identity == "" {
		c.unreachable = "neither a name nor a provider ID to know it by"
	}
	return c
}

// judge computes the verdict and the reason of the candidate, and reports whether one of the two
// has changed. The argument "now" is the present time, which the predicates get.
func (c *candidate) judge(predicates []Predicate, now time.Time) bool {
	verdict, reason := judge(predicates, c.source, now)
	if verdict == c.verdict && reason == c.reason {
		return false
	}
	c.verdict, c.reason = verdict, reason
	return true
}

// comparePreference orders nodes with the same identity (by default, the same address). Only the
// first of them can get traffic. The order is by verdict, then by age with the newest node first,
// and then by name.
//
// The reason for the order by age is that the Node object of a removed machine still exists for a
// while when another machine gets its address.
func comparePreference(a, b *candidate) int {
	return cmp.Or(
		cmp.Compare(a.verdict, b.verdict),
		b.source.CreationTimestamp.Compare(a.source.CreationTimestamp.Time),
		strings.Compare(a.Name, b.Name),
	)
}

func (m member) compare(other member) int {
	return cmp.Or(strings.Compare(m.Name, other.Name), strings.Compare(m.Identity, other.Identity))
}

// setAddr sets the address of a candidate, and the fields that depend on the address.
func (s Selector) setAddr(c *candidate, addr netip.Addr) {
	c.Addr, c.Identity, c.special = addr, s.identity(c.source, addr), s.Address.warning(addr)
}

func (m *member) ringNode() hashring.Node {
	return hashring.Node{Name: m.Identity, Zone: m.zone}
}

// newRing returns a ring of nodes. Their names must be unique.
func newRing(nodes []hashring.Node) *hashring.Ring {
	r, err := hashring.New(nodes...)
	if err != nil {
		panic("nodeselect: " + err.Error())
	}
	return r
}

// warnOfFallback adds a problem if no service gets a node. It adds a warning if subsets contain
// nodes that are not Eligible, because too few nodes are Eligible.
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

// Findings returns, for each node that is not Eligible, the verdict and its reason, sorted by node
// name. The caller must not change the slice.
func (p *Pool) Findings() []Finding { return p.findings }

// Problems returns a problem for each node that the Pool does not use because another node has the
// same identity (by default, the same address). It also returns a warning if subsets contain nodes
// that are not Eligible. The caller must not change the slice.
func (p *Pool) Problems() []Problem { return p.problems }

// ipFamily is an IP family: the only family of a service, or the family of the addresses that a
// pool has for its nodes.
type ipFamily uint8

const (
	anyFamily ipFamily = iota
	onlyIPv4
	onlyIPv6
)

func (f ipFamily) String() string { return [...]string{"IP", "IPv4", "IPv6"}[f] }

func familyOfAddr(addr netip.Addr) ipFamily {
	if addr.Is4() {
		return onlyIPv4
	}
	return onlyIPv6
}

// familyOf returns the IP family of a service that has only one family. kube-proxy opens a node
// port only for the families of the service. If the service has two families, or none (as in a
// hand-written manifest), familyOf returns anyFamily.
func familyOf(svc *corev1.Service) ipFamily {
	if svc == nil || len(svc.Spec.IPFamilies) != 1 {
		return anyFamily
	}
	switch svc.Spec.IPFamilies[0] {
	case corev1.IPv4Protocol:
		return onlyIPv4
	case corev1.IPv6Protocol:
		return onlyIPv6
	}
	return anyFamily
}

// findFamily sets p.family to the IP family that the addresses of all members share. If the members
// do not share a family, p.family becomes anyFamily.
//
// It also sets p.ofFamily to two functions, which make the pool for services with only IPv4 and the
// pool for services with only IPv6.
func (p *Pool) findFamily() {
	p.family = anyFamily
	for i := range p.members {
		f := familyOfAddr(p.members[i].Addr)
		if i > 0 && f != p.family {
			p.family = anyFamily
			break
		}
		p.family = f
	}
	p.ofFamily = [2]func() *Pool{
		sync.OnceValue(func() *Pool { return p.convert(onlyIPv4) }),
		sync.OnceValue(func() *Pool { return p.convert(onlyIPv6) }),
	}
}

// withFamily returns a pool with those nodes of p that have an address of the family f. In the new
// pool, each node has this address. The identities of the nodes, and so their ranks, are the same
// as in p.
func (p *Pool) withFamily(f ipFamily) *Pool {
	if f == anyFamily || f == p.family {
		return p
	}
	return p.ofFamily[f-onlyIPv4]()
}

func (p *Pool) convert(f ipFamily) *Pool {
	some := &Pool{size: p.size, spread: p.spread, sticky: p.sticky, allLocal: p.allLocal, index: make(map[string]int32, len(p.members))}
	for _, m := range p.members {
		if familyOfAddr(m.Addr) != f {
			if !m.other.IsValid() {
				continue
			}
			m.Addr, m.other = m.other, m.Addr
		}
		some.members = append(some.members, m)
	}
	some.arrange()
	return some
}
