package kube

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/routes"
)

// Changes describe how a configuration differs from the previous configuration, and why.
type Changes struct {
	// Time is the time at which the change was applied or refused.
	Time time.Time `json:"time"`
	// Servers counts the servers that were added, removed or altered, in all backends.
	Servers deploy.ServerCounts `json:"servers"`
	// Services are the services whose ports or nodes changed, sorted by ServiceChange.Ref.
	Services []ServiceChange `json:"services"`
	// Causes are the first MaxCauses changes of routes and clusters. MoreCauses is the number of
	// changes that Causes does not contain.
	Causes     []Cause `json:"causes"`
	MoreCauses int     `json:"moreCauses,omitempty"`
	// ID identifies a refused change by its configuration. It is "" for a change in force.
	ID string `json:"id,omitempty"`
	// Reason says why the program has refused the change.
	Reason string `json:"reason,omitempty"`
	// Losses counts what the refused change would take away. It is nil for a change in force.
	Losses *deploy.Losses `json:"losses,omitempty"`
}

// MaxCauses is the largest length of Changes.Causes.
const MaxCauses = 100

// ServiceChange is the change of one service port.
type ServiceChange struct {
	routes.Ref
	// Added is true if the whole service is new. Removed is true if the whole service is gone.
	Added   bool `json:"added,omitempty"`
	Removed bool `json:"removed,omitempty"`
	// Enter and Leave are the sorted names of the nodes that the service's subset gains and loses.
	// If the address of a node has changed, both lists contain its name.
	Enter []string `json:"enter,omitempty"`
	Leave []string `json:"leave,omitempty"`
	// Ports has a text for each port that changed, such as "nodePort 30080 to 30090".
	Ports []string `json:"ports,omitempty"`
}

// NewChanges compares the reports of two configurations. The argument "servers" contains the counts
// of changed servers from [deploy.Diff], and causes contains the differences of the inputs from
// [Causes].
func NewChanges(at time.Time, old, new Report, servers deploy.ServerCounts, causes []Cause) Changes {
	c := Changes{Time: at, Servers: servers, Services: serviceChanges(old, new), Causes: causes}
	if more := len(causes) - MaxCauses; more > 0 {
		c.Causes, c.MoreCauses = slices.Clone(causes[:MaxCauses]), more
	}
	return c
}

// Summary returns one line with the first causes. The argument "limit" is the largest number of
// causes in this line. If there are more causes, the line ends with the number of the other causes.
func (c Changes) Summary(limit int) string {
	var b strings.Builder
	for i, cause := range c.Causes[:min(limit, len(c.Causes))] {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(cause.String())
	}
	if more := max(0, len(c.Causes)-limit) + c.MoreCauses; more > 0 {
		fmt.Fprintf(&b, "; and %d more", more)
	}
	return b.String()
}

// serviceChanges compares two reports. It returns the services that only one report contains, and
// the services whose nodes, node port or agent port differ. In both reports, the services must be
// sorted by Ref.
func serviceChanges(old, new Report) []ServiceChange {
	changes := []ServiceChange{}
	oldNodes, newNodes := old.nodes(), new.nodes()
	moved := false // if a node has a new address, equal names do not mean equal nodes
	for key, n := range oldNodes {
		if now, ok := newNodes[key]; ok && now.Addr != n.Addr {
			moved = true
			break
		}
	}
	walk(old.Services, new.Services, func(x, y ServiceReport) int { return x.Ref.Compare(y.Ref) },
		func(was ServiceReport) {
			changes = append(changes, ServiceChange{Ref: was.Ref, Removed: true, Leave: was.Nodes})
		},
		func(is ServiceReport) {
			changes = append(changes, ServiceChange{Ref: is.Ref, Added: true, Enter: is.Nodes})
		},
		func(was, is ServiceReport) {
			c := ServiceChange{Ref: is.Ref}
			if moved || !slices.Equal(was.Nodes, is.Nodes) {
				c.Enter = missing(is, was, newNodes, oldNodes)
				c.Leave = missing(was, is, oldNodes, newNodes)
			}
			c.port("nodePort", was.NodePort, is.NodePort)
			c.port("agentPort", was.AgentPort, is.AgentPort)
			if len(c.Enter)+len(c.Leave)+len(c.Ports) > 0 {
				changes = append(changes, c)
			}
		},
	)
	return changes
}

