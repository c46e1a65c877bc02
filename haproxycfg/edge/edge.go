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
// An [Upstream] contains the servers of a service: either their addresses and ports, or a node port
// and the nodes of a Kubernetes cluster. Package haproxycfg/kube makes the Upstreams of a cluster.
//
// HAProxy finds the backend of a request in three maps; see [haproxycfg.Router]. It answers 503 if
// a route has no servers, and 404 if no route matches. Package edge reports a bad route, leaves it
// out, and renders all other routes.
//
// A program can change the routes of a running HAProxy without a reload, see README.md.
//
// # Health of nodes
//
// HAProxy checks each node of a cluster once, as a server of a backend for the nodes. The servers
// of all services on the node track this server: they have its health. If a node drains, all
// services leave it within one agent interval. But HAProxy does not check the node port of a
// service, unless a route declares a check.
//
// If an Upstream lists its own servers, HAProxy checks each of them.
package edge

import (
	"net/netip"
	"time"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/routes"
)

// Edge contains the settings of an HAProxy that serves routes. The zero Edge listens on no address,
// so set at least one bind. Several goroutines may use an Edge at the same time.
type Edge struct {
	Global   haproxycfg.Global
	Defaults haproxycfg.Defaults
	// Fragment, if not empty, makes Config return a fragment: see [haproxycfg.Config].Fragment. The
	// names of all frontends and backends begin with it.
	Fragment string
	// HTTP and HTTPS are the addresses of the frontends "http" and "https". Binds of HTTPS must
	// have TLS, and binds of HTTP must not. Config reports other binds, and leaves them out.
	HTTP, HTTPS []haproxycfg.Bind
	// Certificates are the certificates of all HTTPS binds whose TLS.List is CertificateList, in
	// the order of preference. If the certificate of a connection does not cover the Host header of
	// a request, HAProxy answers 421.
	Certificates []haproxycfg.Certificate
	// RedirectHTTPS, if not nil, makes the frontend "http" redirect each request to the same URL
	// with TLS. Nil means that this frontend serves the routes.
	RedirectHTTPS *haproxycfg.HTTPSRedirect
	// Forwarded chooses the X-Forwarded headers that tell servers the address and scheme of the
	// client.
	Forwarded haproxycfg.Forwarded
	// TrustedProxies are the networks of the proxies in front of HAProxy whose X-Forwarded-For and
	// X-Forwarded-Proto HAProxy believes; see [haproxycfg.Frontend]. Empty means no proxy.
	TrustedProxies []netip.Prefix
	// Regions are the regions of clients that routes name in Prefer. The header of Regions counts
	// only in requests of TrustedProxies, see [haproxycfg.Router].
	Regions routes.Regions
	// Monitor is a path of the frontends "http" and "https" at which a balancer in front can check
	// HAProxy; see [haproxycfg.Frontend]. HAProxy sends no request for it to a route. Empty means
	// no such path.
	Monitor string
	// Shares contains the shares of routes, by Route.Name: how many requests of the route go to one
	// of its clusters. A route without an entry uses its declared weights. Config ignores an entry
	// if the route does not exist or its Shift is false.
	Shares map[string]Share
	// Closable makes HAProxy close the HTTP/1 connection of a client after some of the responses,
	// so that clients follow a change of DNS or of a balancer in front. ClosePoints is the share of
	// these responses: 10,000 points are all. A program can change it at run time, see CloseMap.
	Closable    bool
	ClosePoints int
	// Admin are the addresses of the frontend "admin", which serves /metrics for Prometheus and
	// /ready. The public should not be able to connect to them.
	Admin []haproxycfg.Bind

	// NodeHealth says how HAProxy checks nodes.
	NodeHealth NodeHealth
	// NodeAgentPort is the port of the node agents; 0 means DefaultNodeAgentPort.
	NodeAgentPort uint16
	// KubeProxyPort is the port of kube-proxy's health page; 0 means 10256.
	KubeProxyPort uint16
	// CheckInterval is the time between two health checks of a node or server; 0 means 2s. A route
	// can declare another interval.
	CheckInterval time.Duration
	// AgentInterval is the time between two agent checks of a server; 0 means 2s.
	AgentInterval time.Duration
	// SpareNodes is the number of spare servers in the backend of the nodes of each cluster. With
	// spare servers, a [deploy.Dir] with a Runtime can use new nodes without a reload. 0 means
	// DefaultSpareNodes if Global.Version is 3.0 or later, and no spare servers for earlier
	// versions. A negative number means no spare servers. Each spare server needs a file
	// descriptor. Its agent checks send no packets, because its address cannot be reached.
	//
	// [deploy.Dir]: https://pkg.go.dev/github.com/headgate/headgate/haproxycfg/deploy#Dir
	SpareNodes int
	// Balance is the algorithm that chooses a server for each request; empty means
	// [haproxycfg.RoundRobin]. A route with more servers than RoundRobin can handle gets
	// [haproxycfg.LeastConn] instead.
	Balance haproxycfg.Balance
}

