package kube

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/edge"
)

// Budget is the number of checks a second that all terminators make. For comparison, Budget also
// contains the checks without subsets (if each service used all usable nodes of its cluster),
// without track (if HAProxy checked every server instead of every node), and without both. The
// package comment contains the formula.
type Budget struct {
	// Terminators is Builder.Terminators, at least 1.
	Terminators int `json:"terminators"`
	// Now counts the checks that HAProxy makes with the configuration that Build returned.
	Now Checks `json:"now"`
	// WithoutSubsets are the checks that HAProxy would make if every service used all usable nodes
	// of its cluster.
	WithoutSubsets Checks `json:"withoutSubsets"`
	// WithoutTrack are the checks that HAProxy would make if it checked every server. With track,
	// HAProxy checks each node, and the servers on the node get its health.
	WithoutTrack Checks `json:"withoutTrack"`
	// WithoutSubsetsAndTrack are the checks that HAProxy would make if every service used all
	// usable nodes of its cluster, and if HAProxy checked every server.
	WithoutSubsetsAndTrack Checks `json:"withoutSubsetsAndTrack"`
}

// Checks contains three numbers: the servers that one terminator checks, the checks per second of
// one terminator, and the checks per second of all terminators together.
type Checks struct {
	haproxycfg.CheckBudget
	AllTerminators float64 `json:"checksPerSecondOfAllTerminators"`
}

// String returns a table of the checks a second that all terminators make. Its four lines have the
// numbers with subsets and track (as built), without subsets, without track, and with neither of
// the two.
func (b Budget) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%-16s %10s %10s %10s\n", "checks/s", "health", "agent", "total")
	for _, row := range [...]struct {
		name string
		c    Checks
	}{
		{"as built", b.Now},
		{"without subsets", b.WithoutSubsets},
		{"without track", b.WithoutTrack},
		{"without either", b.WithoutSubsetsAndTrack},
	} {
		n := float64(b.Terminators)
		fmt.Fprintf(&s, "%-16s %10.0f %10.0f %10.0f\n", row.name, n*row.c.Health, n*row.c.Agent, row.c.AllTerminators)
	}
	return s.String()
}

// budget counts the checks of the configuration and of three variants: without subsets (each
// service uses all usable nodes), without track (HAProxy checks every server instead of every
// node), and without both. A variant may have millions of servers, so budget builds it with one
// stand-in node per cluster, and multiplies the checks by the number of nodes.
func (b Builder) budget(config *haproxycfg.Config, groups edge.Groups, upstreams []edge.Upstream, clusters []ClusterReport) Budget {
	var m multiples
	m.count(upstreams, clusters)
	other, _ := b.Edge.Config(groups.FirstRoutes(), m.upstreams)

	terminators := max(1, b.Terminators)
	checks := func(n haproxycfg.CheckBudget) Checks {
		return Checks{n, round(n.Total * float64(terminators))}
	}
	budget := Budget{
		Terminators:    terminators,
		Now:            checks(rounded(config.CheckBudget())),
		WithoutSubsets: checks(multiplied(other, m.usable)),
	}
	untrack(other, b.Edge.NodeHealth != edge.KubeProxyOnly)
	budget.WithoutTrack = checks(multiplied(other, m.subset))
	budget.WithoutSubsetsAndTrack = checks(multiplied(other, m.usable))
	return budget
}

// untrack changes a configuration as if every route declared a check: HAProxy checks each server,
// and no server tracks another. If nodeAgents is true, HAProxy also makes an agent check of each
// server: at the agent of the service if there is one, and at the agent of the node otherwise.
func untrack(config *haproxycfg.Config, nodeAgents bool) {
	tracked := map[string]bool{} // keys are names of backends
	for i := range config.Backends {
		for j := range config.Backends[i].Servers {
			s := &config.Backends[i].Servers[j]
			if s.Track == "" {
				continue
			}
			backend, _, _ := strings.Cut(s.Track, "/")
			tracked[backend] = true
			s.Track, s.Check = "", true
			if nodeAgents && s.AgentPort == 0 {
				s.AgentPort = 1
			}
		}
	}
	config.Backends = slices.DeleteFunc(config.Backends, func(b haproxycfg.Backend) bool { return tracked[b.Name] })
}

// multiples counts real servers for a variant of the configuration (see budget). In a variant, one
// stand-in node takes the place of all nodes of a cluster, so each server on this node represents
// several real servers.
type multiples struct {
	upstreams []edge.Upstream        // each Upstream is on the stand-in node of its cluster
	nodes     map[netip.Addr]int     // the number of usable nodes of a cluster, by the address of its stand-in node
	subsets   map[netip.AddrPort]int // the number of nodes of a service, by the address of its server
}

func (m *multiples) count(upstreams []edge.Upstream, clusters []ClusterReport) {
	index := make(map[string]int, len(clusters))
	nodes := make([]edge.Node, len(clusters))
	m.nodes = make(map[netip.Addr]int, len(clusters))
	for i, c := range clusters {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		index[c.Name], nodes[i] = i, edge.Node{Name: c.Name, Addr: a}
		m.nodes[a] = c.Eligible + c.Avoid
		if m.nodes[a] == 0 { // Pool.Pick of nodeselect does the same.
			m.nodes[a] = c.Excluded
		}
	}
	m.upstreams = make([]edge.Upstream, len(upstreams))
	m.subsets = make(map[netip.AddrPort]int, len(upstreams))
	for i, u := range upstreams {
		if len(u.Nodes) > 0 { // then Build received the cluster
			c := index[u.Ref.Cluster]
			m.subsets[netip.AddrPortFrom(nodes[c].Addr, u.NodePort)] = len(u.Nodes)
			u.Nodes = nodes[c : c+1]
		}
		m.upstreams[i] = u
	}
}

func (m *multiples) usable(a netip.AddrPort) int { return m.nodes[a.Addr()] }

func (m *multiples) subset(a netip.AddrPort) int { return m.subsets[a] }

// multiplied returns the check budget of a configuration in which each server represents several
// servers. The argument "times" is a function that returns, for the address of a server, how many
// servers it represents.
func multiplied(config *haproxycfg.Config, times func(netip.AddrPort) int) haproxycfg.CheckBudget {
	type pair struct{ health, agent time.Duration }
	once := map[pair]haproxycfg.CheckBudget{} // of one server with both checks, by their intervals
	var sum haproxycfg.CheckBudget
	for i := range config.Backends {
		b := &config.Backends[i]
		every := pair{b.Health.Interval, b.AgentInterval}
		one, ok := once[every]
		if !ok {
			one = (&haproxycfg.Config{Backends: []haproxycfg.Backend{{
				Health: b.Health, AgentInterval: b.AgentInterval, Servers: []haproxycfg.Server{{Check: true, AgentPort: 1}},
			}}}).CheckBudget()
			once[every] = one
		}
		for j := range b.Servers {
			k := times(b.Servers[j].Addr)
			if b.Servers[j].Check {
				sum.HealthServers += k
				sum.Health += float64(k) * one.Health
			}
			if b.Servers[j].AgentPort != 0 {
				sum.AgentServers += k
				sum.Agent += float64(k) * one.Agent
			}
		}
	}
	return rounded(sum)
}

func rounded(n haproxycfg.CheckBudget) haproxycfg.CheckBudget {
	n.Health, n.Agent = round(n.Health), round(n.Agent)
	n.Total = round(n.Health + n.Agent)
	return n
}

// round rounds to three decimal places. This removes rounding errors of sums.
func round(perSecond float64) float64 { return math.Round(perSecond*1000) / 1000 }
