package nodeselect

import (
	"maps"
	"slices"
)

// Change is what happens to the subset of one service.
type Change struct {
	Service string `json:"service"` // Ref.Key
	Enter   []Node `json:"enter,omitempty"`
	Leave   []Node `json:"leave,omitempty"`
	Before  int    `json:"before"` // nodes in the old subset
	After   int    `json:"after"`  // nodes in the new subset
}

// Share is the part of the old subset that leaves, 0 to 1; 0 for a new service.
func (c Change) Share() float64 { return share(len(c.Leave), c.Before) }

// Changes is the difference of two sets of subsets.
type Changes struct {
	// Services that change, by name. Those that do not are left out.
	Services []Change `json:"services,omitempty"`
	// Totals over all services, a node counting once for each service.
	Enter  int `json:"enter"`
	Leave  int `json:"leave"`
	Before int `json:"before"`
	After  int `json:"after"`
}

// Share is the part of all places in the old subsets whose nodes leave, 0 to 1.
// It is 0 if there were none: what is new disturbs nobody.
func (c Changes) Share() float64 { return share(c.Leave, c.Before) }

// Worst returns the service that loses the most nodes, the first by name of
// several, and false if none loses any.
func (c Changes) Worst() (Change, bool) {
	var worst Change
	for _, s := range c.Services {
		if len(s.Leave) > len(worst.Leave) {
			worst = s
		}
	}
	return worst, len(worst.Leave) > 0
}

func share(part, whole int) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// Diff says what enters and leaves each subset. A node is the same if both its
// identity and its address are: what the balancer connects to has otherwise
// changed. A service that is in only one of the two has an empty subset in the
// other.
func Diff(old, new Subsets) Changes {
	keys := make([]string, 0, max(len(old), len(new)))
	keys = slices.AppendSeq(keys, maps.Keys(new))
	for key := range old {
		if _, ok := new[key]; !ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	var changes Changes
	for _, key := range keys {
		before, after := old[key], new[key]
		c := Change{
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
