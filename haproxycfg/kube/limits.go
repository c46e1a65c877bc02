package kube

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/routes"
)

// Limits limit what declarations may add to a configuration. In a Builder, 0 means the default.
type Limits struct {
	// Routes is the number of routes and of their preferences.
	Routes int
	// Servers is the number of servers in all backends. A backend has one server for each node of
	// each of its services. Only routes with the same services and settings share a backend.
	Servers int
	// Checks is the number of checks a second that one HAProxy makes. It counts the health checks
	// of routes that declare a check, and the agent checks of services. It does not count the
	// checks of nodes.
	Checks int
	// AgentPorts is the number of services with an agent of their own. On every node, each such
	// service needs a listener.
	AgentPorts int
	// Sources is the number of client addresses that HAProxy remembers for the limits of all routes
	// together. Each route with a limit for single client addresses counts as
	// haproxycfg.TableSources of these addresses. A million addresses need about 220 MB.
	Sources int
}

// DefaultEdgeLimits are the limits of all declarations together. If a field of Builder.EdgeLimits
// is 0, the same field of DefaultEdgeLimits applies.
var DefaultEdgeLimits = Limits{Routes: 4 * routes.MaxRoutes, Servers: 250_000, Checks: 20_000, AgentPorts: 4_000, Sources: 256 * haproxycfg.TableSources}

// Or returns a copy of the limits l. If a field of l is 0, the copy has the value of the same field
// of the argument "other".
func (l Limits) Or(other Limits) Limits {
	return Limits{
		Routes: cmp.Or(l.Routes, other.Routes), Servers: cmp.Or(l.Servers, other.Servers),
		Checks: cmp.Or(l.Checks, other.Checks), AgentPorts: cmp.Or(l.AgentPorts, other.AgentPorts),
		Sources: cmp.Or(l.Sources, other.Sources),
	}
}

// Share returns the limits multiplied by share, a number from 0 to 1.
func (l Limits) Share(share float64) Limits {
	of := func(n int) int { return max(1, int(share*float64(n))) }
	return Limits{of(l.Routes), of(l.Servers), of(l.Checks), of(l.AgentPorts), of(l.Sources)}
}

// connectionShare is the part of Global.Descriptors that is left for connections of clients. Health
// checks and agent checks get the rest. Each connection of a client needs two descriptors, so
// maxconn is at least a quarter of the descriptors.
const connectionShare = 0.5

// cost says how much of each limit some routes use together.
type cost struct {
	routes, servers, agentPorts, sources int
	checks                               float64 // checks a second
	descriptors                          int
}

func (c *cost) add(o cost) {
	c.routes += o.routes
	c.servers += o.servers
	c.agentPorts += o.agentPorts
	c.sources += o.sources
	c.checks += o.checks
	c.descriptors += o.descriptors
}

// The method "over" returns the first limit that the cost c exceeds, as text for the operator, and
// the field of routes that the operator has to change. Both are empty if c exceeds no limit. l are
// the limits of the operator. descriptors limits the file descriptors for checks; 0 means no limit.
func (c cost) over(l Limits, descriptors int) (field, limit string) {
	switch {
	case c.routes > l.Routes:
		return "routes", fmt.Sprintf("%d routes", l.Routes)
	case c.servers > l.Servers:
		return "backends", fmt.Sprintf("%d servers", l.Servers)
	case c.checks > float64(l.Checks):
		return "check", fmt.Sprintf("%d checks a second", l.Checks)
	case c.agentPorts > l.AgentPorts:
		return "backends", fmt.Sprintf("%d agent ports", l.AgentPorts)
	case c.sources > l.Sources:
		return "limits.source", fmt.Sprintf("%d sources in tables", l.Sources)
	case descriptors > 0 && c.descriptors > descriptors:
		return "check", fmt.Sprintf("%d descriptors for checks", descriptors)
	}
	return "", ""
}

// limiter decides which routes of a table fit into the limits. From the numbers of routes, services
// and nodes, it computes what a route needs, so Build need not make servers first.
type limiter struct {
	builder     *Builder
	services    map[routes.Ref]service
	file, edge  Limits
	descriptors int // the number of descriptors for checks; 0 for any number

	files   map[string]*account // the accounts of the files, by name of the file
	total   account
	refused map[routes.Ref]bool // services whose new agent port exceeds a limit
}

// service contains two properties of a service that determine how much each backend with this
// service costs.
type service struct {
	nodes int
	agent bool
}

// account contains what the admitted routes need together. If several routes share a backend or an
// agent port, the shared backend or agent port counts once.
type account struct {
	cost
	backends map[string]bool
	agents   map[routes.Ref]bool
}

func newAccount() account { return account{backends: map[string]bool{}, agents: map[routes.Ref]bool{}} }

