package nodeselect

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Why is the reason why the subset of a service contains a node, or does not contain it.
type Why string

// The reasons for nodes in the subset.
const (
	// Ranked means that the node is in the subset because the hash ranks it high enough.
	Ranked Why = "ranked"
	// Kept means that the service uses the node already and keeps it, although other nodes rank
	// better: see Avoid and Selector.Sticky.
	Kept Why = "kept"
	// Fallback means that the subset contains the node only because better nodes are missing:
	//
	//   - If the Verdict of the node is Avoid, the cluster has fewer Eligible nodes than the subset
	//     has places (Choices.Places).
	//   - If the Verdict is Excluded, the cluster has no Eligible and no avoided node.
	Fallback Why = "fallback"
	// Leaving means that the node is in the subset that is in use, but Select would not choose the
	// node any more. The subset in use is older than the objects, for example because a limit has
	// refused the change to a newer subset.
	Leaving Why = "leaving"
	// Gone means that the node is in the subset that is in use, but the cluster has no such Node
	// object any more. The subset in use is older than the objects.
	Gone Why = "gone"
)

// The reasons for nodes outside the subset.
const (
	// Outranked means that the node may enter the subset, but other nodes rank better.
	Outranked Why = "outranked"
	// Avoided, IsExcluded and IsUnusable mean that the node has the Verdict Avoid, Excluded or
	// Unusable. Choice.Detail has the reason of the Verdict.
	Avoided    Why = "avoided"
	IsExcluded Why = "excluded"
	IsUnusable Why = "unusable"
	// NoPod means that the externalTrafficPolicy of the service is Local, and that the node has no
	// ready pod of the service.
	NoPod Why = "no ready pod"
	// OtherFamily means that the service has only one IP family, and that the node has no address
	// of this family.
	OtherFamily Why = "other IP family"
	// Entering means that the subset does not contain the node, but that Select would choose the
	// node now, because the objects are newer than the subset.
	Entering Why = "entering"
)

// Choice says why the subset of a service contains a certain node, or does not contain it.
type Choice struct {
	Node string `json:"node"`
	// Addr is the address of the node to which the balancer connects for this service. It is the
	// zero Addr if the node has no usable address.
	Addr   netip.Addr `json:"addr,omitzero"`
	Zone   string     `json:"zone,omitempty"`
	Chosen bool       `json:"chosen"`
	Why    Why        `json:"why"`
	// Rank is the position of the node in the order of the hash for this service, from 1. The order
	// contains only nodes with the same Verdict that can serve the service. 0 means that the node
	// is not in such an order.
	Rank    int     `json:"rank,omitempty"`
	Verdict Verdict `json:"verdict"`
	// Detail is the reason of the Verdict. It is empty if the Verdict is Eligible.
	Detail string `json:"detail,omitempty"`
	// Marks say how an operator has asked for a drain of the node: "cordoned", or the annotation.
	// They do not depend on the Verdict. The agent of the node drains a node with a mark.
	Marks []string `json:"marks,omitempty"`
}

// Choices says, for each node of a cluster, why the subset of a service contains the node, or does
// not contain it.
type Choices struct {
	// Places is the largest number of nodes that the subset can have.
	Places int `json:"places"`
	// Ranked is the number of Eligible nodes that can serve the service. The hash ranks them.
	Ranked int `json:"ranked"`
	// Spread is true if the places are spread over zones, see Selector.Spread. A node may then be
	// outranked because its zone already has its share of the places.
	Spread bool `json:"spread,omitempty"`
	// Nodes are all nodes of the cluster and all nodes of the subset, sorted by name.
	Nodes []Choice `json:"nodes"`
}

// Explain says, for each node of a cluster, why the subset of the service ref contains it or not,
// at the time "now". chosen is the subset that the balancer uses. If this subset is older than the
// argument "objects", Explain also says which nodes Select would add (Entering) and remove
// (Leaving, Gone).
func (s Selector) Explain(objects Objects, ref Ref, now time.Time, chosen []Node) Choices {
	all := s.Pool(objects.Nodes, now)
	svc, key := objects.Service(ref.Namespace, ref.Service), ref.Key()
	family := all.withFamily(familyOf(svc))
	able := family // the nodes that can serve the service
	if isLocal(svc) && objects.ReadyNodes != nil {
		if some := family.among(objects.ReadyNodes[key]); some != nil {
			able = some
			if s.AllLocal {
				able.size = max(able.size, len(able.members))
			}
		}
	}
	e := explainer{
		all: all.byNodeName(), family: family.byNodeName(), able: able.byNodeName(),
		chosen: namesOf(chosen), picked: namesOf(able.Pick(key, chosen)), ranks: able.ranks(key),
		places: able.size, eligible: able.rings[Eligible].Len(), findings: all.findings,
	}
	c := Choices{Places: able.size, Ranked: e.eligible, Spread: s.Spread, Nodes: make([]Choice, 0, len(objects.Nodes))}
	for _, n := range objects.Nodes {
		choice := e.choice(n.Name)
		if n.Spec.Unschedulable {
			choice.Marks = append(choice.Marks, "cordoned")
		}
		if drain, err := s.Annotations.Drain(n); drain && err == nil {
			choice.Marks = append(choice.Marks, "annotation "+s.Annotations.name("drain"))
		}
		c.Nodes = append(c.Nodes, choice)
	}
	for _, n := range chosen {
		if objects.Node(n.Name) == nil {
			c.Nodes = append(c.Nodes, Choice{Node: n.Name, Addr: n.Addr, Zone: n.Zone, Chosen: true, Why: Gone})
		}
	}
	slices.SortStableFunc(c.Nodes, func(a, b Choice) int { return strings.Compare(a.Node, b.Node) })
	return c
}

