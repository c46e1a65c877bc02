package edge

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/routes"
)

// builder makes one configuration. addUpstreams checks the addresses of all services, addRoute adds
// a route to the maps, addBackend adds a backend with the servers of a route, and track adds a
// server that stands for a node. The servers of services on the node get the health of this server.
type builder struct {
	edge     *Edge
	services map[routes.Ref]*service
	problems []routes.Problem

	hosts, exact, prefix, clients []haproxycfg.MapEntry // the content of the maps
	shares, parts                 []haproxycfg.MapEntry // entries about routes whose Shift is true
	prefer                        []haproxycfg.MapEntry // entries about routes with Prefer
	prefers                       bool                  // true if a route has Prefer
	partNames                     map[string]string     // the names of the backends in parts, by their keys, see addPart
	partServers                   map[string]int        // by the name of a backend in parts: the number of its servers that can get requests

	groups   []backendOf          // the backends of the routes, by the index of their group
	families map[string]*family   // by the key that appendFamilyKey returns
	hashed   map[string]struct{}  // those names of backends that contain a hash
	rendered []haproxycfg.Backend // all backends
	nodes    map[string]nodesOf   // the nodes in use by cluster

	// taken is a buffer. The builder reuses it from one backend to the next, to save allocations.
	taken map[serverKey]struct{} // servers of a backend
}

// serverKey contains what makes a server unique within a backend. Two servers with the same key
// would get the same name, which HAProxy rejects.
type serverKey struct {
	addr      netip.AddrPort
	agentPort uint16
}

// service is an Upstream whose addresses addUpstreams has checked.
type service struct {
	addrs []netip.AddrPort // sorted, each once
	// weights are the weights of the nodes at addrs. nil means that all nodes have the same weight.
	weights    map[netip.AddrPort]int
	agentPort  uint16
	onNodes    bool // true if each address is a node with the node port of the service
	unresolved bool
}

// nodesOf contains those nodes of one cluster that servers of services track. HAProxy checks each
// of these nodes, and the servers get the health of their node.
type nodesOf struct {
	backend string                // the name of the backend that contains the nodes
	track   map[netip.Addr]string // the value of Server.Track for each address of a node
}

func (b *builder) problemf(at routes.Position, field, format string, args ...any) {
	b.problems = append(b.problems, routes.Problem{File: at.File, Line: at.Line, Field: field, Message: fmt.Sprintf(format, args...)})
}

// addUpstreams checks the addresses of all services.
func (b *builder) addUpstreams(upstreams []Upstream) {
	total := 0
	for i := range upstreams {
		total += len(upstreams[i].Nodes) + len(upstreams[i].Servers)
	}
	addrs := make([]netip.AddrPort, 0, total) // the addresses of all services, one service after the other
	all := make([]service, 0, len(upstreams)) // never grows, so that pointers into it stay valid
	add := func(u *Upstream, s service) {
		all = append(all, s)
		b.services[u.Ref] = &all[len(all)-1]
	}
	for i := range upstreams {
		u := &upstreams[i]
		if _, ok := b.services[u.Ref]; ok {
			b.problemf(routes.Position{}, "", "service %s is given twice; the first counts", u.Ref)
			continue
		}
		if u.Unresolved {
			add(u, service{unresolved: true})
			continue
		}
		first := len(addrs)
		switch {
		case u.Servers != nil:
			for _, s := range u.Servers {
				s = netip.AddrPortFrom(s.Addr().Unmap(), s.Port())
				if !canConnect(s.Addr()) || s.Port() == 0 {
					b.problemf(routes.Position{}, "", "service %s: %v is no address to connect to", u.Ref, s)
					continue
				}
				addrs = append(addrs, s)
			}
		case u.NodePort == 0:
			b.problemf(routes.Position{}, "", "service %s has no node port", u.Ref)
			continue
		default:
			for _, n := range u.Nodes {
				a := n.Addr.Unmap()
				if !canConnect(a) {
					b.problemf(routes.Position{}, "", "service %s: node %q: %v is no address to connect to", u.Ref, n.Name, n.Addr)
					continue
				}
				addrs = append(addrs, netip.AddrPortFrom(a, u.NodePort))
			}
		}
		own := addrs[first:]
		if !slices.IsSortedFunc(own, netip.AddrPort.Compare) {
			slices.SortFunc(own, netip.AddrPort.Compare)
		}
		add(u, service{addrs: slices.Clip(slices.Compact(own)), weights: u.weights(), agentPort: u.AgentPort, onNodes: u.Servers == nil})
	}
}

