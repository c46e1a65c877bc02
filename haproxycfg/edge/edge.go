package edge

import (
	"net/netip"
	"time"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/routes"
)

// Edge says how routes become a configuration: a terminator of TLS and HTTP in
// front of the nodes of one or more clusters. The zero Edge listens nowhere;
// give it at least one bind.
//
// An Edge holds values only and may be used by several goroutines at once.
type Edge struct {
	Global   haproxycfg.Global
	Defaults haproxycfg.Defaults
	// HTTP and HTTPS are the addresses of the frontends "http" and "https".
	// Those of HTTPS have TLS, those of HTTP have not; others are left out.
	HTTP, HTTPS []haproxycfg.Bind
	// RedirectHTTPS, if not nil, sends what comes to HTTP to the same URL with
	// TLS instead of serving it.
	RedirectHTTPS *haproxycfg.HTTPSRedirect
	// Forwarded says what services are told of the client.
	Forwarded haproxycfg.Forwarded
	// Monitor is a path of the frontends http and https for the balancer before
	// them; see [Frontend]. It hides that path of every host. Empty means none.
	Monitor string
	// Admin are the addresses of the frontend "admin", which has /metrics for
	// Prometheus and /ready. They should not be public.
	Admin []haproxycfg.Bind

	// NodeHealth says how it is known that a node may be used.
	NodeHealth NodeHealth
	// NodeAgentPort is the port of the node agents; 0 means DefaultNodeAgentPort.
	NodeAgentPort uint16
	// KubeProxyPort is the port of kube-proxy's health page; 0 means 10256.
	KubeProxyPort uint16
	// CheckInterval is the time between two health checks of a node, or of a
	// server whose route asks for checks but names no interval; 0 means 2s.
	CheckInterval time.Duration
	// AgentInterval is the time between two agent checks; 0 means 2s.
	AgentInterval time.Duration
	// Balance is how a server of a route is chosen; empty means [RoundRobin]. A
	// route with more servers than RoundRobin can handle gets [LeastConn] instead.
	Balance haproxycfg.Balance
}

// NodeHealth is a way to know that a node may be used.
type NodeHealth int

const (
	// NodeAgent asks the node agent, which drains nodes, and takes a node
	// whose agent cannot be connected to for dead.
	NodeAgent NodeHealth = iota
	// NodeAgentAndKubeProxy asks the node agent too, but a node is healthy
	// when its kube-proxy says so: it then survives the loss of its agent.
	NodeAgentAndKubeProxy
	// KubeProxyOnly is for clusters without node agents. Nothing drains then.
	KubeProxyOnly
)

// DefaultNodeAgentPort is the port of the node agents unless an Edge says
// otherwise.
const DefaultNodeAgentPort = 9707

const (
	defaultKubeProxyPort = 10256
	kubeProxyPath        = "/healthz"

	notFound = "not-found" // the backend of what is not declared
	// The names of the maps.
	hostsMap, exactMap, prefixMap = "hosts", "exact", "prefix"
)

// Upstream is where a service port is found in its cluster.
type Upstream struct {
	Ref routes.Ref
	// NodePort is the port on every node.
	NodePort uint16
	// AgentPort is the port on every node that answers agent checks with the
	// service's weight and state; 0 means none.
	AgentPort uint16
	// Nodes are those that are used, in any order.
	Nodes []Node
	// Unresolved says that the service cannot be reached, and that whoever made the
	// Upstream has said why: it has no port and no nodes, and routes that name it
	// are not reported for that.
	Unresolved bool
}

// Node is a node of a cluster.
type Node struct {
	Name string // for messages alone
	Addr netip.Addr
}

// Config returns the configuration that serves a table of routes.
//
// Each distinct set of services, weights, check and time-outs becomes one
// backend, which routes share. It is named "CLUSTER.NAMESPACE.SERVICE.PORT"; if
// it is more than one service with default settings, or a part is longer than 60
// bytes, ":" and a hash of all that follow. A server's weight is its service's share divided by the number of the
// service's servers, scaled to integers: the declared shares hold however many
// nodes each service has. Weights sum over services that have nodes at all. A
// service of weight 0 has its servers, checked like all others, but they get
// nothing, and no agent can change that.
//
// Unless its route asks for a check, a server follows its node in the backend
// "nodes.CLUSTER", which holds each used node once: there a node is checked,
// drained and stopped for all services at once, while the service's own agent
// sets weights. With a check of its own a server asks the service's agent, or
// without one the node's, since it does not follow the node.
//
// What cannot be rendered is left out and reported, so that one bad entry never
// takes the others down: a service without Upstream or without nodes (its
// route answers 503 if it has no other), an Upstream without port, an address
// that is none, a second server at the same address and ports. The Edge's other
// settings are not judged here but by [Config.Validate].
func (e Edge) Config(table routes.Table, upstreams []Upstream) (*haproxycfg.Config, []routes.Problem) {
	b := edgeBuilder{
		edge:      &e,
		upstreams: make(map[routes.Ref]*upstream, len(upstreams)),
		backends:  make(map[string]string, len(table.Routes())),
		nodes:     make(map[string]map[netip.Addr]string),
		rendered:  make([]haproxycfg.Backend, 0, len(table.Routes())+8),
		taken:     make(map[serverKey]struct{}),
	}
	b.addUpstreams(upstreams)
	declared := table.Routes()
	for i := range declared {
		b.addRoute(&declared[i])
	}
	config := b.config()
	return config, b.problems
}
