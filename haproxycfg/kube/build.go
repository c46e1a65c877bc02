package kube

import (
	"cmp"
	"slices"
	"time"

	"github.com/headgate/headgate/haproxycfg"
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
}

// Builder says how clusters and routes become a configuration. It holds values
// only and may be used by several goroutines at once.
type Builder struct {
	Edge     haproxycfg.Edge
	Selector nodeselect.Selector
	// Terminators is how many HAProxy processes run the configuration; 0 means 1.
	// Only Report.Budget depends on it.
	Terminators int
}

// Build returns the configuration that serves a table from clusters, and the
// report on it. Nodes are judged as of now.
//
// A cluster that routes name and that is not given is a problem, and so is each
// route to it; of two clusters of one name the first counts.
func (b Builder) Build(table routes.Table, clusters []Cluster, now time.Time) (*haproxycfg.Config, Report) {
	report := Report{Problems: []Problem{}, Clusters: []ClusterReport{}, Services: []ServiceReport{}}
	refs := refsByCluster(table)
	// The node agent answers on its port, whatever a Service is annotated with.
	selector := b.Selector
	selector.Reserved = append(slices.Clip(selector.Reserved), cmp.Or(b.Edge.NodeAgentPort, haproxycfg.DefaultNodeAgentPort))
	var upstreams []haproxycfg.Upstream
	known := map[string]bool{}
	for _, c := range clusters {
		if known[c.Name] {
			report.add(Problem{Cluster: c.Name, Message: "the cluster is given twice; the first counts"})
			continue
		}
		known[c.Name] = true
		selection := selector.Select(c.Objects, refs[c.Name], now, c.Current)
		report.addSelection(c, selection)
		for _, target := range selection.Targets {
			upstreams = append(upstreams, upstreamOf(c.Name, target))
		}
	}
	for name := range refs {
		if !known[name] {
			report.add(Problem{Cluster: name, Message: "routes name this cluster, and it is not given"})
		}
	}
	config, problems := b.Edge.Config(table, upstreams)
	for _, p := range problems {
		report.add(Problem{File: p.File, Line: p.Line, Field: p.Field, Message: p.Message})
	}
	report.Budget = b.budget(config, table, upstreams, &report)
	report.sort()
	return config, report
}

// refsByCluster returns what each cluster is asked for.
func refsByCluster(table routes.Table) map[string][]nodeselect.Ref {
	refs := map[string][]nodeselect.Ref{}
	for _, r := range table.Refs() {
		refs[r.Cluster] = append(refs[r.Cluster], nodeselect.Ref{Namespace: r.Namespace, Service: r.Service, Port: r.Port})
	}
	return refs
}

func upstreamOf(cluster string, t nodeselect.Target) haproxycfg.Upstream {
	u := haproxycfg.Upstream{
		Ref:       routes.Ref{Cluster: cluster, Namespace: t.Namespace, Service: t.Service, Port: t.Port},
		NodePort:  t.NodePort,
		AgentPort: t.AgentPort,
		Nodes:     make([]haproxycfg.Node, len(t.Nodes)),
	}
	for i, n := range t.Nodes {
		u.Nodes[i] = haproxycfg.Node{Name: n.Name, Addr: n.Addr}
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
