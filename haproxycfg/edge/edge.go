// Package edge turns declared routes and the addresses of their services into a configuration of
// package haproxycfg: an HAProxy that ends TLS and HTTP in front of the services.
//
//	table, problems := routes.Parse("routes.yaml", text)
//	web := routes.Ref{Cluster: "dc-1", Namespace: "shop", Service: "web", Port: "http"}
//	config, problems := edge.Edge{
//		HTTP: []haproxycfg.Bind{{Address: ":80"}},
//	}.Config(table, []edge.Upstream{{
//		Ref:     web,
//		Servers: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:8080")},
//	}})
//
// An [Upstream] holds either addresses and ports of one's own servers, or a node port and the nodes
// of a Kubernetes cluster. Package haproxycfg/kube makes the Upstreams of a cluster.
//
// HAProxy finds the backend of a request in three maps that it indexes as trees, so that ten
// thousand hosts cost as much as ten; see [haproxycfg.Router] for the rules. A declared route
// without servers answers 503, an undeclared one 404. A bad entry is reported and left out, and
// does not affect the others.
//
// # Health of nodes
//
// HAProxy checks each node of a cluster once, in one backend for the cluster. The servers of all
// services on the node track that server: they share its health. With s services on k of n nodes,
// HAProxy makes n checks instead of s*k. If a node drains, all services leave it within one agent
// interval, while the agent of each service still sets its weight. The price is that nobody checks
// the node port itself, unless a route declares a check.
//
// HAProxy checks servers that are not on nodes one by one.
package edge

import (
	"net/netip"
	"time"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/routes"
)

// Edge holds the settings of an HAProxy that serves routes. The zero Edge listens nowhere, so set
// at least one bind.
//
// An Edge holds values only. Several goroutines may use it at once.
type Edge struct {
	Global   haproxycfg.Global
	Defaults haproxycfg.Defaults
	// HTTP and HTTPS are the addresses of the frontends "http" and "https". Binds of HTTPS need
	// TLS, and binds of HTTP must not have it. Config reports other binds and leaves them out.
	HTTP, HTTPS []haproxycfg.Bind
	// RedirectHTTPS, if not nil, answers requests to HTTP with a redirect to the same URL with
	// TLS. Nil means that HTTP serves them.
	RedirectHTTPS *haproxycfg.HTTPSRedirect
	// Forwarded says which headers tell the servers about the client.
	Forwarded haproxycfg.Forwarded
	// Monitor is a path of the frontends http and https, by which a balancer in front of HAProxy
	// checks it; see [haproxycfg.Frontend]. It hides the same path of every host. Empty means
	// none.
	Monitor string
	// Admin are the addresses of the frontend "admin", with /metrics for Prometheus and /ready.
	// They should not be public.
	Admin []haproxycfg.Bind

	// NodeHealth says how HAProxy checks nodes.
	NodeHealth NodeHealth
	// NodeAgentPort is the port of the node agents; 0 means DefaultNodeAgentPort.
	NodeAgentPort uint16
	// KubeProxyPort is the port of kube-proxy's health page; 0 means 10256.
	KubeProxyPort uint16
	// CheckInterval is the time between two health checks of a node or server, unless its route
	// declares an interval; 0 means 2s.
	CheckInterval time.Duration
	// AgentInterval is the time between two agent checks; 0 means 2s.
	AgentInterval time.Duration
	// Balance chooses a server for each request; empty means [haproxycfg.RoundRobin]. A route
	// with more servers than RoundRobin can handle gets [haproxycfg.LeastConn] instead.
	Balance haproxycfg.Balance
}

// NodeHealth is a way to check nodes.
type NodeHealth int