// NodeHealth is a way to check nodes.
type NodeHealth int

const (
	// NodeAgent makes HAProxy check only the node agent. The agent can drain the node. If HAProxy
	// cannot connect to the agent, HAProxy sends no requests to the node.
	NodeAgent NodeHealth = iota
	// NodeAgentAndKubeProxy makes HAProxy check the health of kube-proxy. The node agent can still
	// drain the node. If the node agent does not answer, the node stays in use.
	NodeAgentAndKubeProxy
	// KubeProxyOnly makes HAProxy check only kube-proxy. Use it for clusters without node agents.
	// HAProxy then cannot drain their nodes.
	KubeProxyOnly
)

// CertificateList is the name of the certificate list with Edge.Certificates. A bind uses these
// certificates if its TLS.List has this name.
const CertificateList = "certificates"

// DefaultSpareNodes is the number of spare servers of a cluster if Edge.SpareNodes is 0 and the
// version of HAProxy is 3.0 or later.
const DefaultSpareNodes = 2

// DefaultNodeAgentPort is the port of the node agents if Edge.NodeAgentPort is 0.
const DefaultNodeAgentPort = 9707

const (
	defaultKubeProxyPort = 10256
	kubeProxyPath        = "/healthz"

	notFound = "not-found" // the backend for undeclared hosts and paths
	// The names of the maps.
	hostsMap, exactMap, prefixMap, clientsMap = "hosts", "exact", "prefix", "client-timeouts"
)

// These are the names of the maps whose values change at run time.
const (
	// ShiftMap is the name of the map with the shares of the routes whose Shift is true. The keys
	// are the names of their backends, and the values come from [Share.Value].
	ShiftMap = "shift"
	// CloseMap is the name of the map that contains Edge.ClosePoints under the key CloseKey.
	CloseMap = "close"
	CloseKey = "all"
)

// PartsMap is the name of the map with two backends for each cluster of a route whose Shift is
// true. A key is "BACKEND/CLUSTER", and a value "ONLY/REST/MIN1/MIN2". ONLY has the servers in the
// cluster, and REST all other servers of the route. MIN1 is the number of servers of ONLY that
// HAProxy must be able to use, and MIN2 the number of servers of REST; see [Quorum].
const PartsMap = "shift-parts"

// These are the names of the maps of routes with Prefer, see [haproxycfg.Router].
const (
	// PreferMap is the name of the map with the preferences of routes. A key is "BACKEND/REGION": the
	// backend of the route and the region of the preference. REGION is empty in the preference for
	// clients whose region is unknown or has no preference. [ParsePreferred] parses a value.
	PreferMap = "prefer"
	// RegionsMap is the name of the map from networks to regions, and RegionValuesMap the name of the
	// map from values of the header of Edge.Regions to regions.
	RegionsMap, RegionValuesMap = "regions", "region-values"
)

// Router contains the names of the maps in which HAProxy finds the backend of a request.
var Router = haproxycfg.Router{Hosts: hostsMap, Exact: exactMap, Prefix: prefixMap}

// BackendOf returns the name and the key of a route's backend. Routes with the same key share a
// backend. If the route has several services, a number such as "-1" may follow this name in the
// configuration; see IsBackendOf. If two different keys lead to the same name, Config uses a longer
// name for the second backend.
func (e *Edge) BackendOf(r *routes.Route) (name, key string) {
	return e.backendName(r, string(appendFamilyKey(nil, r))), string(appendBackendKey(nil, r))
}

// Upstream describes the servers of one service port. Either the field Servers is set, or the
// fields NodePort and Nodes are.
type Upstream struct {
	Ref routes.Ref
	// Servers are the addresses and ports of the service's own servers, in any order. If Servers is
	// not nil, Config ignores NodePort and Nodes. HAProxy makes the health check that the route
	// declares. If the route declares none, HAProxy checks whether the server accepts a connection.
	Servers []netip.AddrPort
	// NodePort is the port of the service on each node.
	NodePort uint16
	// Nodes are the nodes to which HAProxy sends the requests for this service, at the port
	// NodePort, in any order.
	Nodes []Node
	// AgentPort is the port of the service's agent on each node or server. The agent answers with
	// the weight and state of the service on that node or server. 0 means no agent.
	AgentPort uint16
	// Unresolved means that the caller did not find the service and has already reported this. If
	// Unresolved is true, Config does not report the routes of the service again, and ignores all
	// fields of the Upstream except Ref.
	Unresolved bool
}

