package kube

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"strings"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/routes"
)

// Budget says how many checks a second the terminators make, and how many they
// would make without what keeps them few. The package comment has the formula.
type Budget struct {
	// Terminators is Builder.Terminators, at least 1.
	Terminators int `json:"terminators"`
	// Now is what they make with the configuration that was built.
	Now Checks `json:"now"`
	// WithoutSubsets: every service on all nodes of its cluster that can be used.
	WithoutSubsets Checks `json:"withoutSubsets"`
	// WithoutTrack: every server checked by itself, as if each route asked for it,
	// instead of following its node.
	WithoutTrack Checks `json:"withoutTrack"`
	// WithoutSubsetsAndTrack: every service on all nodes, each of these servers
	// checked by itself.
	WithoutSubsetsAndTrack Checks `json:"withoutSubsetsAndTrack"`
}

// Checks are those of one terminator, in servers and checks a second, and how many
// checks a second all of them make.
type Checks struct {
	haproxycfg.CheckBudget
	AllTerminators float64 `json:"checksPerSecondOfAllTerminators"`
}

// String gives the checks of all terminators in words, one case a line.
func (b Budget) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%-34s %10s %10s %10s\n", "checks/s", "health", "agent", "total")
	for _, row := range [...]struct {
		name string
		c    Checks
	}{
		{"as built", b.Now},
		{"without subsets", b.WithoutSubsets},
		{"without track", b.WithoutTrack},
		{"without subsets and without track", b.WithoutSubsetsAndTrack},
	} {
		n := float64(b.Terminators)
		fmt.Fprintf(&s, "%-34s %10.0f %10.0f %10.0f\n", row.name, n*row.c.Health, n*row.c.Agent, row.c.AllTerminators)
	}
	return s.String()
}

// budget compares the configuration with those that it might have been. These have
// millions of servers, so they are counted and not made: each is made with a single
// node that stands for all of a cluster, and its servers are multiplied.
func (b Builder) budget(config *haproxycfg.Config, table routes.Table, upstreams []haproxycfg.Upstream, report *Report) Budget {
	var m multiples
	m.count(upstreams, report)
	tracking, _ := b.Edge.Config(table, m.upstreams)
	checking, _ := b.Edge.Config(withChecks(table), m.upstreams)

	terminators := max(1, b.Terminators)
	checks := func(n haproxycfg.CheckBudget) Checks {
		return Checks{n, round(n.Total * float64(terminators))}
	}
	return Budget{
		Terminators:            terminators,
		Now:                    checks(rounded(config.CheckBudget())),
		WithoutSubsets:         checks(multiplied(tracking, m.usable)),
		WithoutTrack:           checks(multiplied(checking, m.subset)),
		WithoutSubsetsAndTrack: checks(multiplied(checking, m.usable)),
	}
}

// multiples say for how many servers each server on a stand-in counts.
type multiples struct {
	upstreams []haproxycfg.Upstream // each on the node that stands for its cluster
	nodes     map[netip.Addr]int    // usable nodes by stand-in
	subsets   map[netip.AddrPort]int
}

func (m *multiples) count(upstreams []haproxycfg.Upstream, report *Report) {
	index := make(map[string]int, len(report.Clusters))
	nodes := make([]haproxycfg.Node, len(report.Clusters))
	m.nodes = make(map[netip.Addr]int, len(report.Clusters))
	for i, c := range report.Clusters {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		index[c.Name], nodes[i] = i, haproxycfg.Node{Name: c.Name, Addr: a}
		m.nodes[a] = c.Eligible + c.Avoid
		if m.nodes[a] == 0 { // as nodeselect.Pool.Pick does
			m.nodes[a] = c.Excluded
		}
	}
	m.upstreams = make([]haproxycfg.Upstream, len(upstreams))
	m.subsets = make(map[netip.AddrPort]int, len(upstreams))
	for i, u := range upstreams {
		if len(u.Nodes) > 0 { // then its cluster was given
			c := index[u.Ref.Cluster]
			m.subsets[netip.AddrPortFrom(nodes[c].Addr, u.NodePort)] = len(u.Nodes)
			u.Nodes = nodes[c : c+1]
		}
		m.upstreams[i] = u
	}
}

func (m *multiples) usable(a netip.AddrPort) int { return m.nodes[a.Addr()] }

func (m *multiples) subset(a netip.AddrPort) int { return m.subsets[a] }

// multiplied is the budget of a configuration in which each server is there as often
// as times says of its address.
func multiplied(config *haproxycfg.Config, times func(netip.AddrPort) int) haproxycfg.CheckBudget {
	var sum haproxycfg.CheckBudget
	var one [1]haproxycfg.Backend
	for i := range config.Backends {
		b := &config.Backends[i]
		one[0] = haproxycfg.Backend{Health: b.Health, AgentInterval: b.AgentInterval}
		for j := range b.Servers {
			one[0].Servers = b.Servers[j : j+1]
			n := (&haproxycfg.Config{Backends: one[:]}).CheckBudget()
			k := times(b.Servers[j].Addr)
			sum.HealthServers += k * n.HealthServers
			sum.AgentServers += k * n.AgentServers
			sum.Health += float64(k) * n.Health
			sum.Agent += float64(k) * n.Agent
		}
	}
	return rounded(sum)
}

func rounded(n haproxycfg.CheckBudget) haproxycfg.CheckBudget {
	n.Health, n.Agent = round(n.Health), round(n.Agent)
	n.Total = round(n.Health + n.Agent)
	return n
}

// round keeps rounding errors of sums, and digits that say nothing, out of the report.
func round(perSecond float64) float64 { return math.Round(perSecond*1000) / 1000 }

// withChecks is the table whose routes all ask for health checks of their own.
func withChecks(table routes.Table) routes.Table {
	all := make([]routes.Route, len(table.Routes))
	connect := new(routes.Check)
	for i, r := range table.Routes {
		r.Check = cmp.Or(r.Check, connect)
		all[i] = r
	}
	return routes.Table{Routes: all}
}
