package nodeselect

import (
	"maps"
	"slices"
)

// SubsetChange is the difference of a service's old and new subset.
type SubsetChange struct {
	Service string `json:"service"` // Ref.Key
	Enter   []Node `json:"enter,omitempty"`
	Leave   []Node `json:"leave,omitempty"`
	Before  int    `json:"before"` // nodes in the old subset
	After   int    `json:"after"`  // nodes in the new subset
}

// Share is the part of the old subset that leaves, 0 to 1; 0 for a new service.
func (c SubsetChange) Share() float64 { return share(len(c.Leave), c.Before) }

// SubsetChanges are the differences of the old and new subsets of a cluster.
type SubsetChanges struct {
	// Services that change, by name. Those that do not are left out.
	Services []SubsetChange `json:"services,omitempty"`
	// Totals over all services, a node counting once for each service.
	Enter  int `json:"enter"`
	Leave  int `json:"leave"`
	Before int `json:"before"`
	After  int `json:"after"`
}

// Share is the part of all places in the old subsets whose nodes leave, 0 to 1.
// It is 0 if there were none: what is new disturbs nobody.
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
			Enter:   missing(before, after),
			Leave:   missing(after, before),
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

// missing returns the nodes of b that a has not. Subsets are small: comparing
// each with each costs less than a map.
func missing(a, b []Node) []Node {
	var nodes []Node
	for i := range b {
		if !slices.ContainsFunc(a, func(n Node) bool {
			return n.Identity == b[i].Identity && n.Addr == b[i].Addr
		}) {
			nodes = append(nodes, b[i])
		}
	}
	return nodes
}
