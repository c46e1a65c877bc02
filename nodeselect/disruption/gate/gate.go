package gate

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/disruption"
)

// Node is the state of a node in its cluster.
type Node struct {
	nodeselect.Node
	// Away is the reason why the node counts as away, for example "cordoned". "" means that the
	// node is present.
	Away string
	// ReadySince is the time since which the node is Ready. The zero time means unknown.
	ReadySince time.Time
	// Addrs are all addresses of the node. If an applied configuration has another address for the
	// node, the machine behind that address is gone, and the node counts as away. nil means
	// unknown.
	Addrs []netip.Addr
	// Since is the time at which the node went away. The zero time means unknown.
	Since time.Time
}

// Input contains all facts on which the answers of a Gate depend.
type Input struct {
	Budget  disruption.Budget
	Applied []Applied // the configurations in force, at least one
	Nodes   []Node    // all nodes of the cluster
	Grants  []Grant   // the grants that have not ended
	Now     time.Time
}

// ErrNoSubsets means that no applied configuration has a subset, so a Gate cannot decide about any
// node.
var ErrNoSubsets = errors.New("gate: no applied configuration has a subset of this cluster")

// Gate decides which nodes may go, that is, which nodes somebody may take away now. Only one
// goroutine may use it at a time.
type Gate struct {
	in    Input
	state *disruption.State
	// granted is a second State, in which only nodes with a grant count as away. Its Budget.Last is
	// true, so it permits that all nodes of a service are away at the same time.
	granted *disruption.State
	nodes   map[string]Node
	grants  map[string]Grant
	used    map[string]bool // nodes in applied configurations
	since   time.Time       // the latest time at which a configuration was applied
}

// New returns a Gate. It returns an error if the Input is too incomplete for a decision, for
// example if it has no configuration of a terminator.
func New(in Input) (*Gate, error) {
	if len(in.Applied) == 0 {
		return nil, ErrNoSubsets
	}
	g := &Gate{in: in, nodes: map[string]Node{}, grants: map[string]Grant{}, used: map[string]bool{}}
	all := make([]nodeselect.Node, 0, len(in.Nodes))
	for _, n := range in.Nodes {
		g.nodes[n.Name] = n
		all = append(all, n.Node)
	}
	subsets := make([]nodeselect.Subsets, 0, len(in.Applied))
	for _, a := range in.Applied {
		subsets = append(subsets, a.Subsets)
		for _, members := range a.Subsets {
			for _, n := range members {
				g.used[n.Name] = true
				if now, ok := g.nodes[n.Name]; ok && now.Away == "" && now.Addrs != nil && !slices.Contains(now.Addrs, n.Addr) {
					now.Away = "no longer has the address " + n.Addr.String()
					g.nodes[n.Name] = now
				}
			}
		}
		if a.Time.After(g.since) {
			g.since = a.Time
		}
	}
	if len(g.used) == 0 {
		return nil, ErrNoSubsets
	}
	state, err := disruption.New(in.Budget, all, subsets...)
	if err != nil {
		return nil, err
	}
	g.state = state
	for _, n := range g.nodes {
		if n.Away != "" {
			state.Away(n.Name)
		}
	}
	budget := in.Budget
	budget.Last = true
	if g.granted, err = disruption.New(budget, all, subsets...); err != nil {
		return nil, err
	}
	g.granted.Return(slices.Collect(maps.Keys(g.used))...) // nodes that the cluster no longer has
	for _, grant := range in.Grants {
		g.grants[grant.Node] = grant
		g.away(grant.Node)
	}
	return g, nil
}

// away counts the named nodes as away, because they have grants.
func (g *Gate) away(names ...string) {
	g.state.Away(names...)
	g.granted.Away(names...)
}

// The method "may" reports whether somebody may take all named nodes away at the same time. The
// named nodes and all nodes that are away must together exceed no limit.
//
// A node that is away may still serve, for example if only its kubelet has failed. So a second
// check requires that the named nodes and the granted nodes exceed no limit. The second check
// ignores nodes that are away without a grant, so that the nodes of a failed zone can be replaced.
// The result "alone" is true if only the second check refuses the named nodes.
func (g *Gate) may(names ...string) (answer disruption.Answer, alone bool) {
	answer = g.state.May(names...)
	if !answer.OK {
		return answer, false
	}
	if granted := g.granted.May(names...); !granted.OK {
		answer.OK, answer.Blocked = false, granted.Blocked
		return answer, true
	}
	return answer, false
}

