package kube

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
)

// Cluster is the state of one cluster.
type Cluster struct {
	// Name is the name by which routes refer to the cluster.
	Name    string
	Objects nodeselect.Objects
	// Current contains the nodes that each service uses now; nil means none or unknown. Build may
	// keep such a node although another node ranks better, so that fewer servers change; see
	// nodeselect.Pool.Pick.
	Current nodeselect.Subsets
	// Selection, if not nil, is a selection of nodes for the services, for example from a watcher of
	// the cluster or from an earlier report ([Report.Selection]). If Selection is nil, Build selects
	// the nodes of all services from Objects. If not, Build reads Objects for two purposes: to report
	// why a service is missing, and to select nodes for services that Selection does not contain.
	Selection *nodeselect.Selection
	// Total is the number of nodes of the cluster for the report. Build uses it only if Objects
	// contains no nodes. Otherwise Build counts the nodes in Objects.
	Total int
	// Connectivity says whether the cluster answers. Build writes it to the report. If its State is
	// Never, Build ignores Objects and Selection.
	Connectivity Connectivity
}

// Builder makes a configuration from routes and clusters. Several goroutines may use it at the same
// time.
type Builder struct {
	Edge     edge.Edge
	Selector nodeselect.Selector
	// Terminators is the number of HAProxy processes that run the configuration; 0 means 1. It
	// affects only Report.Budget.
	Terminators int
	// FileLimits limit what each file of declarations may add to the configuration. If a field is
	// 0, the same field of EdgeLimits applies.
	FileLimits Limits
	// EdgeLimits limit what all files of declarations together may add. If a field is 0, the same
	// field of DefaultEdgeLimits applies. If Descriptors in Edge.Global is set and MaxConn is not,
	// Build also limits declarations so that at least half of the descriptors are left for
	// connections.
	EdgeLimits Limits
	// InForce, if not nil, returns the paths and backends of the configuration in force. The argument
	// contains the names of the maps in which HAProxy finds a path. Build calls InForce only if the
	// routes exceed a limit, and then keeps each route in force. A route is in force if its path
	// already leads to the same backend, and this backend has servers.
	InForce func(haproxycfg.Router) deploy.InForce
	// Groups, if not nil, remembers facts about the table of the last Build. It has no influence on
	// the results. If the next table has nearly the same routes, Build takes less time.
	Groups *edge.Grouper
}

// Build returns the configuration that serves a table of routes from clusters, and a report.
// nodeselect decides at the time "now" which nodes can be used.
//
// Build reports one problem for each service without node port or nodes, at the first route that
// names the service. It also reports one problem for each cluster that is missing or has never
// answered. If two clusters have the same name, Build uses the first and reports the second.
func (b Builder) Build(table routes.Table, clusters []Cluster, now time.Time) (*haproxycfg.Config, Report) {
	config, report, budget := b.BuildFirst(table, clusters, now)
	report.Budget = budget()
	return config, report
}

