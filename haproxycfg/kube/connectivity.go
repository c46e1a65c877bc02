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

// problem returns what a report says of a cluster that is away.
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

// Selection returns the selection of a cluster that a report holds, and false if it
// holds none. It is for a cluster that does not answer: given back as
// Cluster.Selection, with Connectivity.State LastKnown, it keeps the servers of the
// cluster as they were. Problems are not among it; they are those of then.
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

// LastKnown returns the cluster as a report has it, for one that does not answer:
// without objects, with the Selection, Total and Connectivity that serve it unchanged. It
// is Never in contact if the report does not hold it. now and reason say since when
// the cluster is away and why; if the report has it away already, since then.
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