// The method "take" returns the results of the method "may". If the nodes may be taken away, it
// also makes them count as away from then on.
func (g *Gate) take(names ...string) (answer disruption.Answer, alone bool) {
	answer, alone = g.may(names...)
	if answer.OK {
		g.away(names...)
	}
	return answer, alone
}

// Used reports whether an applied configuration contains the node.
func (g *Gate) Used(name string) bool { return g.used[name] }

// Away returns the reason why the node counts as away. "" means that the node is present. Away
// ignores grants.
func (g *Gate) Away(name string) string {
	n, known := g.nodes[name]
	if !known {
		return "not in the cluster"
	}
	return n.Away
}

// AwayNodes returns all nodes that count as away, sorted by name: nodes of the cluster, granted
// nodes, and nodes of applied configurations that the cluster no longer has.
func (g *Gate) AwayNodes() (away []AwayNode) {
	names := map[string]bool{}
	for name := range g.nodes {
		names[name] = true
	}
	for name := range g.used {
		names[name] = true
	}
	for name := range g.grants {
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if g.wasAway(name) {
			away = append(away, g.why(name))
		}
	}
	return away
}

// Unused returns the nodes of the cluster that no applied configuration contains and that are not
// away, sorted by name. The second result is the time at which the newest applied configuration
// came into force: since then, no applied configuration contains any of these nodes.
func (g *Gate) Unused() (names []string, since time.Time) {
	for _, name := range slices.Sorted(maps.Keys(g.nodes)) {
		if !g.used[name] && !g.wasAway(name) {
			names = append(names, name)
		}
	}
	return names, g.since
}

// Answer is the result of Gate.May and Gate.Take. It says whether somebody may take all named nodes
// (the argument "names") away at the same time, and if not, why.
type Answer struct {
	OK    bool     `json:"ok"`
	Nodes []string `json:"nodes"`
	// Blocked lists the limits that would be exceeded if the named nodes were away.
	Blocked []Blocked `json:"blocked,omitempty"`
	// Held lists the grants that other holders have for the named nodes. While such a grant exists,
	// the answer is no.
	Held []Grant `json:"held,omitempty"`
	// Notes are remarks, such as that a node is in no applied configuration.
	Notes []string `json:"notes,omitempty"`
}

// Blocked is a limit that would be exceeded if the named nodes were away.
type Blocked struct {
	disruption.Blocked
	// Nodes are nodes that are away and count for the limit, sorted by name. The list has at most
	// maxAway nodes. More nodes may be away.
	Nodes []AwayNode `json:"nodes,omitempty"`
	// Since is the time at which the last node went away, among all nodes that are away and count
	// for the limit. That node may be missing in the list Nodes. The zero time means unknown.
	Since time.Time `json:"since,omitzero"`
}

// AwayNode is the name of a node that counts as away, and the reason.
type AwayNode struct {
	Name  string    `json:"name"`
	Why   string    `json:"why"`
	Since time.Time `json:"since,omitzero"`
}

const maxAway = 20

// May reports whether somebody may take all named nodes away at the same time.
func (g *Gate) May(names ...string) Answer {
	names = unique(names)
	d, alone := g.may(names...)
	return g.answer(names, d, alone)
}

