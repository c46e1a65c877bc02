package kube

import (
	"cmp"
	"slices"
	"time"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
)

// Cluster is one cluster at a moment.
type Cluster struct {
	// Name is the name by which routes refer to it.
	Name    string
	Objects nodeselect.Objects
	// Current are the subsets in use, nil if there are none or none are known.
	// They matter where nodeselect.Pool.Pick says so.
	Current nodeselect.Subsets
	// Selection, if not nil, is what Build would select from Objects, made already
	// by whoever follows the cluster, or in an earlier report: [Report.Selection].
	// Objects then serve to say why a service is missing, and for services that
	// were declared since.
	Selection *nodeselect.Selection
	// Total is the number of the cluster's nodes where Objects do not hold them; 0
	// means that they do.
	Total int
	// Connectivity says whether the cluster answers, and is reported. One that never
	// did has nothing else.
	Connectivity Connectivity
}

// Builder says how clusters and routes become a configuration. It holds values
// only and may be used by several goroutines at once.
type Builder struct {
	Edge     edge.Edge
	Selector nodeselect.Selector
	// Terminators is how many HAProxy processes run the configuration; 0 means 1.
	// Only Report.Budget depends on it.
	Terminators int
}

// Build returns the configuration that serves a table from clusters, and the
// report on it. Nodes are judged as of now.
//
// A service that routes name and that cannot be reached is one problem, at the first
// of these routes, and so is a cluster that is not given or has never answered. Of two
// clusters of one name the first counts.
func (b Builder) Build(table routes.Table, clusters []Cluster, now time.Time) (*haproxycfg.Config, Report) {
	report := Report{Problems: []Problem{}, Clusters: []ClusterReport{}, Services: []ServiceReport{}}
	refs, named := Refs(table), placesOf(table)
	selector := b.NodeSelector()
	var upstreams, absent []edge.Upstream
	known := map[string]bool{}
	for _, c := range clusters {
		if known[c.Name] {
			report.add(Problem{Cluster: c.Name, Message: "the cluster is given twice; the first counts"})
			continue
		}
		known[c.Name] = true
		selection := choose(selector, c, refs[c.Name], now)
		report.addSelection(c, selection.Selection)
		for _, target := range selection.Targets {
			upstreams = append(upstreams, upstreamOf(c.Name, target))
		}
		switch c.Connectivity.State {
		case Never:
			report.add(named.clusters[c.Name].say(c.Connectivity.problem(c.Name)))
		case LastKnown:
			report.add(c.Connectivity.problem(c.Name))
		}
		for _, a := range selection.absent {
			ref := routeRef(c.Name, a.Ref)
			absent = append(absent, edge.Upstream{Ref: ref, Unresolved: true})
			if c.Connectivity.State != Never { // of which that is said once for all
				report.add(named.refs[ref].say(problemOf(c.Name, a.Problem)))
			}
		}
	}
	for name, missing := range refs {
		if known[name] {
			continue
		}
		report.add(named.clusters[name].say(Problem{Cluster: name, Message: "the cluster is not given"}))
		for _, r := range missing {
			absent = append(absent, edge.Upstream{Ref: routeRef(name, r), Unresolved: true})
		}
	}
	config, problems := b.Edge.Config(table, slices.Concat(upstreams, absent))
	for _, p := range problems {
		report.add(Problem{File: p.File, Line: p.Line, Field: p.Field, Message: p.Message})
	}
	report.Budget = b.budget(config, table, upstreams, &report)
	report.sort()
	return config, report
}

// NodeSelector is the selector that Build uses, for whoever makes Cluster.Selection:
// Selector, with the port of the node agents reserved.
func (b Builder) NodeSelector() nodeselect.Selector {
	s := b.Selector
	// The node agent answers on its port, whatever a Service is annotated with.
	s.Reserved = append(slices.Clip(s.Reserved), cmp.Or(b.Edge.NodeAgentPort, edge.DefaultNodeAgentPort))
	return s
}

// Refs returns what a table asks each cluster for, by its name.
func Refs(table routes.Table) map[string][]nodeselect.Ref {
	refs := map[string][]nodeselect.Ref{}
	for _, r := range table.Refs() {
		refs[r.Cluster] = append(refs[r.Cluster], nodeRef(r))
	}
	return refs
}

// routeRef names the port of a service for routes, which also name its cluster.
func routeRef(cluster string, r nodeselect.Ref) routes.Ref {
	return routes.Ref{Cluster: cluster, Namespace: r.Namespace, Service: r.Service, Port: r.Port}
}

// nodeRef is the inverse of routeRef.
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
		u.Nodes[i] = edge.Node{Name: n.Name, Addr: n.Addr}
	}
	return u
}

// sort puts what a person looks for first to the front, and makes the report a
// function of what was built, not of the order in which clusters were given.
func (r *Report) sort() {
	slices.SortStableFunc(r.Clusters, func(a, b ClusterReport) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortStableFunc(r.Services, func(a, b ServiceReport) int { return a.Ref.Compare(b.Ref) })
	slices.SortStableFunc(r.Problems, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Cluster, b.Cluster),
			cmp.Compare(a.Object, b.Object),
			cmp.Compare(a.Field, b.Field),
		)
	})
}