// explainer contains the tables in which Selector.Explain looks up each node. The keys of the maps
// are names of nodes.
type explainer struct {
	all, family, able map[string]*member // all usable nodes; usable nodes with an address of the IP family of the service; nodes that can serve it
	chosen, picked    map[string]bool    // the subset in use, and the one that Pick would choose
	ranks             map[string]int     // the ranks by Node.Identity
	places, eligible  int
	findings          []Finding
}

func (e *explainer) choice(name string) Choice {
	c := Choice{Node: name, Chosen: e.chosen[name]}
	i, found := slices.BinarySearchFunc(e.findings, name, func(f Finding, name string) int { return strings.Compare(f.Node, name) })
	if found {
		c.Verdict, c.Detail = e.findings[i].Verdict, e.findings[i].Reason
	}
	if m := e.all[name]; m != nil {
		c.Addr, c.Zone = m.Addr, m.Zone
	}
	if m := e.able[name]; m != nil {
		c.Addr, c.Rank = m.Addr, e.ranks[m.Identity]
	}
	c.Why = e.why(c)
	return c
}

func (e *explainer) why(c Choice) Why {
	picked := e.picked[c.Node]
	switch {
	case c.Chosen && !picked:
		return Leaving
	case c.Chosen && c.Verdict == Eligible && c.Rank <= e.places:
		return Ranked
	case c.Chosen && (c.Verdict == Excluded || c.Verdict == Avoid && e.eligible < e.places):
		return Fallback
	case c.Chosen:
		return Kept
	case picked:
		return Entering
	case e.all[c.Node] == nil:
		return IsUnusable
	case e.family[c.Node] == nil:
		return OtherFamily
	case e.able[c.Node] == nil:
		return NoPod
	}
	return [...]Why{Eligible: Outranked, Avoid: Avoided, Excluded: IsExcluded}[c.Verdict]
}

func (p *Pool) byNodeName() map[string]*member {
	m := make(map[string]*member, len(p.members))
	for i := range p.members {
		m[p.members[i].Name] = &p.members[i]
	}
	return m
}

// ranks returns the rank of each member for a service; key is the hash key of the service. A key of
// the result is the Node.Identity of a member. Ranks count from 1 among the members with the same
// verdict. With Spread, the rank is the position in the order in which Pick adds nodes to a subset.
func (p *Pool) ranks(key string) map[string]int {
	ranks := make(map[string]int, len(p.members))
	for _, ring := range p.rings {
		i := 0
		if p.spread {
			for _, n := range ring.Spread(key, ring.Len()) {
				i++
				ranks[n.Name] = i
			}
			continue
		}
		for n := range ring.Ranked(key) {
			i++
			ranks[n.Name] = i
		}
	}
	return ranks
}

func namesOf(nodes []Node) map[string]bool {
	names := make(map[string]bool, len(nodes))
	for _, n := range nodes {
		names[n.Name] = true
	}
	return names
}

// Text says in one sentence why the subset contains the node, or does not contain it. The argument
// "c" must contain n.
func (n Choice) Text(c Choices) string {
	rank := fmt.Sprintf("rank %d of %d by hash", n.Rank, c.Ranked)
	places := fmt.Sprintf("the service has %d places", c.Places)
	if c.Places == 1 {
		places = "the service has 1 place"
	}
	if c.Spread {
		places += ", spread over zones"
	}
	text := ""
	switch n.Why {
	case Ranked:
		text = rank + "; " + places
		if c.Ranked <= c.Places {
			text = "all eligible nodes are used; " + places
		}
	case Kept:
		text = "kept, because the service uses the node already"
	case Fallback:
		text = "used because too few nodes are eligible; " + places
	case Leaving:
		text = "a change that is not in force yet removes the node"
	case Gone:
		text = "the cluster has no such node any more, and the change is not in force yet"
	case Outranked:
		text = "not selected by the hash: " + rank + ", and " + places
		if n.Rank <= c.Places {
			text = "other nodes keep their places, because the service uses them already: " + rank
		}
	case Avoided:
		text = "avoided"
	case IsExcluded:
		text = "excluded"
	case IsUnusable:
		text = "unusable"
	case NoPod:
		text = "no ready pod of the service, whose externalTrafficPolicy is Local"
	case OtherFamily:
		text = "no address in the only IP family of the service"
	case Entering:
		text = "a change that is not in force yet adds the node"
	}
	if n.Detail != "" {
		text += ": " + n.Detail
	}
	if len(n.Marks) > 0 {
		text += " (" + strings.Join(n.Marks, ", ") + ")"
	}
	return text
}