// Take does the same as May. If the nodes may go, it returns grants for the holder, and the nodes
// count as away from now on. The caller must store the grants before it passes on the answer. A
// node that no applied configuration contains needs no grant.
//
// Take refuses a node with a grant of another holder, or with an expired grant of this holder.
func (g *Gate) Take(holder string, ttl time.Duration, names ...string) (Answer, []Grant) {
	names = unique(names)
	var held []Grant
	for _, name := range names {
		if grant, ok := g.grants[name]; ok && (grant.Holder != holder || grant.Pending || grant.Expired(g.in.Now) && grant.Went.IsZero()) {
			held = append(held, grant)
		}
	}
	if held != nil {
		d, alone := g.may(names...)
		a := g.answer(names, d, alone)
		a.OK, a.Held = false, held
		return a, nil
	}
	d, alone := g.take(names...)
	a := g.answer(names, d, alone)
	if !a.OK {
		return a, nil
	}
	var grants []Grant
	for _, name := range names {
		if grant, ok := g.grants[name]; ok {
			a.Notes = append(a.Notes, grant.String())
			continue
		}
		if g.used[name] {
			grant := Grant{Node: name, Holder: holder, Taken: g.in.Now, TTL: ttl}
			grants, g.grants[name] = append(grants, grant), grant
		}
	}
	return a, grants
}

// TakeEach decides about the nodes in names one after another, and makes a Manual grant, which only
// the holder ends, for each node that may go. The caller must store the new grants, the second
// result, before anybody takes a node away. The first result contains all nodes that the holder may
// take away now.
//
// The argument "most" limits how many nodes with a grant of the holder have not gone away yet. At
// this limit, TakeEach makes no new grant. 0 means no limit.
func (g *Gate) TakeEach(holder string, ttl time.Duration, most int, names ...string) (may []string, taken []Grant) {
	waiting := 0
	for _, grant := range g.grants {
		if grant.Holder == holder && grant.Went.IsZero() {
			waiting++
		}
	}
	for _, name := range names {
		grant, granted := g.grants[name]
		switch {
		case granted:
			if grant.Holder == holder && !grant.Pending && !grant.Expired(g.in.Now) {
				may = append(may, name)
			}
		case !g.used[name]:
			may = append(may, name)
		case most == 0 || waiting < most:
			if answer, _ := g.take(name); !answer.OK {
				continue
			}
			grant = Grant{Node: name, Holder: holder, Taken: g.in.Now, TTL: ttl, Manual: true}
			g.grants[name] = grant
			may, taken, waiting = append(may, name), append(taken, grant), waiting+1
		}
	}
	return may, taken
}

// Record returns a grant for a node that the holder has taken away without a grant, whatever the
// limits say. With this grant, the node counts as away until it has been back for the hold-down.
// The caller must store the grant. The result is nil if anybody has a grant for the node, or if no
// applied configuration contains it.
func (g *Gate) Record(holder string, ttl time.Duration, name string) []Grant {
	if _, granted := g.grants[name]; granted || !g.used[name] {
		return nil
	}
	grant := Grant{Node: name, Holder: holder, Taken: g.in.Now, TTL: ttl, Went: g.in.Now}
	g.grants[name] = grant
	g.away(name)
	return []Grant{grant}
}

// Grants returns all grants of a holder, including those that this Gate has made, sorted by node.
func (g *Gate) Grants(holder string) (grants []Grant) {
	for _, grant := range g.grants {
		if grant.Holder == holder {
			grants = append(grants, grant)
		}
	}
	SortGrants(grants)
	return grants
}

// Wave returns a set of candidates that somebody may take away at the same time now; see
// [disruption.State.Wave]. If candidates is nil, all nodes are candidates.
func (g *Gate) Wave(candidates []string, steps int) []string {
	return g.state.Wave(g.candidates(candidates), steps)
}

// Estimate estimates the number of waves; see [disruption.State.Estimate]. If candidates is nil,
// all nodes are candidates.
func (g *Gate) Estimate(candidates []string, steps int) disruption.Estimate {
	return g.state.Estimate(g.candidates(candidates), steps)
}

func (g *Gate) candidates(names []string) []string {
	if names == nil {
		return g.state.Nodes()
	}
	return names
}

