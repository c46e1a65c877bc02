package nodeselect

import (
	"maps"
	"slices"
	"time"
)

// Subsets maps each service, as "namespace/name" (Ref.Key), to the nodes that are chosen for it,
// sorted by name. A program may store Subsets as JSON and pass them to Select later.
type Subsets map[string][]Node

// Selection is the result of Select for one cluster.
type Selection struct {
	// Targets are the refs that could be resolved, in the order of the refs.
	Targets []Target
	// Findings give the reason for every node that is not Eligible, sorted by name.
	Findings []Finding
	// Problems of refs and nodes, without duplicates.
	Problems []Problem
}

// Subsets returns the nodes of each service.
func (s Selection) Subsets() Subsets {
	subsets := make(Subsets, len(s.Targets))
	for i := range s.Targets {
		subsets[s.Targets[i].Key()] = s.Targets[i].Nodes
	}
	return subsets
}

// Select resolves refs and picks the nodes of each service that they name. Predicates judge nodes
// as of now. current are the nodes that each service uses now; nil if unknown. They affect the
// result only with Selector.Sticky, or if some of them are avoided nodes; see Pool.Pick.
//
// A ref that cannot be resolved is a problem and has no target. Other refs are not affected. If
// Annotations.AgentPorts gives the agent port of a service to another one, the target has no agent
// port, and there is a warning. If no node has a ready pod of a service with externalTrafficPolicy
// Local, the service gets other nodes, and there is a warning; see Objects.ReadyNodes.
func (s Selector) Select(objects Objects, refs []Ref, now time.Time, current Subsets) Selection {
	t := NewTracker(s, current)
	t.load(objects, refs, now)
	return t.selection
}

// SubsetChange is the difference between the old and new nodes of a service.
type SubsetChange struct {
	Service string `json:"service"` // "namespace/name"
	Enter   []Node `json:"enter,omitempty"`
	Leave   []Node `json:"leave,omitempty"`
	Before  int    `json:"before"` // number of nodes in the old subset
	After   int    `json:"after"`  // number of nodes in the new subset
}

// Share is the part of the old subset that leaves, 0 to 1. It is 0 for a new service.
func (c SubsetChange) Share() float64 { return share(len(c.Leave), c.Before) }

// SubsetChanges are the differences between the old and new nodes of all services in a cluster.
type SubsetChanges struct {
	// Services are the services whose subsets change, sorted by name.
	Services []SubsetChange `json:"services,omitempty"`
	// The numbers below are sums over all services: a node of three services counts three times.
	Enter  int `json:"enter"`
	Leave  int `json:"leave"`
	Before int `json:"before"`
	After  int `json:"after"`
}

// Share is the part of all old subsets that leaves, 0 to 1. It is 0 if the old subsets are empty,
// because new nodes disturb no traffic.
func (c SubsetChanges) Share() float64 { return share(c.Leave, c.Before) }

// Largest returns the service that loses the most nodes, the first by name of several. It is false
// if no service loses any.
func (c SubsetChanges) Largest() (SubsetChange, bool) {
	var largest SubsetChange
	for _, s := range c.Services {
		if len(s.Leave) > len(largest.Leave) {
			largest = s
		}
	}
	return largest, len(largest.Leave) > 0
}

func share(part, whole int) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// DiffSubsets returns the nodes that enter and leave each subset. Two nodes are the same if their
// identities and their addresses are equal: with another address the balancer connects to another
// machine. A service that only one of the arguments contains has an empty subset in the other.
func DiffSubsets(old, new Subsets) SubsetChanges {
	keys := make([]string, 0, max(len(old), len(new)))
	keys = slices.AppendSeq(keys, maps.Keys(new))
	for key := range old {
		if _, ok := new[key]; !ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	var changes SubsetChanges
	for _, key := range keys {
		before, after := old[key], new[key]
		c := SubsetChange{
			Service: key,
			Enter:   without(after, before),
			Leave:   without(before, after),
			Before:  len(before), After: len(after),
		}
		changes.Before += c.Before
		changes.After += c.After
		if len(c.Enter)+len(c.Leave) == 0 {
			continue
		}
		changes.Enter += len(c.Enter)
		changes.Leave += len(c.Leave)
		changes.Services = append(changes.Services, c)
	}
	return changes
}

// without returns the nodes of a that are not in b. Subsets are small, so comparing all pairs costs
// less than a map.
func without(a, b []Node) []Node {
	var nodes []Node
	for i := range a {
		if !slices.ContainsFunc(b, func(n Node) bool {
			return n.Identity == a[i].Identity && n.Addr == a[i].Addr
		}) {
			nodes = append(nodes, a[i])
		}
	}
	return nodes
}