// BuildFirst is Build without Report.Budget, so that a configuration can be in force before somebody
// counts its checks. The result "budget" is a function that counts the checks and returns the Budget.
// Call budget once, before you change the Config.
func (b Builder) BuildFirst(table routes.Table, clusters []Cluster, now time.Time) (config *haproxycfg.Config, report Report, budget func() Budget) {
	report = Report{Problems: []Problem{}, Clusters: []ClusterReport{}, Services: []ServiceReport{}}
	groups, declared := b.Groups.Group(table), table
	refs := RefsOf(groups)
	named := sync.OnceValue(func() places { return placesOf(declared) }) // only problems need places
	selector := b.NodeSelector()
	var upstreams, unresolved []edge.Upstream
	appProtocols := map[routes.Ref]string{} // only ports that have an appProtocol
	given := map[string]bool{}
	for _, c := range clusters {
		if given[c.Name] {
			report.add(Problem{Cluster: c.Name, Message: "the cluster is given twice; the first counts"})
			continue
		}
		given[c.Name] = true
		selection := c.selectRefs(selector, refs[c.Name], now)
		report.addSelection(c, selection.Selection)
		for _, target := range selection.Targets {
			upstreams = append(upstreams, upstreamOf(c.Name, target))
			if target.AppProtocol != "" {
				appProtocols[routeRef(c.Name, target.Ref)] = target.AppProtocol
			}
		}
		switch c.Connectivity.State {
		case Never:
			report.add(named().clusters[c.Name].locate(c.Connectivity.problem(c.Name)))
		case LastKnown:
			report.add(c.Connectivity.problem(c.Name))
		}
		for _, u := range selection.unresolved {
			ref := routeRef(c.Name, u.ref)
			unresolved = append(unresolved, edge.Upstream{Ref: ref, Unresolved: true})
			if c.Connectivity.State != Never { // the problem of the cluster covers all its services
				report.add(named().refs[ref].locate(problemOf(c.Name, u.problem)))
			}
		}
	}
	for name, missing := range refs {
		if given[name] {
			continue
		}
		report.add(named().clusters[name].locate(Problem{Cluster: name, Message: "the cluster is not given"}))
		for _, r := range missing {
			unresolved = append(unresolved, edge.Upstream{Ref: routeRef(name, r), Unresolved: true})
		}
	}
	admitted, refused := b.admit(groups, upstreams)
	if len(refused) > 0 {
		groups = edge.GroupRoutes(admitted) // not b.Groups, which remembers the declared table
	}
	report.Problems = append(report.Problems, refused...)
	report.addWeightless(groups)
	report.addProtocols(admitted, appProtocols)
	config, unserved := b.Edge.ConfigOf(groups, slices.Concat(upstreams, unresolved))
	for _, p := range unserved {
		report.add(Problem{File: p.File, Line: p.Line, Field: p.Field, Message: p.Message})
	}
	if g := b.Edge.Global; g.MaxConn == 0 && g.Descriptors > 0 && g.Descriptors-config.ReservedDescriptors() < g.Descriptors/2 {
		report.add(Problem{Warning: true, Message: fmt.Sprintf(
			"maxconn is %d, which is less than a quarter of %d descriptors: nodes and checks in force need the others", config.MaxConn(), g.Descriptors)})
	}
	report.sort()
	reported := report.Clusters
	return config, report, func() Budget { return b.budget(config, groups, upstreams, reported) }
}

// NodeSelector returns the selector that Build uses: a copy of Selector whose reserved ports also
// contain the port of the node agents. If a program makes a Cluster.Selection, it must use this
// selector too.
func (b Builder) NodeSelector() nodeselect.Selector {
	s := b.Selector
	// The node agent listens on this port, so no annotation of a Service may assign it.
	s.Reserved = append(slices.Clip(s.Reserved), cmp.Or(b.Edge.NodeAgentPort, edge.DefaultNodeAgentPort))
	return s
}

// Refs returns the service ports that a table names. The keys of the map are the names of the
// clusters.
func Refs(table routes.Table) map[string][]nodeselect.Ref { return RefsOf(edge.GroupRoutes(table)) }

// RefsOf returns the same as Refs for the table of the groups.
func RefsOf(groups edge.Groups) map[string][]nodeselect.Ref {
	refs := map[string][]nodeselect.Ref{}
	for _, r := range groups.FirstRoutes().Refs() {
		refs[r.Cluster] = append(refs[r.Cluster], nodeRef(r))
	}
	return refs
}

// routeRef returns r as a routes.Ref, with the name of the cluster.
func routeRef(cluster string, r nodeselect.Ref) routes.Ref {
	return routes.Ref{Cluster: cluster, Namespace: r.Namespace, Service: r.Service, Port: r.Port}
}

// nodeRef returns r as a nodeselect.Ref, without the name of the cluster.
func nodeRef(r routes.Ref) nodeselect.Ref {
	return nodeselect.Ref{Namespace: r.Namespace, Service: r.Service, Port: r.Port}
}

func upstreamOf(cluster string, t nodeselect.Target) edge.Upstream {
	u := edge.Upstream{
		Ref:       routeRef(cluster, t.Ref),
		NodePort:  t.NodePort,
		AgentPort: t.AgentPort,
		Nodes:     make([]edge.Node, len(t.Nodes)),
	}
	for i, n := range t.Nodes {
		u.Nodes[i] = edge.Node{Name: n.Name, Addr: n.Addr, Weight: n.Weight}
	}
	return u
}

// selection contains the nodes of one cluster that were selected for the service ports in the
// routes.
type selection struct {
	nodeselect.Selection // without the problems of unresolved
	unresolved           []unresolvedRef
}

// unresolvedRef is a ref without a target.
type unresolvedRef struct {
	ref     nodeselect.Ref
	problem nodeselect.Problem // the reason
}

