package gate

import (
	"slices"
	"strings"

	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/disruption/picture"
)

// Picture returns a picture of the cluster: the nodes that are away or granted, the next wave, and
// the limits that permit no further node to be away. The row of a service has its nodes in all
// configurations in force. steps is the number of steps of the search for the wave; see
// [disruption.State.Wave].
func (g *Gate) Picture(title string, steps int) picture.Picture {
	p := picture.Picture{Title: title, Subsets: nodeselect.Subsets{}, Wave: g.Wave(nil, steps), Blocked: g.state.Blocking()}
	for _, n := range g.in.Nodes {
		p.Nodes = append(p.Nodes, n.Node)
	}
	for _, name := range g.state.Nodes() {
		if g.state.IsAway(name) {
			p.Away = append(p.Away, name)
		}
	}
	for _, a := range g.in.Applied {
		for service, members := range a.Subsets {
			p.Subsets[service] = append(p.Subsets[service], members...)
		}
	}
	for service, members := range p.Subsets {
		slices.SortStableFunc(members, func(a, b nodeselect.Node) int { return strings.Compare(a.Name, b.Name) })
		p.Subsets[service] = slices.CompactFunc(members, func(a, b nodeselect.Node) bool { return a.Name == b.Name })
	}
	return p
}
