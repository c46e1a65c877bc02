package explain

import (
	"slices"
	"strings"

	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
)

// service returns a service of a route with its nodes, and the Upstream from which package edge
// makes the servers of the service.
func (in Input) service(b routes.Backend) (Service, edge.Upstream) {
	s := Service{Ref: b.Ref, Weight: b.Weight, Nodes: []Node{}, Unused: []Node{}}
	upstream := edge.Upstream{Ref: b.Ref, Unresolved: true}
	cluster, known := in.cluster(b.Cluster)
	report, reported := in.clusterReport(b.Cluster)
	s.Connectivity = report.Connectivity
	if known {
		s.Connectivity = cluster.Connectivity
	}
	ref := nodeselect.Ref{Namespace: b.Namespace, Service: b.Service, Port: b.Port}
	i, found := slices.BinarySearchFunc(in.Report.Services, b.Ref, func(r kube.ServiceReport, ref routes.Ref) int { return r.Ref.Compare(ref) })
	if !found {
		s.Missing = in.missing(ref, cluster, known, reported)
		return s, upstream
	}
	r := in.Report.Services[i]
	s.NodePort, s.AgentPort, s.ServiceWeight = r.NodePort, r.AgentPort, r.WeightPercent
	upstream = edge.Upstream{Ref: b.Ref, NodePort: r.NodePort, AgentPort: r.AgentPort}
	chosen := nodesOf(report, r)
	for _, n := range chosen {
		upstream.Nodes = append(upstream.Nodes, edge.Node{Name: n.Name, Addr: n.Addr, Weight: n.Weight})
	}
	if len(chosen) == 0 {
		s.Missing = "no node of the cluster can be used"
	}
	if len(cluster.Objects.Nodes) > 0 && !in.Time.IsZero() {
		s.addChoices(in.Builder.NodeSelector().Explain(cluster.Objects, ref, in.Time, chosen), chosen)
	} else {
		s.addReported(report, chosen)
	}
	return s, upstream
}

// missing says why the configuration has no servers for the service.
func (in Input) missing(ref nodeselect.Ref, cluster kube.Cluster, known, reported bool) string {
	switch {
	case !known && !reported:
		return "the cluster is not given"
	case cluster.Connectivity.State == kube.Never:
		return strings.TrimSuffix("the cluster has never answered: "+cluster.Connectivity.Reason, ": ")
	case len(cluster.Objects.Nodes)+len(cluster.Objects.Services) == 0:
		return "the last known state of the cluster does not have the service port"
	}
	target, problems := in.Builder.NodeSelector().Annotations.Resolve(cluster.Objects, ref)
	if target.NodePort == 0 && len(problems) > 0 {
		return problems[0].Error()
	}
	return "the service port is new, and the change is not in force yet"
}

func (in Input) cluster(name string) (kube.Cluster, bool) {
	for _, c := range in.Clusters {
		if c.Name == name {
			return c, true
		}
	}
	return kube.Cluster{}, false
}

func (in Input) clusterReport(name string) (kube.ClusterReport, bool) {
	for _, c := range in.Report.Clusters {
		if c.Name == name {
			return c, true
		}
	}
	return kube.ClusterReport{}, false
}

// nodesOf returns the nodes that the report lists for a service. They are sorted by name, as in the
// report.
func nodesOf(c kube.ClusterReport, s kube.ServiceReport) []nodeselect.Node {
	nodes := make([]nodeselect.Node, 0, len(s.Nodes))
	for i, name := range s.Nodes {
		at, ok := slices.BinarySearchFunc(c.Nodes, name, func(n kube.NodeReport, name string) int { return strings.Compare(n.Name, name) })
		if !ok {
			continue
		}
		n := c.Nodes[at]
		node := nodeselect.Node{Name: n.Name, Addr: n.Addr, Zone: n.Zone, Identity: n.Identity}
		if len(s.NodeWeights) == len(s.Nodes) {
			node.Weight = s.NodeWeights[i]
		}
		nodes = append(nodes, node)
	}
	return nodes
}

// addChoices adds all nodes of the cluster. The argument "chosen" contains the nodes in use. For
// these nodes, addChoices adds the addresses in "chosen", because HAProxy connects to these
// addresses even if a node has another address now.
func (s *Service) addChoices(c nodeselect.Choices, chosen []nodeselect.Node) {
	addrs := make(map[string]nodeselect.Node, len(chosen))
	for _, n := range chosen {
		addrs[n.Name] = n
	}
	for _, choice := range c.Nodes {
		n := Node{Choice: choice, Text: choice.Text(c)}
		if !choice.Chosen {
			s.Unused = append(s.Unused, n)
			continue
		}
		if n.Addr = addrs[choice.Node].Addr; choice.Addr.IsValid() && choice.Addr != n.Addr {
			n.Text += "; its address is now " + choice.Addr.String() + ", and the change is not in force yet"
		}
		s.Nodes = append(s.Nodes, n)
	}
}

// addReported adds the nodes that the report names. The argument "chosen" contains the nodes in
// use, and c.Findings contains each node that is not Eligible, with the reason.
func (s *Service) addReported(c kube.ClusterReport, chosen []nodeselect.Node) {
	used := make(map[string]bool, len(chosen))
	for _, n := range chosen {
		used[n.Name] = true
		s.Nodes = append(s.Nodes, Node{
			Choice: nodeselect.Choice{Node: n.Name, Addr: n.Addr, Zone: n.Zone, Chosen: true, Why: nodeselect.Kept},
			Text:   "in use as the report says; the objects of the cluster are unknown",
		})
	}
	for _, f := range c.Findings {
		if used[f.Node] {
			i := slices.IndexFunc(s.Nodes, func(n Node) bool { return n.Node == f.Node })
			s.Nodes[i].Verdict, s.Nodes[i].Detail = f.Verdict, f.Reason
			s.Nodes[i].Text += ": " + f.Reason
			continue
		}
		why := [...]nodeselect.Why{nodeselect.Outranked, nodeselect.Avoided, nodeselect.IsExcluded, nodeselect.IsUnusable}[min(f.Verdict, nodeselect.Unusable)]
		choice := nodeselect.Choice{Node: f.Node, Why: why, Verdict: f.Verdict, Detail: f.Reason}
		s.Unused = append(s.Unused, Node{Choice: choice, Text: choice.Text(nodeselect.Choices{})})
	}
	s.Unknown = max(0, c.Total-len(s.Nodes)-len(s.Unused))
}
