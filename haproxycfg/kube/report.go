package kube

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
)

// Report says what was built and what was not, and why. It is meant to be kept as
// JSON beside the configuration. The same input gives the same report: it holds no
// times but those that are given to it.
type Report struct {
	// Problems are sorted by file and line, then by cluster and object.
	Problems []Problem `json:"problems"`
	// Clusters are sorted by name.
	Clusters []ClusterReport `json:"clusters"`
	// Services are sorted by reference. Those that could not be resolved are not
	// among them.
	Services []ServiceReport `json:"services"`
	// Changes are what was changed last, and why, if whoever keeps the report
	// says so. Build leaves it nil.
	Changes *Changes `json:"changes,omitempty"`
	// Refused is the change that is not in force because it is larger than is
	// allowed at once, if there is one. Build leaves it nil.
	Refused *Changes `json:"refused,omitempty"`
	// Budget is what checking all that costs.
	Budget Budget `json:"budget"`
}

// Problem is one fault, and where it is. It is an error.
type Problem struct {
	// File and Line are the place in a declaration or manifest, if it is known.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	// Cluster and Object name what is at fault in a cluster, if anything is.
	Cluster string `json:"cluster,omitempty"`
	Object  string `json:"object,omitempty"`
	// Field is the path of the field at fault, if it is known.
	Field   string `json:"field,omitempty"`
	Message string `json:"message"`
	// Warning is true if nothing was left out because of the problem.
	Warning bool `json:"warning,omitempty"`
}

// Error gives "file:line: cluster: object: field: message" with the parts that
// are known.
func (p Problem) Error() string {
	place := p.File
	if place != "" && p.Line > 0 {
		place += ":" + strconv.Itoa(p.Line)
	}
	parts := slices.DeleteFunc([]string{place, p.Cluster, p.Object, p.Field, p.Message}, func(s string) bool { return s == "" })
	return strings.Join(parts, ": ")
}

// ClusterReport is what was seen of the nodes of a cluster.
type ClusterReport struct {
	Name         string       `json:"name"`
	Connectivity Connectivity `json:"contact,omitzero"`
	// Total, Eligible and so on count the cluster's nodes by verdict.
	Total    int `json:"total"`
	Eligible int `json:"eligible"`
	Avoid    int `json:"avoid"`
	Excluded int `json:"excluded"`
	Unusable int `json:"unusable"`
	// Findings give the reason for every node that is not eligible, by name.
	Findings []nodeselect.Finding `json:"findings"`
	// Nodes are those that serve anything, by name.
	Nodes []NodeReport `json:"nodes"`
}

// NodeReport is a node that serves something.
type NodeReport struct {
	Name     string     `json:"name"`
	Addr     netip.Addr `json:"addr"`
	Zone     string     `json:"zone,omitempty"`
	Identity string     `json:"identity"`
	// Services is the number of services that have the node in their subset.
	// Subsets are chosen by hash, so it varies from node to node; give services
	// enough nodes to bear it.
	Services int `json:"services"`
}

// ServiceReport is one service port that routes name.
type ServiceReport struct {
	routes.Ref
	NodePort  uint16 `json:"nodePort"`
	AgentPort uint16 `json:"agentPort,omitempty"`
	// Weight is the annotated one, in percent, as agents will answer it.
	Weight int `json:"weight"`
	// Nodes are the names of the subset, sorted.
	Nodes []string `json:"nodes"`
}

// Subsets returns the subsets of a cluster that a report holds, to be given back
// as Cluster.Current.
func (r Report) Subsets(cluster string) nodeselect.Subsets {
	nodes := map[string]nodeselect.Node{}
	for _, c := range r.Clusters {
		if c.Name != cluster {
			continue
		}
		for _, n := range c.Nodes {
			nodes[n.Name] = nodeselect.Node{Name: n.Name, Addr: n.Addr, Zone: n.Zone, Identity: n.Identity}
		}
	}
	subsets := nodeselect.Subsets{}
	for _, s := range r.Services {
		if s.Cluster != cluster {
			continue
		}
		subset := make([]nodeselect.Node, 0, len(s.Nodes))
		for _, name := range s.Nodes {
			if n, ok := nodes[name]; ok {
				subset = append(subset, n)
			}
		}
		subsets[nodeRef(s.Ref).Key()] = subset
	}
	return subsets
}

// AddRoutes adds the problems of declarations to the report.
func (r *Report) AddRoutes(problems []routes.Problem) {
	for _, p := range problems {
		r.add(Problem{File: p.File, Line: p.Line, Field: p.Field, Message: p.Message})
	}
	r.sort()
}

// AddManifests adds the problems of a cluster's manifests to the report.
func (r *Report) AddManifests(cluster string, problems []nodeselect.Problem) {
	for _, p := range problems {
		r.add(problemOf(cluster, p))
	}
	r.sort()
}

func problemOf(cluster string, p nodeselect.Problem) Problem {
	return Problem{
		File: p.File, Line: p.Line, Cluster: cluster, Object: p.Object,
		Field: p.Field, Message: p.Message, Warning: p.Warning,
	}
}

func (r *Report) add(p Problem) { r.Problems = append(r.Problems, p) }

func (r *Report) addSelection(c Cluster, s nodeselect.Selection) {
	for _, p := range s.Problems {
		r.add(problemOf(c.Name, p))
	}
	cluster := ClusterReport{
		Name: c.Name, Connectivity: c.Connectivity, Total: cmp.Or(len(c.Objects.Nodes), c.Total),
		Findings: append([]nodeselect.Finding{}, s.Findings...),
	}
	for _, f := range s.Findings {
		switch f.Verdict {
		case nodeselect.Avoid:
			cluster.Avoid++
		case nodeselect.Excluded:
			cluster.Excluded++
		case nodeselect.Unusable:
			cluster.Unusable++
		}
	}
	cluster.Eligible = cluster.Total - len(s.Findings)
	cluster.Nodes = nodesInUse(s)
	r.Clusters = append(r.Clusters, cluster)

	for _, t := range s.Targets {
		service := ServiceReport{
			Ref:       routeRef(c.Name, t.Ref),
			NodePort:  t.NodePort,
			AgentPort: t.AgentPort,
			Weight:    t.WeightPercent,
			Nodes:     make([]string, len(t.Nodes)),
		}
		for i, n := range t.Nodes {
			service.Nodes[i] = n.Name
		}
		r.Services = append(r.Services, service)
	}
}

// nodesInUse counts for each node the services, not the ports, that have it.
func nodesInUse(s nodeselect.Selection) []NodeReport {
	nodes := []NodeReport{}
	index := map[string]int{} // by identity, which no two nodes of a selection share
	for _, subset := range s.Subsets() {
		for i := range subset {
			n := &subset[i]
			at, ok := index[n.Identity]
			if !ok {
				at = len(nodes)
				index[n.Identity] = at
				nodes = append(nodes, NodeReport{Name: n.Name, Addr: n.Addr, Zone: n.Zone, Identity: n.Identity})
			}
			nodes[at].Services++
		}
	}
	slices.SortFunc(nodes, func(a, b NodeReport) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Identity, b.Identity))
	})
	return nodes
}
