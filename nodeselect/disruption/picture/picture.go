// Package picture draws an SVG of a cluster: which services use which nodes, which nodes may go now
// (the wave), and which limits forbid the others to go:
//
//	p := picture.Picture{
//		Title:   "eu-1",
//		Nodes:   nodes,
//		Subsets: subsets,
//		Away:    []string{"worker-7"},
//		Wave:    state.Wave(state.Nodes(), disruption.DefaultSteps),
//		Blocked: state.Blocking(),
//	}
//	err := os.WriteFile("wave.svg", p.SVG(), 0o644)
//
// Each column is a node, each row is a service, and a mark means that the node is in the subset of
// the service. Bars above show the number of services of each node. Bars to the right show how many
// nodes of each service are away, in the wave, or asked for, that is, listed in Picture.Named.
// Columns of nodes in the same state are side by side.
//
// The first rows are the blocked services, which have a limit that permits no further node to be
// away. Then come the services with the longest bars.
//
// With 1,000 nodes, a column is about a pixel wide, and wider if the node is away, asked for or in
// the wave. The picture shows a name if there is room for it, and a browser shows the name of the
// bar under the mouse.
//
// # What it does not do
//
// It does not decide which nodes may go: package disruption decides this. The picture has no
// scripts and no style sheets, so a page with a strict Content-Security-Policy can contain it.
package picture

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/disruption"
)

// Picture is the content of a picture. All fields are optional. Names of nodes that are neither in
// Nodes nor in Subsets are ignored.
type Picture struct {
	Title string
	// Nodes are the nodes of the cluster. A node that is only in Subsets gets a column too.
	Nodes   []nodeselect.Node
	Subsets nodeselect.Subsets
	Away    []string // nodes that are away
	Named   []string // nodes that somebody asks about
	Wave    []string // nodes that may go now
	// Blocked are the limits that forbid the removal of nodes now; see disruption.State.Blocking and
	// disruption.Answer.Blocked.
	Blocked []disruption.Blocked
}

// class is the state of a node in the picture, such as away or granted. It decides the colour of
// the node's column and its place: nodes of the same class stand side by side.
type class int

const (
	away class = iota
	named
	wave
	blocked // in a subset of a blocked service
	other
	classes
)

var labels = [classes]string{"away", "asked for", "may go together now", "blocked", "other"}

// The colours are of a palette that people with impaired colour vision can tell apart (Okabe and
// Ito).
var colours = [classes]string{"#d55e00", "#cc79a7", "#0072b2", "#e6b000", "#999999"}

// node is a node of the cluster. The picture shows it as a column.
type node struct {
	name  string
	zone  string
	class class
	load  int // number of services
}

// service is a service of the cluster. The picture shows it as a row.
type service struct {
	name    string
	members []int // columns, sorted
	count   [classes]int
	blocked []disruption.Blocked
}

// The method "gone" returns how many nodes of the service are in one of three classes: away, named
// in the question of the operator ("asked for"), or in the wave.
func (s *service) gone() int { return s.count[away] + s.count[named] + s.count[wave] }

// chart has the nodes and services in the order of the columns and rows.
type chart struct {
	nodes    []node
	services []service
	size     [classes]int // number of nodes
}

func (p Picture) chart() *chart {
	byName := map[string]*node{}
	for _, n := range p.Nodes {
		byName[n.Name] = &node{name: n.Name, zone: n.Zone, class: other}
	}
	blocks := map[string][]disruption.Blocked{} // by service
	for _, b := range p.Blocked {
		if b.Service != "" {
			blocks[b.Service] = append(blocks[b.Service], b)
		}
	}
	for service, members := range p.Subsets {
		for _, n := range members {
			if byName[n.Name] == nil {
				byName[n.Name] = &node{name: n.Name, zone: n.Zone, class: other}
			}
			known := byName[n.Name]
			known.load++
			for _, b := range blocks[service] {
				if b.Rule != disruption.RuleZone || b.Zone == known.zone {
					known.class = blocked
				}
			}
		}
	}
	// A node may be in several of these lists. The last list that has the node sets its class.
	for _, group := range []struct {
		class class
		names []string
	}{{wave, p.Wave}, {named, p.Named}, {away, p.Away}} {
		for _, name := range group.names {
			if n := byName[name]; n != nil {
				n.class = group.class
			}
		}
	}
	c := &chart{}
	for _, n := range byName {
		c.nodes = append(c.nodes, *n)
		c.size[n.class]++
	}
	slices.SortFunc(c.nodes, func(a, b node) int {
		return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(b.load, a.load), strings.Compare(a.name, b.name))
	})
	column := make(map[string]int, len(c.nodes))
	for i, n := range c.nodes {
		column[n.name] = i
	}
	for _, name := range slices.Sorted(maps.Keys(p.Subsets)) {
		s := service{name: name, blocked: blocks[name]}
		for _, n := range p.Subsets[name] {
			s.members = append(s.members, column[n.Name])
		}
		slices.Sort(s.members)
		s.members = slices.Compact(s.members)
		for _, m := range s.members {
			s.count[c.nodes[m].class]++
		}
		c.services = append(c.services, s)
	}
	slices.SortStableFunc(c.services, compareServices)
	return c
}

// compareServices orders the services of the picture. Blocked services come first. After them, the
// services are sorted by their number of affected nodes, the largest first. A node is affected if
// it is away, in the wave, or named in the question of the operator ("asked for").
//
// If two services have equally many affected nodes, compareServices compares the columns of all
// their nodes.
func compareServices(a, b service) int {
	rank := func(s service) int {
		if len(s.blocked) > 0 {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(b.gone(), a.gone()), slices.Compare(a.members, b.members))
}

// summary returns the line below the title: the numbers of nodes, services and blocked services.
func (c *chart) summary() string {
	text := count(len(c.nodes), "node") + ", " + count(len(c.services), "service")
	if n := c.blocked(); n > 0 {
		text += fmt.Sprintf(", %d of them let no further node go", n)
	}
	return text
}

// blocked returns the number of blocked services: those with a limit that permits no further node
// to be away (Picture.Blocked). They are the first rows of the picture.
func (c *chart) blocked() int {
	n := 0
	for n < len(c.services) && len(c.services[n].blocked) > 0 {
		n++
	}
	return n
}

// count returns a number with a noun, such as "2 nodes".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
