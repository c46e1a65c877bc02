package kube

import (
	"time"

	"github.com/headgate/headgate/nodeselect"
)

// Connectivity says whether the API server of a cluster answers. The zero Connectivity means that
// the API server answers.
type Connectivity struct {
	State State `json:"state,omitempty"`
	// Since is the time at which State last changed; the zero Time means unknown.
	Since time.Time `json:"since,omitzero"`
	// Reason says why the cluster does not answer. It is empty if the cluster answers.
	Reason string `json:"reason,omitempty"`
}

// State is the state of the connection to a cluster.
type State string

const (
	// Live means that the cluster answers. The empty State means the same.
	Live State = "live"
	// LastKnown means that the cluster does not answer, and that Build uses its last known state.
	LastKnown State = "last-known"
	// Never means that the cluster does not answer, and no earlier state is known. Its services
	// have no servers.
	Never State = "never"
)

// Unreachable reports whether the cluster does not answer.
func (c Connectivity) Unreachable() bool { return c.State == LastKnown || c.State == Never }

// problem returns the problem that the report contains for a cluster that does not answer.
func (c Connectivity) problem(cluster string) Problem {
	p := Problem{Cluster: cluster, Warning: true, Message: "does not answer"}
	if c.State == Never {
		p.Warning, p.Message = false, "has not answered yet"
	}
	if !c.Since.IsZero() {
		p.Message += ", since " + c.Since.UTC().Format(time.RFC3339)
	}
	if c.Reason != "" {
		p.Message += " (" + c.Reason + ")"
	}
	if c.State == Never {
		p.Message += ": nothing of it is served"
	} else {
		p.Message += ": its last known state is in force"
	}
	return p
}

// Selection returns the nodes of each service port of a cluster in the report. It returns false if
// the report does not contain the cluster, or if the cluster has never answered. While the cluster
// does not answer, use the result as Cluster.Selection, with the State LastKnown, so that the
// servers stay. The result contains no problems, because problems may be out of date.
func (r Report) Selection(cluster string) (nodeselect.Selection, bool) {
	var s nodeselect.Selection
	c, ok := r.cluster(cluster)
	if !ok || c.Connectivity.State == Never {
		return s, false
	}
	s.Findings = append([]nodeselect.Finding{}, c.Findings...)
	subsets := r.Subsets(cluster)
	for _, service := range r.Services {
		if service.Cluster != cluster {
			continue
		}
		ref := nodeRef(service.Ref)
		s.Targets = append(s.Targets, nodeselect.Target{
			Ref:      ref,
			NodePort: service.NodePort, AgentPort: service.AgentPort, WeightPercent: service.WeightPercent,
			Nodes: subsets[ref.Key()],
		})
	}
	return s, true
}

// Subsets returns the nodes of each service of a cluster as the report lists them. A program passes
// them to the next Build as Cluster.Current.
func (r Report) Subsets(cluster string) nodeselect.Subsets {
	nodes := map[string]nodeselect.Node{}
	c, _ := r.cluster(cluster)
	for _, n := range c.Nodes {
		nodes[n.Name] = nodeselect.Node{Name: n.Name, Addr: n.Addr, Zone: n.Zone, Identity: n.Identity}
	}
	subsets := nodeselect.Subsets{}
	for _, s := range r.Services {
		if s.Cluster != cluster {
			continue
		}
		subset := make([]nodeselect.Node, 0, len(s.Nodes))
		for i, name := range s.Nodes {
			if n, ok := nodes[name]; ok {
				if len(s.NodeWeights) == len(s.Nodes) {
					n.Weight = s.NodeWeights[i]
				}
				subset = append(subset, n)
			}
		}
		subsets[nodeRef(s.Ref).Key()] = subset
	}
	return subsets
}

// LastKnown returns the Cluster for Build while a cluster does not answer. It contains no objects,
// but the Selection and Total of the report, so the cluster keeps its servers. Its
// Connectivity.State is LastKnown, or Never if the report lists no selection.
//
// The argument "now" is the time when the cluster stopped answering, unless the report already
// contains this time. reason says why the cluster does not answer.
func (r Report) LastKnown(cluster string, now time.Time, reason string) Cluster {
	c := Cluster{Name: cluster, Connectivity: Connectivity{State: Never, Since: now, Reason: reason}}
	was, _ := r.cluster(cluster)
	if s, ok := r.Selection(cluster); ok {
		c.Selection, c.Total, c.Connectivity.State = &s, was.Total, LastKnown
	}
	if was.Connectivity.State == c.Connectivity.State && !was.Connectivity.Since.IsZero() {
		c.Connectivity.Since = was.Connectivity.Since
	}
	return c
}

func (r Report) cluster(name string) (ClusterReport, bool) {
	for _, c := range r.Clusters {
		if c.Name == name {
			return c, true
		}
	}
	return ClusterReport{}, false
}
