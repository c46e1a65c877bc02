package gate

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/headgate/headgate/nodeselect"
)

// MaxReport is the largest size in bytes of a report that ParseReport reads.
const MaxReport = 64 << 20

// maxName is the largest length of a name in Kubernetes.
const maxName = 253

// Applied contains the nodes and subsets of one cluster in a configuration in force.
type Applied struct {
	// Source names the terminator in messages.
	Source string
	// ID identifies the configuration that HAProxy runs. Time is when the terminator applied it.
	ID   string
	Time time.Time
	// Nodes are the nodes in the subsets, sorted by name.
	Nodes []nodeselect.Node
	// Subsets are the nodes of each service, by "namespace/name".
	Subsets nodeselect.Subsets
}

// wireReport has the parts of a terminator's report.json that ParseReport reads. ParseReport
// ignores all others.
type wireReport struct {
	Applied *struct {
		ID   string    `json:"id"`
		Time time.Time `json:"time"`
	} `json:"applied"`
	Clusters []struct {
		Name    string `json:"name"`
		Contact struct {
			State string `json:"state"`
		} `json:"contact"`
		Nodes []nodeselect.Node `json:"nodes"`
	} `json:"clusters"`
	Services []struct {
		Cluster   string   `json:"cluster"`
		Namespace string   `json:"namespace"`
		Service   string   `json:"service"`
		Nodes     []string `json:"nodes"`
	} `json:"services"`
}

// ParseReport reads a terminator's report.json. It returns the nodes and subsets that the
// configuration in force has in one cluster. If the report does not show which nodes the
// configuration uses, ParseReport returns an error. Each error begins with the argument "source".
func ParseReport(source string, data []byte, cluster string) (Applied, error) {
	a, err := parseReport(data, cluster)
	if err != nil {
		return Applied{}, fmt.Errorf("%s: %w", source, err)
	}
	a.Source = source
	return a, nil
}

func parseReport(data []byte, cluster string) (Applied, error) {
	if len(data) > MaxReport {
		return Applied{}, fmt.Errorf("the report has more than %d bytes", MaxReport)
	}
	var r wireReport
	if err := json.Unmarshal(data, &r); err != nil {
		return Applied{}, fmt.Errorf("not a report: %w", err)
	}
	if r.Applied == nil || r.Applied.ID == "" || r.Applied.Time.IsZero() {
		return Applied{}, errors.New("applied: the report does not name the configuration in force")
	}
	a := Applied{ID: r.Applied.ID, Time: r.Applied.Time, Subsets: nodeselect.Subsets{}}
	found := false
	for i := range r.Clusters {
		if r.Clusters[i].Name != cluster {
			continue
		}
		if found {
			return a, fmt.Errorf("clusters[%d]: cluster %q is listed twice", i, cluster)
		}
		if r.Clusters[i].Contact.State == "never" {
			return a, fmt.Errorf("clusters[%d]: the terminator has never reached cluster %q", i, cluster)
		}
		found, a.Nodes = true, slices.Clone(r.Clusters[i].Nodes)
	}
	if !found {
		return a, fmt.Errorf("clusters: the report has no cluster %q", cluster)
	}
	nodes := make(map[string]nodeselect.Node, len(a.Nodes))
	for i, n := range a.Nodes {
		if _, twice := nodes[n.Name]; twice || n.Name == "" || len(n.Name) > maxName || n.Addr == (netip.Addr{}) {
			return a, fmt.Errorf("clusters: cluster %q: nodes[%d]: the name %.300q is empty, too long or there twice, or the node has no address", cluster, i, n.Name)
		}
		nodes[n.Name] = n
	}
	slices.SortFunc(a.Nodes, func(x, y nodeselect.Node) int { return cmp.Compare(x.Name, y.Name) })
	for i, s := range r.Services {
		if s.Cluster != cluster {
			continue
		}
		if s.Namespace == "" || s.Service == "" || len(s.Namespace) > maxName || len(s.Service) > maxName {
			return a, fmt.Errorf("services[%d]: the namespace or the service is empty or too long", i)
		}
		key := nodeselect.Ref{Namespace: s.Namespace, Service: s.Service}.Key()
		members := a.Subsets[key] // the ports of a service share one subset
		for _, name := range s.Nodes {
			n, ok := nodes[name]
			if !ok {
				return a, fmt.Errorf("services[%d]: node %.300q of %s is not in the list of nodes", i, name, key)
			}
			if !slices.Contains(members, n) {
				members = append(members, n)
			}
		}
		slices.SortFunc(members, func(x, y nodeselect.Node) int { return cmp.Compare(x.Name, y.Name) })
		a.Subsets[key] = members
	}
	return a, nil
}