// Node is a node of a cluster.
type Node struct {
	Name string // used in messages only
	Addr netip.Addr
	// Weight says how many requests of the service the node gets, in proportion to the Weights of
	// the other nodes. 0 means that the node has the Weight 1.
	Weight int
}

// Config returns the configuration that serves a table of routes.
//
// Routes with the same services, weights, check, protocol and time-outs share a backend. Its name
// is "CLUSTER.NAMESPACE.SERVICE.PORT" of its first service, after the prefix Fragment. A ":" and a
// hash of all settings follow if the backend has several services, weight 0, a check, a protocol,
// limits, time-outs, Shift or Prefer. They also follow if a part of the name is longer than 58
// bytes, or 50 bytes with a Fragment of more than one byte.
//
// If routes differ only in the weights of several services, each ratio of weights has a backend of
// its own. The names of these backends end with "-1", "-2" and so on, except the first one. Config
// adds spare backends without servers. With them, a program can serve a new ratio without a reload,
// with every version of HAProxy. The number of backends, including the spare backends, is
//
//   - 4 for 1 or 2 ratios,
//   - 8 for 3 or 4 ratios,
//   - twice the next power of two for more ratios.
//
// A route with limits, Shift or Prefer has a backend of its own, and needs no spare backends.
//
// The declared weight of a service is its share of the requests, whatever its number of servers. So
// the weight of a server is the declared weight divided by the number of the service's servers,
// scaled to an integer. If a service has weight 0, HAProxy checks its servers but sends them no
// requests, and no agent can change that.
//
// The backend "nodes.CLUSTER" has one server for each node in use, and HAProxy checks this server.
// The servers of services on the node track it. If a service has an agent, HAProxy also checks this
// agent for each server of the service.
//
// If a route declares a check, its servers track no node. HAProxy then makes the declared check of
// each server. It also checks the agent of the service or, if the service has none, the agent of the
// node.
//
// A route whose Shift is true also has two backends for each cluster: one with the services of this
// cluster, and one with all other services. In each of these backends, HAProxy repeats the declared
// check of the route and the agent checks of services.
//
// A route with Prefer has a backend of its own, and a further backend for each cluster, with the
// services of this cluster. So a change of Prefer or Regions changes only entries of stable maps.
// If a preference names a region that Edge.Regions does not contain, Config reports the preference
// and leaves it out.
//
// The limits of a route apply to all its backends together: HAProxy counts their requests together.
//
// Config reports and leaves out
//
//   - a service without an Upstream, without the port, or without servers,
//   - an address to which nobody can connect,
//   - a second server with the same address and ports.
//
// If no service of a route has servers, HAProxy answers 503. To check the settings of the Edge,
// call [Edge.Validate] and [haproxycfg.Config.Validate].
func (e Edge) Config(table routes.Table, upstreams []Upstream) (*haproxycfg.Config, []routes.Problem) {
	return e.ConfigOf(GroupRoutes(table), upstreams)
}

// ConfigOf returns the same as Config. A caller that needs the groups of the table too calls
// ConfigOf, so that nobody computes them twice.
func (e Edge) ConfigOf(groups Groups, upstreams []Upstream) (*haproxycfg.Config, []routes.Problem) {
	declared := groups.table.Routes()
	backends := min(len(declared), len(upstreams)) + 8 // usually; routes with limits or weights need more
	b := builder{
		edge:     &e,
		services: make(map[routes.Ref]*service, len(upstreams)),
		hosts:    make([]haproxycfg.MapEntry, 0, len(declared)),
		prefix:   make([]haproxycfg.MapEntry, 0, len(declared)),
		groups:   make([]backendOf, groups.Len()),
		rendered: make([]haproxycfg.Backend, 0, backends),
		nodes:    make(map[string]nodesOf),
		taken:    make(map[serverKey]struct{}),
	}
	b.addUpstreams(upstreams)
	b.findFamilies(declared)
	for i := range declared {
		b.addRoute(&declared[i], &b.groups[groups.of[i]], groups.mapKeys[i])
	}
	config := b.config()
	return config, b.problems
}

// Validate returns an error if HAProxy would reject every configuration with these settings.
func (e Edge) Validate() error {
	config, problems := e.Config(routes.Table{}, nil)
	if len(problems) > 0 {
		return problems[0]
	}
	// Without routes, the configuration has no backend. Add a backend with the settings that all
	// backends have, so that Config.Validate checks these settings.
	config.Backends = append(config.Backends, haproxycfg.Backend{
		Name: e.Fragment + "every-service", Balance: e.Balance, AgentInterval: e.AgentInterval, Health: haproxycfg.Health{Interval: e.CheckInterval},
	})
	return config.Validate()
}