// answer converts d, the answer of package disruption about the nodes in names, to an Answer with
// reasons and notes. The argument "alone" is true if only granted nodes counted as away in d.
func (g *Gate) answer(names []string, d disruption.Answer, alone bool) Answer {
	a := Answer{OK: d.OK, Nodes: names}
	for _, b := range d.Blocked {
		a.Blocked = append(a.Blocked, g.explain(b, names, alone))
	}
	for _, name := range names {
		_, known := g.nodes[name]
		switch {
		case !g.used[name]:
			note := fmt.Sprintf("%s is not in any applied configuration since %s: may go", name, clock(g.since))
			if !known {
				note = fmt.Sprintf("%s is not a node of the cluster, and not in any applied configuration since %s: may go", name, clock(g.since))
			}
			a.Notes = append(a.Notes, note)
		case g.Away(name) != "" && g.grants[name].Node == "":
			a.Notes = append(a.Notes, name+" is away already: "+g.why(name).Why)
		}
	}
	return a
}

// explain adds nodes to b, which describes an exceeded limit: the nodes that are away and count for
// this limit. If "alone" is true, it adds only granted nodes. It leaves out the nodes in names,
// about which somebody asks.
func (g *Gate) explain(b disruption.Blocked, names []string, alone bool) Blocked {
	away := map[string]bool{}
	for _, a := range g.in.Applied {
		for service, members := range a.Subsets {
			if b.Service != "" && service != b.Service {
				continue
			}
			for _, n := range members {
				zone := n.Zone
				if known, ok := g.nodes[n.Name]; ok {
					zone = known.Zone
				}
				_, granted := g.grants[n.Name]
				if !granted && (alone || !g.wasAway(n.Name)) || slices.Contains(names, n.Name) || b.Rule == disruption.RuleZone && zone != b.Zone {
					continue
				}
				away[n.Name] = true
			}
		}
	}
	x := Blocked{Blocked: b}
	for _, name := range slices.Sorted(maps.Keys(away)) {
		n := g.why(name)
		if n.Since.After(x.Since) {
			x.Since = n.Since
		}
		if len(x.Nodes) < maxAway {
			x.Nodes = append(x.Nodes, n)
		}
	}
	return x
}

// wasAway reports whether a node of an applied configuration counts as away: the cluster does not
// list it, it is away, or somebody has a grant for it.
func (g *Gate) wasAway(name string) bool {
	n, known := g.nodes[name]
	_, granted := g.grants[name]
	return !known || n.Away != "" || granted
}

// The method "why" returns the node with the reason why it is away. The node is in an applied
// configuration.
func (g *Gate) why(name string) AwayNode {
	n, known := g.nodes[name]
	grant, granted := g.grants[name]
	switch {
	case granted:
		return AwayNode{Name: name, Why: "granted to " + grant.Holder, Since: grant.Taken}
	case !known:
		return AwayNode{Name: name, Why: "not in the cluster"}
	}
	return AwayNode{Name: name, Why: n.Away, Since: n.Since}
}

func unique(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names)
}

// maxLines is the number of limits that Answer.String lists.
const maxLines = 10

// String returns the answer as lines, without a final line feed.
func (a Answer) String() string {
	word := "no"
	if a.OK {
		word = "yes"
	}
	lines := []string{word + ": " + strings.Join(a.Nodes, " ")}
	for _, g := range a.Held {
		lines = append(lines, g.String())
	}
	for i, b := range a.Blocked {
		if i == maxLines {
			lines = append(lines, fmt.Sprintf("and %d more limits", len(a.Blocked)-i))
			break
		}
		lines = append(lines, b.String())
	}
	return strings.Join(append(lines, a.Notes...), "\n")
}

// String returns the limit and the nodes that are away, in one line.
func (b Blocked) String() string {
	text := b.Blocked.String()
	var nodes []string
	for _, n := range b.Nodes {
		nodes = append(nodes, n.String())
	}
	if nodes != nil {
		text += ": " + strings.Join(nodes, ", ")
	}
	return text
}

// String returns the name of the node, why it is away, and since when, if this is known.
func (n AwayNode) String() string {
	if n.Since.IsZero() {
		return n.Name + " (" + n.Why + ")"
	}
	return n.Name + " (" + n.Why + " since " + clock(n.Since) + ")"
}

// SortGrants sorts grants by node.
func SortGrants(grants []Grant) {
	slices.SortFunc(grants, func(a, b Grant) int { return cmp.Compare(a.Node, b.Node) })
}