const (
	// NodeAgent asks the node agent, which can drain the node. A node is dead if HAProxy cannot
	// connect to its agent.
	NodeAgent NodeHealth = iota
	// NodeAgentAndKubeProxy asks the node agent for drains, and kube-proxy for health. A node
	// then stays in use if its agent is lost.
	NodeAgentAndKubeProxy
	// KubeProxyOnly is for clusters without node agents. No node drains.
	KubeProxyOnly
)

// DefaultNodeAgentPort is the port of the node agents if Edge.NodeAgentPort is 0.
const DefaultNodeAgentPort = 9707

const (
	defaultKubeProxyPort = 10256
	kubeProxyPath        = "/healthz"

	notFound = "not-found" // the backend for undeclared hosts and paths
	// The names of the maps.
	hostsMap, exactMap, prefixMap = "hosts", "exact", "prefix"
)

// Router has the names of the maps in which HAProxy finds the backend of a request.
var Router = haproxycfg.Router{Hosts: hostsMap, Exact: exactMap, Prefix: prefixMap}

// BackendOf returns the name of the backend of a route, and a key that the routes of one backend
// share. If another backend has the name too, Config chooses a longer name.
func BackendOf(r *routes.Route) (name, key string) {
	key = string(appendBackendKey(nil, r))
	return backendName(r, key), key
}

// Upstream holds the servers of one service port: either Servers, or NodePort and Nodes.
type Upstream struct {
	Ref routes.Ref
	// Servers are the addresses and ports of the service's own servers, in any order. HAProxy
	// checks each of them: it connects, or makes the check that the route declares. If Servers
	// is not nil, NodePort and Nodes are ignored.
	Servers []netip.AddrPort
	// NodePort is the port of the service on each node.
	NodePort uint16
	// Nodes are the nodes to use, in any order.
	Nodes []Node
	// AgentPort is the port of the service's agent on each node or server. The agent answers with
	// the weight and state of the service there. 0 means no agent.
	AgentPort uint16
	// Unresolved says that the caller could not find the service and has reported that. Routes
	// to the service are then not reported again. All other fields except Ref are ignored.
	Unresolved bool
}

// Node is a node of a cluster.
type Node struct {
	Name string // used in messages only
	Addr netip.Addr
}

// Config returns the configuration that serves a table of routes.
//
// Routes with the same services, weights, check and time-outs share a backend. Its name is
// "CLUSTER.NAMESPACE.SERVICE.PORT". If the backend has several services or settings of its own, or
// if a part is longer than 60 bytes, ":" and a hash of all that follow.
//
// The weight of a server is the share of its service divided by the number of the service's
// servers, scaled to integers. So the declared shares hold for any numbers of servers. Services
// without servers do not count. The servers of a service with weight 0 are checked but get no
// requests, and no agent can change that.
//
// A server on a node tracks the node in the backend "nodes.CLUSTER", which holds each node in use
// once. If the route declares a check, the server does not track the node: HAProxy checks the
// server itself, and asks the agent of the service, or without one the agent of the node.
//
// Config leaves out and reports services without Upstream, without port or without servers,
// addresses to which nobody can connect, and a second server at the same address and ports. A route
// whose services have no servers answers 503. Config does not check the other settings of the Edge;
// [haproxycfg.Config.Validate] does.
func (e Edge) Config(table routes.Table, upstreams []Upstream) (*haproxycfg.Config, []routes.Problem) {
	declared := table.Routes()
	b := builder{
		edge:     &e,
		services: make(map[routes.Ref]*service, len(upstreams)),
		hosts:    make([]haproxycfg.MapEntry, 0, len(declared)),
		prefix:   make([]haproxycfg.MapEntry, 0, len(declared)),
		backends: make(map[string]string, len(declared)),
		rendered: make([]haproxycfg.Backend, 0, len(declared)+8),
		nodes:    make(map[string]nodesOf),
		taken:    make(map[serverKey]struct{}),
	}
	b.addUpstreams(upstreams)
	for i := range declared {
		b.addRoute(&declared[i])
	}
	config := b.config()
	return config, b.problems
}