// canConnect reports whether a machine can have the address a. It does not decide whether a node
// may have a special address, such as a link-local one: package nodeselect decides this.
func canConnect(a netip.Addr) bool {
	if a.Is4() && (a.As4()[0] == 0 || a == broadcast) {
		return false
	}
	return a.IsValid() && a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast()
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// backendOf is the backend of a group of routes.
type backendOf struct {
	name     string     // "" until addRoute has added the backend
	services []*service // one for each element of Route.Backends; nil for an unknown service
	missing  bool       // reportMissing reports a service
}

// addRoute adds a route to the maps, under the given key. The argument "backend" is the backend of
// the group to which the route belongs. If the route is the first one of the group, addRoute adds
// this backend too.
func (b *builder) addRoute(r *routes.Route, backend *backendOf, key string) {
	if b.edge.Monitor != "" && r.Path == b.edge.Monitor {
		b.problemf(r.Position, "path", "%q is the path of the monitor, which hides it", r.Path)
	}
	if backend.name == "" {
		b.addBackendOf(r, backend)
	}
	if backend.missing {
		b.reportMissing(backend.services, r)
	}
	entries := &b.prefix
	if r.Exact {
		entries = &b.exact
	}
	*entries = append(*entries, haproxycfg.MapEntry{Key: key, Value: backend.name})
	if n := len(b.hosts); n == 0 || b.hosts[n-1].Key != r.Host { // the routes of a table are sorted by host
		b.hosts = append(b.hosts, haproxycfg.MapEntry{Key: r.Host, Value: r.Host})
	}
}

// addBackendOf adds the backend of a group. r is the first route of the group.
func (b *builder) addBackendOf(r *routes.Route, backend *backendOf) {
	backend.services = make([]*service, len(r.Backends))
	for i, rb := range r.Backends {
		svc := b.services[rb.Ref]
		backend.services[i] = svc
		backend.missing = backend.missing || svc == nil || !svc.unresolved && len(svc.addrs) == 0
	}
	backend.name = b.nameOf(r)
	b.addBackend(backend.name, backend.services, r)
	if r.Shift {
		b.addParts(backend.name, r)
	}
	if len(r.Prefer) > 0 {
		b.addPreferences(backend.name, r)
	}
}

// health returns the health check for the servers of a route.
func (b *builder) health(r *routes.Route) haproxycfg.Health {
	h := haproxycfg.Health{Interval: b.edge.CheckInterval}
	if c := r.Check; c != nil {
		h = haproxycfg.Health{Path: c.Path, Host: c.Host, GRPC: c.GRPC, Interval: cmp.Or(c.Interval, h.Interval), Rise: c.Rise, Fall: c.Fall}
	}
	return h
}

// distinctName returns the wanted name of a backend. If another backend has this name, it returns
// the name with the whole hash of key instead of the short hash. Two backends with the same name
// would make the whole configuration invalid, and anybody can find two routes with the same short
// hash within a second.
func (b *builder) distinctName(name, key string) string {
	readable, _, hashed := strings.Cut(name, ":")
	if !hashed {
		return name // name contains the whole key
	}
	if _, taken := b.hashed[name]; taken {
		sum := sha256.Sum256([]byte(key))
		room := haproxycfg.MaxName - len(":") - hex.EncodedLen(len(sum))
		name = readable[:min(len(readable), room)] + ":" + hex.EncodeToString(sum[:])
	}
	if b.hashed == nil {
		b.hashed = make(map[string]struct{})
	}
	b.hashed[name] = struct{}{}
	return name
}

// addBackend makes a backend with the servers of all services of the route. services[i] is the
// service of r.Backends[i], or nil if that service is unknown.
func (b *builder) addBackend(name string, services []*service, r *routes.Route) {
	shares, weights, total := make([]share, len(r.Backends)), make([]int, len(r.Backends)), 0
	for i, rb := range r.Backends {
		shares[i].weight = rb.Weight
		if svc := services[i]; svc != nil {
			shares[i].servers = len(svc.addrs)
			total += len(svc.addrs)
		}
	}
	setWeights(weights, shares)
	spread := spreadWeights(weights, services)
	servers := make([]haproxycfg.Server, 0, total)
	for i, rb := range r.Backends {
		svc := services[i]
		if svc == nil {
			continue
		}
		s := haproxycfg.Server{Weight: weights[i], AgentPort: svc.agentPort, Check: r.Check != nil || !svc.onNodes}
		if s.Check && svc.onNodes && s.AgentPort == 0 && b.edge.NodeHealth != KubeProxyOnly {
			s.AgentPort = b.edge.nodeAgentPort()
		}
		clear(b.taken)
		for _, other := range servers {
			b.taken[serverKey{other.Addr, other.AgentPort}] = struct{}{}
		}
		nodes := b.nodes[rb.Cluster]
		for j, addr := range svc.addrs {
			s.Addr = addr
			if !s.Check {
				s.Track = b.track(&nodes, rb.Cluster, s.Addr.Addr())
			}
			if _, taken := b.taken[serverKey{s.Addr, s.AgentPort}]; taken {
				// The backend already has a server with the same address and ports, because two
				// services name the same port, or because two clusters have the same addresses.
				b.problemf(r.Position, "backends", "service %s: another service of the route is at %v too", rb.Ref, s.Addr)
				continue
			}
			if spread != nil {
				s.Weight = spread[i][j]
			}
			// HAProxy multiplies the percentage that an agent answers by the initial weight of the
			// server, and no command changes the initial weight. So the name of the server contains
			// the weight: with another weight, it is a new server.
			s.WeightInName = s.AgentPort != 0 && s.Weight != haproxycfg.DefaultWeight
			servers = append(servers, s)
		}
	}
	out := haproxycfg.Backend{
		Name:          name,
		Balance:       b.edge.Balance,
		AgentInterval: b.edge.AgentInterval,
		Health:        b.health(r),
		Protocol:      protocols[r.Protocol],
		Limits:        haproxycfg.Limits{Limit: haproxycfg.Limit(r.Limits.Limit), Source: haproxycfg.Limit(r.Limits.Source)},
		Timeouts:      haproxycfg.Timeouts{Server: r.Timeouts.Server, Tunnel: r.Timeouts.Tunnel},
		Servers:       servers,
	}
	if r.Protocol == routes.GRPC {
		out.Timeouts.Server = cmp.Or(out.Timeouts.Server, grpcTimeout)
		b.clients = append(b.clients, haproxycfg.MapEntry{Key: name, Value: strconv.FormatInt(out.Timeouts.Server.Milliseconds(), 10)})
	}
	if cmp.Or(out.Balance, haproxycfg.RoundRobin) == haproxycfg.RoundRobin && len(servers) > haproxycfg.MaxRoundRobin {
		out.Balance = haproxycfg.LeastConn
	}
	b.rendered = append(b.rendered, out)
}

// protocols maps the protocol of a route to its name in package haproxycfg.
var protocols = map[routes.Protocol]haproxycfg.Protocol{routes.H2C: haproxycfg.H2C, routes.GRPC: haproxycfg.GRPC}

// grpcTimeout is Timeouts.Server of a gRPC route that declares no such time-out. It is long because
// a gRPC stream may be silent for a long time, and gRPC clients set deadlines.
const grpcTimeout = time.Hour

// track returns the value of Server.Track for a server on the node with the address a: the name of
// the server that stands for the node. At the first call for a node, track also adds the node to
// nodes.
func (b *builder) track(nodes *nodesOf, cluster string, a netip.Addr) string {
	if nodes.track == nil {
		*nodes = nodesOf{b.edge.nodesBackend(cluster), make(map[netip.Addr]string)}
		b.nodes[cluster] = *nodes
	}
	name, ok := nodes.track[a]
	if !ok {
		name = nodes.backend + "/" + b.edge.nodeServer(a).Name()
		nodes.track[a] = name
	}
	return name
}

// reportMissing reports the services of a route that have no servers.
func (b *builder) reportMissing(services []*service, r *routes.Route) {
	for i, rb := range r.Backends {
		switch svc := services[i]; {
		case svc == nil:
			b.problemf(r.Position, "backends", "service %s is not known", rb.Ref)
		case svc.unresolved || len(svc.addrs) > 0:
		case svc.onNodes:
			b.problemf(r.Position, "backends", "service %s has no nodes", rb.Ref)
		default:
			b.problemf(r.Position, "backends", "service %s has no servers", rb.Ref)
		}
	}
}

func (e *Edge) nodeAgentPort() uint16 { return cmp.Or(e.NodeAgentPort, DefaultNodeAgentPort) }

// Spares returns the number of spare servers of each cluster, see Edge.SpareNodes.
func (e *Edge) Spares() int {
	if e.SpareNodes == 0 && e.Global.Version.AtLeast(3, 0) {
		return DefaultSpareNodes
	}
	return max(e.SpareNodes, 0)
}

// nodeServer returns the server that represents the node with address a. HAProxy checks the health
// of this server, and the servers of services on the node track it.
func (e *Edge) nodeServer(a netip.Addr) haproxycfg.Server {
	agent := e.nodeAgentPort()
	port := agent
	if e.NodeHealth != NodeAgent {
		port = cmp.Or(e.KubeProxyPort, defaultKubeProxyPort)
	}
	if e.NodeHealth == KubeProxyOnly {
		agent = 0
	}
	return haproxycfg.Server{Addr: netip.AddrPortFrom(a, port), Check: true, AgentPort: agent}
}

// config returns the Config of all routes that addRoute has added.
func (b *builder) config() *haproxycfg.Config {
	b.addSpares()
	for _, nodes := range b.nodes {
		b.rendered = append(b.rendered, b.nodeBackend(nodes))
	}
	b.rendered = append(b.rendered, haproxycfg.Backend{Name: b.edge.Fragment + notFound, Response: &haproxycfg.FixedResponse{Status: 404, Body: "404 not found"}})
	slices.SortFunc(b.rendered, func(x, y haproxycfg.Backend) int { return strings.Compare(x.Name, y.Name) })
	for _, entries := range [][]haproxycfg.MapEntry{b.exact, b.prefix, b.clients, b.shares, b.parts, b.prefer} {
		slices.SortFunc(entries, func(x, y haproxycfg.MapEntry) int { return strings.Compare(x.Key, y.Key) })
	}
	// A program that changes the maps of a running HAProxy adds entries in this order, and removes
	// them in the reverse order. So a host is in the map of hosts only while its paths are in the
	// other maps.
	var maps []haproxycfg.Map
	if len(b.clients) > 0 {
		// Each entry belongs to a backend. Before 3.4, HAProxy cannot add or delete a backend at run
		// time, so these entries need not change at run time either.
		maps = append(maps, haproxycfg.Map{Name: clientsMap, Entries: b.clients, Stable: b.edge.Global.Version.AtLeast(3, 4)})
	}
	maps = append(maps,
		haproxycfg.Map{Name: exactMap, Entries: b.exact, Stable: true},
		haproxycfg.Map{Name: prefixMap, Entries: b.prefix, Stable: true},
		haproxycfg.Map{Name: hostsMap, Entries: b.hosts, Stable: true},
	)
	if len(b.shares) > 0 {
		maps = append(maps, haproxycfg.Map{Name: ShiftMap, Entries: b.shares, Runtime: true}, haproxycfg.Map{Name: PartsMap, Entries: b.parts, Stable: true})
	}
	if b.prefers {
		maps = append(maps, haproxycfg.Map{Name: PreferMap, Entries: b.prefer, Stable: true})
		maps = append(maps, b.edge.regionMaps()...)
	}
	if b.edge.Closable {
		entry := haproxycfg.MapEntry{Key: CloseKey, Value: strconv.Itoa(b.edge.ClosePoints)}
		maps = append(maps, haproxycfg.Map{Name: CloseMap, Entries: []haproxycfg.MapEntry{entry}, Runtime: true})
	}
	var lists []haproxycfg.CertificateList
	if slices.ContainsFunc(b.edge.HTTPS, func(bind haproxycfg.Bind) bool { return bind.TLS != nil && bind.TLS.List == CertificateList }) {
		lists = []haproxycfg.CertificateList{{Name: CertificateList, Certificates: b.edge.Certificates}}
	}
	return &haproxycfg.Config{
		Fragment:         b.edge.Fragment,
		Global:           b.edge.Global,
		Defaults:         b.edge.Defaults,
		Frontends:        b.frontends(),
		Backends:         b.rendered,
		Maps:             maps,
		CertificateLists: lists,
	}
}

// nodeBackend returns a backend with one server for each node of a cluster. The backend gets no
// requests. Servers of other backends track the servers of this backend, and so get the health of
// the nodes.
func (b *builder) nodeBackend(nodes nodesOf) haproxycfg.Backend {
	spares := b.edge.Spares()
	out := haproxycfg.Backend{
		Name: nodes.backend,
		// Choose a server by leastconn. This needs the least memory and time, and does not limit
		// the number of servers: see haproxycfg.Balance.
		Balance:       haproxycfg.LeastConn,
		Health:        haproxycfg.Health{Interval: b.edge.CheckInterval},
		AgentInterval: b.edge.AgentInterval,
		Servers:       make([]haproxycfg.Server, 0, len(nodes.track)+spares),
	}
	if b.edge.NodeHealth != NodeAgent {
		out.Health.Path = kubeProxyPath
	}
	for a := range nodes.track {
		out.Servers = append(out.Servers, b.edge.nodeServer(a))
	}
	slices.SortFunc(out.Servers, func(x, y haproxycfg.Server) int { return x.Addr.Compare(y.Addr) })
	if spares > 0 {
		for i := range out.Servers { // a backend with a slot has only slots
			out.Servers[i].Slot = out.Servers[i].Name()
		}
		model := b.edge.nodeServer(haproxycfg.SpareAddr)
		for i := range spares {
			out.Servers = append(out.Servers, model.Spare(i+1))
		}
	}
	return out
}

func (b *builder) frontends() []haproxycfg.Frontend {
	e := b.edge
	var fs []haproxycfg.Frontend
	router := Router
	if len(b.clients) > 0 {
		router.ClientTimeouts = clientsMap
	}
	if len(b.shares) > 0 {
		router.Shift, router.ShiftParts = ShiftMap, PartsMap
	}
	if b.prefers {
		router.Prefer = PreferMap
		if len(e.Regions.Regions) > 0 {
			router.Regions = RegionsMap
			if e.Regions.Header != "" {
				router.RegionValues, router.RegionHeader = RegionValuesMap, e.Regions.Header
			}
		}
	}
	public := haproxycfg.Frontend{
		Forwarded:      e.Forwarded,
		TrustedProxies: e.TrustedProxies,
		Monitor:        e.Monitor,
		Router:         &router,
		DefaultBackend: e.Fragment + notFound,
	}
	if e.Closable {
		public.Close = CloseMap
	}
	if binds := b.checkBinds("HTTP", e.HTTP, false); len(binds) > 0 {
		f := public
		f.Name, f.Binds, f.RedirectHTTPS = e.Fragment+"http", binds, e.RedirectHTTPS
		fs = append(fs, f)
	}
	if binds := b.checkBinds("HTTPS", e.HTTPS, true); len(binds) > 0 {
		f := public
		f.Name, f.Binds = e.Fragment+"https", binds
		fs = append(fs, f)
	}
	if len(e.Admin) > 0 {
		fs = append(fs, haproxycfg.Frontend{
			Name: e.Fragment + "admin", Binds: e.Admin, Forwarded: haproxycfg.ForwardedKeep,
			Monitor: "/ready", Exporter: "/metrics", DefaultBackend: e.Fragment + notFound,
		})
	}
	return fs
}

// checkBinds returns the binds that use TLS if secure is true, or the binds that do not use TLS if
// secure is false. It reports all other binds.
func (b *builder) checkBinds(field string, binds []haproxycfg.Bind, secure bool) (ok []haproxycfg.Bind) {
	for _, bind := range binds {
		switch {
		case secure && bind.TLS == nil:
			b.problemf(routes.Position{}, field, "bind %s has no TLS; it is left out", bind.Address)
		case !secure && bind.TLS != nil:
			b.problemf(routes.Position{}, field, "bind %s has TLS; it is left out", bind.Address)
		default:
			ok = append(ok, bind)
		}
	}
	return ok
}
