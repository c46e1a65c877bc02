package kube

import (
	"time"

	"github.com/headgate/headgate/nodeselect"
)

// Connectivity says how current what is known of a cluster is. The zero Connectivity is that
// of a cluster which was just read.
type Connectivity struct {
	State State `json:"state,omitempty"`
	// Since is when the state began; zero if it is not known.
	Since time.Time `json:"since,omitzero"`
	// Reason is why a cluster is not Live.
	Reason string `json:"reason,omitempty"`
}

// State of the contact with a cluster.
type State string

const (
	// Live: what was built is of the cluster as it is. It is also what the empty
	// State means.
	Live State = "live"
	// LastKnown: the cluster does not answer, and the state that was last seen of
	// it is in force.
	LastKnown State = "last-known"
	// Never: the cluster did not answer and no earlier state of it is known.
	// Nothing of it is served.
	Never State = "never"
)

// Away says whether the cluster does not answer.
func (c Connectivity) Unreachable() bool { return c.State == LastKnown || c.State == Never }

// problem returns the problem of a cluster that does not answer.
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

// Selection returns the selection of a cluster as of the report, and false if the report has none.
// It is for a cluster that no longer answers: as Cluster.Selection, with the State LastKnown, it
// keeps the servers of the cluster unchanged. It has no problems, which may no longer be true.
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
			NodePort: service.NodePort, AgentPort: service.AgentPort, WeightPercent: service.Weight,
			Nodes: subsets[ref.Key()],
		})
	}
	return s, true
}

// Subsets returns the subsets of a cluster as of the report. The next Build receives them as
// Cluster.Current.
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

// LastKnown returns a cluster that does not answer, in the state of the report: without objects, with
// the Selection and Total that keep its servers unchanged. Its State is Never if the report has no
// selection of the cluster. now is the time since when the cluster does not answer, and reason is
// why. If the report has an earlier time for the same state, LastKnown keeps that time.
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