// selectRefs returns the nodes of each service port in refs. For a service port that c.Selection
// contains, these are the nodes in c.Selection. For all other ports, selectRefs selects nodes.
func (c Cluster) selectRefs(selector nodeselect.Selector, refs []nodeselect.Ref, now time.Time) selection {
	var s selection
	switch {
	case c.Connectivity.State == Never:
		c.Selection = &nodeselect.Selection{}
	case c.Selection == nil:
		s.Selection = selector.Select(c.Objects, refs, now, c.Current)
	default:
		s.Selection = *c.Selection
		s.Targets = make([]nodeselect.Target, 0, len(refs))
		existing := targetsByRef(c.Selection.Targets)
		var others []nodeselect.Ref
		for _, ref := range refs {
			if t, ok := existing[ref]; ok {
				s.Targets = append(s.Targets, t)
			} else if t, _ := selector.Annotations.Resolve(c.Objects, ref); t.NodePort != 0 {
				others = append(others, ref)
			}
		}
		if len(others) > 0 { // these are the refs that routes name only since somebody made the selection
			s.Targets = append(s.Targets, selector.Select(c.Objects, others, now, c.Current).Targets...)
		}
	}
	if len(s.Targets) < len(refs) {
		s.findUnresolved(selector.Annotations, c, refs)
	}
	return s
}

func targetsByRef(targets []nodeselect.Target) map[nodeselect.Ref]nodeselect.Target {
	m := make(map[nodeselect.Ref]nodeselect.Target, len(targets))
	for _, t := range targets {
		m[t.Ref] = t
	}
	return m
}

// findUnresolved finds the refs for which the cluster has no nodes. It adds each such ref with its
// problem to s.unresolved. It removes the problem from s.Problems, because Build reports the
// problem at the routes that name the service.
func (s *selection) findUnresolved(annotations nodeselect.Annotations, c Cluster, refs []nodeselect.Ref) {
	resolved := targetsByRef(s.Targets)
	moved := map[nodeselect.Problem]bool{}
	for _, ref := range refs {
		if _, ok := resolved[ref]; ok {
			continue
		}
		p := nodeselect.Problem{Object: "Service " + ref.Key(), Message: "its last known state does not have it"}
		if c.Selection == nil || c.hasObjects() {
			if _, problems := annotations.Resolve(c.Objects, ref); len(problems) > 0 {
				p = problems[0]
			}
		}
		moved[p] = true
		s.unresolved = append(s.unresolved, unresolvedRef{ref, p})
	}
	var kept []nodeselect.Problem // s.Problems may belong to the caller of Build.
	for _, p := range s.Problems {
		if !moved[p] {
			kept = append(kept, p)
		}
	}
	s.Problems = kept
}

func (c Cluster) hasObjects() bool { return len(c.Objects.Nodes)+len(c.Objects.Services) > 0 }

// places are the positions in declarations at which routes name clusters and services.
type places struct {
	clusters map[string]place
	refs     map[routes.Ref]place
}

// place is the first position, by file and line, at which a route names a cluster or service, and
// the number of routes that name it.
type place struct {
	routes.Position
	routes int
}

func placesOf(table routes.Table) places {
	declared := table.Routes()
	p := places{clusters: map[string]place{}, refs: make(map[routes.Ref]place, len(declared))}
	for _, r := range declared {
		for i, b := range r.Backends {
			p.refs[b.Ref] = p.refs[b.Ref].add(r.Position)
			if i == 0 || r.Backends[i-1].Cluster != b.Cluster { // Backends are sorted by cluster.
				p.clusters[b.Cluster] = p.clusters[b.Cluster].add(r.Position)
			}
		}
	}
	return p
}

func (p place) add(at routes.Position) place {
	if p.routes == 0 || at.File < p.File || at.File == p.File && at.Line < p.Line {
		p.Position = at
	}
	p.routes++
	return p
}

// locate adds a position to the problem: the position of the first route with this problem. If
// further routes have the same problem, locate adds their number to the message.
func (p place) locate(problem Problem) Problem {
	problem.File, problem.Line = p.File, p.Line
	switch {
	case p.routes == 2:
		problem.Message += "; another route names it too"
	case p.routes > 2:
		problem.Message += fmt.Sprintf("; %d more routes name it", p.routes-1)
	}
	return problem
}
