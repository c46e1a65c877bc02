package nodeselect

import (
	"maps"
	"slices"
	"time"
)

// Subsets has the chosen nodes of each service, sorted by name. A key is the Ref.Key of a service,
// "namespace/name". A program may store Subsets as JSON, and later pass them to Select.
type Subsets map[string][]Node

// Selection is the result of Select for one cluster.
type Selection struct {
	// Targets are the targets of the refs that could be resolved, in the order of the refs.
	Targets []Target
	// Findings contain the Verdict and its reason for every node that is not Eligible, sorted by
	// node name.
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

// Select resolves refs, and picks the nodes of each service that they name. now is the time for the
// predicates. current contains the nodes that each service uses now; nil means unknown. It matters
// only with Selector.Sticky, or if it contains nodes with the verdict Avoid; see Pool.Pick.
//
// A ref that cannot be resolved gets a problem and no target. A target has a warning in four cases:
//
//   - Annotations.AgentPorts assigns the agent port of the service to another service. The target
//     has no agent port.
//   - A service with externalTrafficPolicy Local has ready pods on more nodes than the target has.
//     The pods on the remaining nodes get no traffic; see Selector.AllLocal.
//   - sessionAffinity of the service is ClientIP. Most pods may get no traffic, because each node
//     sends all requests of one balancer to one pod.
//   - A service with externalTrafficPolicy Local has no ready pod on a node of the cluster. The
//     target has nodes without a ready pod; see Objects.ReadyNodes.
func (s Selector) Select(objects Objects, refs []Ref, now time.Time, current Subsets) Selection {
	t := NewTracker(s, current)
	t.load(objects, refs, now)
	return t.selection
}

// SubsetChange is the difference between the old and the new nodes of one service.
type SubsetChange struct {
	Service string `json:"service"` // "namespace/name"
	Enter   []Node `json:"enter,omitempty"`
	Leave   []Node `json:"leave,omitempty"`
	Before  int    `json:"before"` // number of nodes in the old subset
	After   int    `json:"after"`  // number of nodes in the new subset
}

// Share is the share of the old subset's nodes that leave, from 0 to 1. For a new service it is 0.
func (c SubsetChange) Share() float64 { return share(len(c.Leave), c.Before) }

// SubsetChanges are the differences between the old and the new nodes of all services in a cluster.
type SubsetChanges struct {
	// Services are the services whose subsets change, sorted by name.
	Services []SubsetChange `json:"services,omitempty"`
	// The numbers below are sums over all services. A node that three services use counts three
	// times.
	Enter  int `json:"enter"`
	Leave  int `json:"leave"`
	Before int `json:"before"`
	After  int `json:"after"`
}

// Share is the part of the nodes in the old subsets of all services that leave their subset, from 0
// to 1. If all old subsets are empty, Share returns 0, because new nodes disturb no traffic.
func (c SubsetChanges) Share() float64 { return share(c.Leave, c.Before) }

// Largest returns the service that loses the most nodes. If several services lose the same number,
// it returns the first of them by name. It returns false if no service loses a node.
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

// DiffSubsets returns, for each service, the nodes that enter its subset and the nodes that leave
// it. A node with a new address is another node here, because the balancer connects to another
// machine. If only one argument contains a service, the subset of this service in the other
// argument counts as empty.
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

// The function "without" returns the nodes of a that are not in b. It compares all pairs of nodes:
// subsets are small, so this costs less than a map.
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