// walk compares the lists a and b, which must be sorted by "compare". It calls "removed" for each
// element that only a contains, "added" for each element that only b contains, and "both" for two
// equal elements.
func walk[T any](a, b []T, compare func(x, y T) int, removed, added func(T), both func(was, is T)) {
	for len(a) > 0 && len(b) > 0 {
		switch order := compare(a[0], b[0]); {
		case order < 0:
			removed(a[0])
			a = a[1:]
		case order > 0:
			added(b[0])
			b = b[1:]
		default:
			both(a[0], b[0])
			a, b = a[1:], b[1:]
		}
	}
	for _, x := range a {
		removed(x)
	}
	for _, y := range b {
		added(y)
	}
}

type nodeKey struct{ cluster, name string }

func (r Report) nodes() map[nodeKey]NodeReport {
	nodes := map[nodeKey]NodeReport{}
	for _, c := range r.Clusters {
		for _, n := range c.Nodes {
			nodes[nodeKey{c.Name, n.Name}] = n
		}
	}
	return nodes
}

// missing compares the reports a and b on one service. It returns the names of the nodes in a that
// b does not contain, or that have another address in b. inA and inB contain the addresses of the
// nodes.
func missing(a, b ServiceReport, inA, inB map[nodeKey]NodeReport) []string {
	var names []string
	for _, name := range a.Nodes {
		key := nodeKey{a.Cluster, name}
		if _, has := slices.BinarySearch(b.Nodes, name); !has || inA[key].Addr != inB[key].Addr {
			names = append(names, name)
		}
	}
	return names
}

func (c *ServiceChange) port(name string, was, is uint16) {
	if was != is {
		c.Ports = append(c.Ports, fmt.Sprintf("%s %d to %d", name, was, is))
	}
}

// Misdirected returns a function that reports whether the named server leads to a wrong service.
// This is so if the server's node port no longer belongs to the service port in the report "last",
// and now belongs to another service port. last is the report on the servers in force. For a server
// of a cluster without objects, the function returns false.
func Misdirected(last Report, clusters []Cluster) func(server string) bool {
	wrong := sync.OnceValue(func() map[nodePort]bool { return misdirected(last, clusters) }) // few changes remove a server
	return func(server string) bool {
		server, _, _ = strings.Cut(server, "-") // remove the port of the agent
		i := strings.LastIndexByte(server, ':')
		if i < 0 || len(wrong()) == 0 {
			return false
		}
		addr, err := netip.ParseAddr(server[:i])
		port, err2 := strconv.ParseUint(server[i+1:], 10, 16)
		return err == nil && err2 == nil && wrong()[nodePort{addr, uint16(port)}]
	}
}

// nodePort is a node port at one node.
type nodePort struct {
	addr netip.Addr
	port uint16
}

// misdirected returns those addresses of servers in the report "last" that now lead to a wrong
// service.
func misdirected(last Report, clusters []Cluster) map[nodePort]bool {
	wrong := map[nodePort]bool{}
	nodes := last.nodes()
	for _, c := range clusters {
		owners := nodePorts(c.Objects.Services)
		for _, s := range last.Services {
			if s.Cluster != c.Name || !owners.foreign(s) {
				continue
			}
			for _, name := range s.Nodes {
				if n, ok := nodes[nodeKey{c.Name, name}]; ok {
					wrong[nodePort{n.Addr, s.NodePort}] = true
				}
			}
		}
	}
	return wrong
}

// portOwners contains, for each node port of a cluster, the service ports that get the connections
// to this node port.
type portOwners map[uint16][]portOwner

type portOwner struct {
	service    string // "namespace/name"
	name, port string // the name and the number of the service port
}

// nodePorts returns the service ports to which the node ports of a cluster lead.
func nodePorts(services []*corev1.Service) portOwners {
	owners := portOwners{}
	for _, s := range services {
		key := s.Namespace + "/" + s.Name
		for _, p := range s.Spec.Ports {
			if p.NodePort != 0 && (p.Protocol == "" || p.Protocol == corev1.ProtocolTCP) {
				owners[uint16(p.NodePort)] = append(owners[uint16(p.NodePort)], portOwner{key, p.Name, strconv.Itoa(int(p.Port))})
			}
		}
		if p := s.Spec.HealthCheckNodePort; p != 0 {
			owners[uint16(p)] = append(owners[uint16(p)], portOwner{service: key})
		}
	}
	return owners
}

// foreign reports whether the node port of s now belongs to other service ports, and no longer to
// the service port of s.
func (o portOwners) foreign(s ServiceReport) bool {
	owners := o[s.NodePort]
	return len(owners) > 0 && !slices.ContainsFunc(owners, func(p portOwner) bool {
		return p.service == s.Namespace+"/"+s.Service && (p.name == s.Port || p.port == s.Port)
	})
}