// admit returns the routes of the table that HAProxy can serve within the limits, and a problem for
// each other route. A route that HAProxy already serves stays in any case.
//
// Such a route can exceed a limit because its services have a new agent port. Then admit sets
// AgentPort to 0 in the upstreams of the route, and returns a problem, so that HAProxy serves the
// route without agent checks.
func (b *Builder) admit(groups edge.Groups, upstreams []edge.Upstream) (routes.Table, []Problem) {
	l := limiter{
		builder: b, services: make(map[routes.Ref]service, len(upstreams)),
		files: map[string]*account{}, total: newAccount(), refused: map[routes.Ref]bool{},
	}
	l.edge = b.EdgeLimits.Or(DefaultEdgeLimits)
	l.file = b.FileLimits.Or(l.edge)
	for i := range upstreams {
		l.services[upstreams[i].Ref] = service{len(upstreams[i].Nodes), upstreams[i].AgentPort != 0}
	}
	if g := b.Edge.Global; g.Descriptors > 0 && g.MaxConn == 0 {
		l.descriptors = max(1, int(float64(g.Descriptors)*(1-connectionShare))-b.fixedDescriptors(upstreams))
	}
	if l.fits(groups) {
		return groups.Table(), nil
	}
	table, problems := l.choose(groups.Table())
	for i := range upstreams {
		if l.refused[upstreams[i].Ref] {
			upstreams[i].AgentPort = 0
		}
	}
	return table, problems
}

// fixedDescriptors is the number of file descriptors that HAProxy needs for everything except
// client connections and declared checks, for example for listeners and for the checks of the
// nodes.
func (b *Builder) fixedDescriptors(upstreams []edge.Upstream) int {
	empty, _ := b.Edge.Config(routes.Table{}, nil)
	nodes, clusters := map[edge.Node]bool{}, map[string]bool{}
	for i := range upstreams {
		for _, n := range upstreams[i].Nodes {
			nodes[n], clusters[upstreams[i].Ref.Cluster] = true, true
		}
	}
	return empty.ReservedDescriptors() + 3*(len(nodes)+len(clusters)*b.Edge.Spares()) // one for a health check and two for an agent check, see ReservedDescriptors
}

// fits reports whether all routes of the table fit into the limits. It counts the servers of each
// route separately. Routes that share a backend need fewer servers than that, so fits may return
// false although the routes fit.
func (l *limiter) fits(groups edge.Groups) bool {
	costs := make([]cost, groups.Len())
	for i := range costs {
		r := groups.First(i)
		costs[i] = l.cost(r)
		for _, b := range r.Backends {
			if l.services[b.Ref].agent {
				costs[i].agentPorts++
			}
		}
	}
	files := map[string]*cost{}
	var total cost
	var file string
	var ofFile *cost // of the file
	declared := groups.Table().Routes()
	for i := range declared {
		if name := declared[i].Position.File; ofFile == nil || name != file {
			file, ofFile = name, files[name]
			if ofFile == nil {
				ofFile = new(cost)
				files[name] = ofFile
			}
		}
		c := costs[groups.Of(i)]
		ofFile.add(c)
		total.add(c)
	}
	for _, f := range files {
		if _, what := f.over(l.file, 0); what != "" {
			return false
		}
	}
	_, what := total.over(l.edge, l.descriptors)
	return what == ""
}

// cost returns what a route needs if it shares no backend with another route. It does not count
// agent ports.
func (l *limiter) cost(r *routes.Route) cost {
	e := &l.builder.Edge
	c := cost{routes: 1 + len(r.Prefer)} // HAProxy has a map entry for each route and each preference
	agents, checked := 0, 0
	for _, b := range r.Backends {
		s := l.services[b.Ref]
		c.servers += s.nodes
		if s.agent || r.Check != nil && e.NodeHealth != edge.KubeProxyOnly {
			agents += s.nodes
		}
	}
	// Each server is also in the backends of PartsMap and PreferMap, see Edge.Config.
	if times := 1 + edge.PartsPerServer(r); times > 1 {
		c.servers, agents = times*c.servers, times*agents
	}
	if r.Check != nil {
		checked = c.servers
		c.checks = float64(checked) / cmp.Or(r.Check.Interval, e.CheckInterval, 2*time.Second).Seconds()
	}
	c.checks += float64(agents) / cmp.Or(e.AgentInterval, 2*time.Second).Seconds()
	c.descriptors = checked + 2*agents
	if r.Limits.Source != (routes.Limit{}) {
		c.sources = haproxycfg.TableSources
	}
	return c
}

// shared returns what a route adds to the costs in an account. A backend or an agent port that the
// route shares with a route of the account adds nothing, because it is in the account already.
func (a *account) shared(l *limiter, r *routes.Route, key string) cost {
	c := cost{routes: 1}
	if !a.backends[key] {
		c = l.cost(r)
	}
	for _, b := range r.Backends {
		if l.services[b.Ref].agent && !a.agents[b.Ref] {
			c.agentPorts++
		}
	}
	return c
}

func (a *account) admit(l *limiter, r *routes.Route, key string) {
	a.add(a.shared(l, r, key))
	a.backends[key] = true
	for _, b := range r.Backends {
		if l.services[b.Ref].agent {
			a.agents[b.Ref] = true
		}
	}
}

// candidate is a route of a table with its rank:
//
//   - 0 if the route is in force,
//   - 1 if the path is in force, but with other services or settings, or without servers,
//   - 2 if the path is new.
type candidate struct {
	*routes.Route
	backend, key string // the name of the backend in force, or "", and the key that all routes of the backend have
	rank         int
}

// maxLimitProblems is the largest number of problems for one file and one limit. If a file has more
// routes that exceed the limit, choose adds one further problem, which contains the number of these
// other routes.
const maxLimitProblems = 20

// choose decides which routes HAProxy serves within the limits. It counts first the routes in
// force, which always stay, then the changed routes, and last the new routes, each in the order of
// file and line. It leaves out a route that would exceed a limit.
func (l *limiter) choose(table routes.Table) (routes.Table, []Problem) {
	var inForce deploy.InForce
	if l.builder.InForce != nil {
		inForce = l.builder.InForce(edge.Router)
	}
	declared := table.Routes()
	candidates := make([]candidate, len(declared))
	for i := range declared {
		c := candidate{Route: &declared[i], rank: 2}
		_, c.key = l.builder.Edge.BackendOf(c.Route)
		if backend, ok := inForce.Backend(c.Host, c.Path, c.Exact); ok {
			c.backend = backend
			if c.rank = 1; l.builder.Edge.IsBackendOf(c.Route, backend) && inForce.Servers(backend) > 0 {
				c.rank = 0
			}
		}
		candidates[i] = c
	}
	slices.SortStableFunc(candidates, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), strings.Compare(a.Position.File, b.Position.File), cmp.Compare(a.Position.Line, b.Position.Line))
	})
	var problems []Problem
	type cause struct{ file, of, what string }
	more := map[cause]int{}
	out := map[*routes.Route]bool{}
	for _, c := range candidates {
		file := l.files[c.Position.File]
		if file == nil {
			a := newAccount()
			file = &a
			l.files[c.Position.File] = file
		}
		field, of, what := l.over(file, c)
		if c.rank == 0 && what != "" && !inForce.HasAgents(c.backend) {
			for _, b := range c.Backends {
				if s := l.services[b.Ref]; s.agent {
					l.services[b.Ref] = service{nodes: s.nodes}
					l.refused[b.Ref] = true
					problems = append(problems, Problem{
						File: c.Position.File, Line: c.Position.Line, Field: "backends",
						Message: fmt.Sprintf("the agent port of %s is left out: with it, %s would have more than %s", b.Ref, of, what),
					})
				}
			}
		}
		if c.rank > 0 {
			if what != "" {
				out[c.Route] = true
				k := cause{c.Position.File, of, what}
				if more[k]++; more[k] <= maxLimitProblems {
					problems = append(problems, Problem{
						File: c.Position.File, Line: c.Position.Line, Field: field,
						Message: fmt.Sprintf("%s%s is left out: with it, %s would have more than %s", c.Host, c.Path, of, what),
					})
				}
				continue
			}
		}
		file.admit(l, c.Route, c.key)
		l.total.admit(l, c.Route, c.key)
	}
	first := len(problems)
	for k, n := range more {
		if n > maxLimitProblems {
			problems = append(problems, Problem{
				File: k.file, Field: "routes",
				Message: fmt.Sprintf("%d more routes are left out: with them, %s would have more than %s", n-maxLimitProblems, k.of, k.what),
			})
		}
	}
	slices.SortFunc(problems[first:], func(a, b Problem) int { return strings.Compare(a.Message, b.Message) })
	return table.Without(func(r *routes.Route) bool { return out[r] }), problems
}

// The method "over" checks whether the route c would exceed a limit of its file or of the whole
// edge. If so, the result "limit" is a text that describes the limit, "owner" says whose limit it
// is ("its file" or "the edge"), and "field" is the name of the field of the route that causes the
// cost. If not, "limit" is empty.
func (l *limiter) over(file *account, c candidate) (field, owner, limit string) {
	if field, limit = sum(file.cost, file.shared(l, c.Route, c.key)).over(l.file, 0); limit != "" {
		return field, "its file", limit
	}
	field, limit = sum(l.total.cost, l.total.shared(l, c.Route, c.key)).over(l.edge, l.descriptors)
	return field, "the edge", limit
}

func sum(a, b cost) cost {
	a.add(b)
	return a
}
