package haproxycfg

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/headgate/headgate/haproxycfg/routes"
)

type edgeBuilder struct {
	edge      *Edge
	upstreams map[routes.Ref]*upstream
	backends  map[string]string                // what makes a backend, encoded, to its name
	hashed    map[string]struct{}              // those of these names that have a hash
	nodes     map[string]map[netip.Addr]string // by cluster and address, what tracks the node
	routes    map[routeKey]struct{}
	problems  []routes.Problem

	rendered             []Backend
	hosts, exact, prefix []MapEntry

	key   []byte                 // scratch of backendOf
	slab  []Server               // room for the servers of further backends
	taken map[serverKey]struct{} // scratch of appendServers
}

// routeKey is the key of a route in its map.
type routeKey struct {
	key   string
	exact bool
}

// upstream is an Upstream whose addresses were checked and sorted.
type upstream struct {
	*Upstream
	addrs []netip.Addr
}

func (b *edgeBuilder) problemf(at routes.Position, field, format string, args ...any) {
	b.problems = append(b.problems, routes.Problem{File: at.File, Line: at.Line, Field: field, Message: fmt.Sprintf(format, args...)})
}

func (b *edgeBuilder) addUpstreams(upstreams []Upstream) {
	all := make([]upstream, 0, len(upstreams)) // never grows: pointers into it stay
	total := 0
	for i := range upstreams {
		total += len(upstreams[i].Nodes)
	}
	addrs := make([]netip.Addr, 0, total) // nor does this
	for i := range upstreams {
		u := &upstreams[i]
		if _, ok := b.upstreams[u.Ref]; ok {
			b.problemf(routes.Position{}, "", "service %s is given twice; the first counts", u.Ref)
			continue
		}
		if u.Absent {
			all = append(all, upstream{Upstream: u})
			b.upstreams[u.Ref] = &all[len(all)-1]
			continue
		}
		if u.NodePort == 0 {
			b.problemf(routes.Position{}, "", "service %s has no node port", u.Ref)
			continue
		}
		first := len(addrs)
		for _, n := range u.Nodes {
			a := n.Addr.Unmap()
			if !a.IsValid() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
				b.problemf(routes.Position{}, "", "service %s: node %q: %v is no address to connect to", u.Ref, n.Name, n.Addr)
				continue
			}
			addrs = append(addrs, a)
		}
		mine := addrs[first:]
		if !slices.IsSortedFunc(mine, netip.Addr.Compare) {
			slices.SortFunc(mine, netip.Addr.Compare)
		}
		all = append(all, upstream{u, slices.Clip(slices.Compact(mine))})
		b.upstreams[u.Ref] = &all[len(all)-1]
	}
}

func (b *edgeBuilder) addRoute(r *routes.Route) {
	if !validMapText(r.Host) || strings.Contains(r.Host, "/") || r.Host[0] == '#' || strings.ContainsFunc(r.Host, isUpper) {
		b.problemf(r.Position, "host", "%q is not a host in normal form", r.Host)
		return
	}
	if !validMapText(r.Path) || r.Path[0] != '/' || len(r.Host)+len(r.Path)+1 > maxMapText {
		b.problemf(r.Position, "path", "%q is not a path in normal form", r.Path)
		return
	}
	if !b.validSettings(r) {
		return
	}
	if b.edge.Monitor != "" && r.Path == b.edge.Monitor {
		b.problemf(r.Position, "path", "%q is the path of the monitor, which hides it", r.Path)
	}
	entries, key := &b.exact, ""
	switch {
	case r.Exact:
		key = r.Host + r.Path
	case strings.HasSuffix(r.Path, "/"):
		entries, key = &b.prefix, r.Host+r.Path
	default:
		entries, key = &b.prefix, r.Host+r.Path+"/"
	}
	if _, dup := b.routes[routeKey{key, r.Exact}]; dup {
		b.problemf(r.Position, "path", "%s%s is there already", r.Host, r.Path)
		return
	}
	b.routes[routeKey{key, r.Exact}] = struct{}{}
	*entries = append(*entries, MapEntry{key, b.backendOf(r)})
	if n := len(b.hosts); n == 0 || b.hosts[n-1].Key != r.Host {
		b.hosts = append(b.hosts, MapEntry{r.Host, r.Host})
	}
}

// validSettings reports those settings of a route that would make the whole
// Config invalid. Routes of a parsed table have none.
func (b *edgeBuilder) validSettings(r *routes.Route) bool {
	var v validator
	v.timeouts(&Timeouts{Server: r.Timeouts.Server, Tunnel: r.Timeouts.Tunnel})
	if c := r.Check; c != nil {
		v.health(&Health{Path: c.Path, Host: c.Host, Interval: c.Interval, Rise: c.Rise, Fall: c.Fall})
	}
	for _, err := range v.faults {
		b.problemf(r.Position, "", "%s", strings.TrimPrefix(err.Error(), ErrInvalid.Error()+": "))
	}
	return len(v.faults) == 0
}

func isUpper(c rune) bool { return 'A' <= c && c <= 'Z' }

// backendOf returns the name of the route's backend, which it adds if no other
// route had it before.
func (b *edgeBuilder) backendOf(r *routes.Route) string {
	backends := b.distinct(r)
	b.key = appendBackendKey(b.key[:0], backends, r)
	name, ok := b.backends[string(b.key)]
	if !ok {
		key := string(b.key)
		name = b.distinctName(backendName(backends, r, key), key)
		b.backends[key] = name
		b.rendered = append(b.rendered, b.backend(name, backends, r))
	}
	b.reportMissing(backends, r)
	return name
}

// distinctName returns a backend's name, or if another backend has it, one with the
// whole hash. It takes a second to find two routes of one service whose short hashes
// are equal, and a backend that is there twice would make the whole Config invalid:
// whoever may declare routes is not to have that power over all others.
func (b *edgeBuilder) distinctName(name, key string) string {
	readable, _, hashed := strings.Cut(name, ":")
	if !hashed {
		return name // which says all that there is to say
	}
	if _, taken := b.hashed[name]; taken {
		sum := sha256.Sum256([]byte(key))
		room := maxName - len(":") - hex.EncodedLen(len(sum))
		name = readable[:min(len(readable), room)] + ":" + hex.EncodeToString(sum[:])
	}
	if b.hashed == nil {
		b.hashed = make(map[string]struct{})
	}
	b.hashed[name] = struct{}{}
	return name
}

// distinct is the route's backends in normal form: sorted, each service once.
func (b *edgeBuilder) distinct(r *routes.Route) []routes.Backend {
	compare := func(x, y routes.Backend) int { return x.Compare(y.Ref) }
	same := func(x, y routes.Backend) bool { return x.Ref == y.Ref }
	backends := r.Backends
	if !slices.IsSortedFunc(backends, compare) {
		backends = slices.SortedStableFunc(slices.Values(backends), compare)
	}
	if n := len(backends); n > 1 {
		once := slices.CompactFunc(slices.Clone(backends), same)
		if len(once) < n {
			b.problemf(r.Position, "backends", "a service is named twice; the first counts")
			backends = once
		}
	}
	for i := range backends {
		if w := backends[i].Weight; w < 0 || w > 256 {
			b.problemf(r.Position, "backends", "service %s: weight %d is not from 0 to 256; it gets nothing", backends[i].Ref, w)
			backends = slices.Clone(backends)
			backends[i].Weight = 0
		}
	}
	return backends
}

func (b *edgeBuilder) reportMissing(backends []routes.Backend, r *routes.Route) {
	for _, rb := range backends {
		switch u := b.upstreams[rb.Ref]; {
		case u == nil:
			b.problemf(r.Position, "backends", "service %s is not known", rb.Ref)
		case u.Absent:
		case len(u.addrs) == 0:
			b.problemf(r.Position, "backends", "service %s has no nodes", rb.Ref)
		}
	}
}

// backend makes the servers of one backend.
func (b *edgeBuilder) backend(name string, backends []routes.Backend, r *routes.Route) Backend {
	out := Backend{
		Name:          name,
		Balance:       b.edge.Balance,
		AgentInterval: b.edge.AgentInterval,
		Health:        Health{Interval: b.edge.CheckInterval},
		Timeouts:      Timeouts{Server: r.Timeouts.Server, Tunnel: r.Timeouts.Tunnel},
	}
	if c := r.Check; c != nil {
		out.Health = Health{Path: c.Path, Host: c.Host, Interval: or(c.Interval, b.edge.CheckInterval), Rise: c.Rise, Fall: c.Fall}
	}
	shares, total := make([]share, len(backends)), 0
	for i, rb := range backends {
		shares[i].weight = rb.Weight
		if u := b.upstreams[rb.Ref]; u != nil {
			shares[i].servers = len(u.addrs)
			total += len(u.addrs)
		}
	}
	out.Servers = b.room(total)
	weights := serverWeights(shares)
	for i, rb := range backends {
		if u := b.upstreams[rb.Ref]; u != nil {
			out.Servers = b.appendServers(out.Servers, u, weights[i], r)
		}
	}
	if or(out.Balance, RoundRobin) == RoundRobin && len(out.Servers) > maxRoundRobin {
		out.Balance = LeastConn
	}
	return out
}

// room returns an empty slice with room for n servers. It cuts large ones, which cost
// less than one for each of thousands of backends.
func (b *edgeBuilder) room(n int) []Server {
	if n > len(b.slab) {
		b.slab = make([]Server, max(n, 1024))
	}
	room := b.slab[:0:n]
	b.slab = b.slab[n:]
	return room
}

func (b *edgeBuilder) appendServers(servers []Server, u *upstream, weight int, r *routes.Route) []Server {
	s := Server{Weight: weight, AgentPort: u.AgentPort, Check: r.Check != nil}
	if s.Check && s.AgentPort == 0 && b.edge.NodeHealth != KubeProxyOnly {
		s.AgentPort = b.edge.nodeAgentPort()
	}
	var nodes map[netip.Addr]string
	if !s.Check && len(u.addrs) > 0 {
		nodes = b.nodesOf(u.Ref.Cluster)
	}
	clear(b.taken)
	for i := range servers {
		b.taken[serverKey{servers[i].Addr, servers[i].AgentPort}] = struct{}{}
	}
	for _, a := range u.addrs {
		s.Addr = netip.AddrPortFrom(a, u.NodePort)
		if !s.Check {
			s.Track = b.track(nodes, u.Ref.Cluster, a)
		}
		if len(b.taken) > 0 {
			// Two names of one port, or two clusters that share addresses.
			if _, ok := b.taken[serverKey{s.Addr, s.AgentPort}]; ok {
				b.problemf(r.Position, "backends", "service %s: another service of the route is at %v too", u.Ref, s.Addr)
				continue
			}
		}
		servers = append(servers, s)
	}
	return servers
}

func (b *edgeBuilder) nodesOf(cluster string) map[netip.Addr]string {
	nodes := b.nodes[cluster]
	if nodes == nil {
		nodes = make(map[netip.Addr]string)
		b.nodes[cluster] = nodes
	}
	return nodes
}

// track notes that a node is used, and returns what follows it.
func (b *edgeBuilder) track(nodes map[netip.Addr]string, cluster string, a netip.Addr) string {
	name, ok := nodes[a]
	if !ok {
		s := b.edge.nodeServer(a)
		name = trackName(nodesBackend(cluster), s.Addr, s.AgentPort)
		nodes[a] = name
	}
	return name
}

func (e *Edge) nodeAgentPort() uint16 { return or(e.NodeAgentPort, DefaultNodeAgentPort) }

func (e *Edge) nodeServer(a netip.Addr) Server {
	agent := e.nodeAgentPort()
	port := agent
	if e.NodeHealth != NodeAgent {
		port = or(e.KubeProxyPort, defaultKubeProxyPort)
	}
	if e.NodeHealth == KubeProxyOnly {
		agent = 0
	}
	return Server{Addr: netip.AddrPortFrom(a, port), Check: true, AgentPort: agent}
}

func (b *edgeBuilder) config() *Config {
	for cluster, nodes := range b.nodes {
		nb := Backend{
			Name: nodesBackend(cluster),
			// Nothing is sent here. Least connections has no limit of servers, and
			// costs least: see Balance.
			Balance:       LeastConn,
			Health:        Health{Interval: b.edge.CheckInterval},
			AgentInterval: b.edge.AgentInterval,
			Servers:       make([]Server, 0, len(nodes)),
		}
		if b.edge.NodeHealth != NodeAgent {
			nb.Health.Path = kubeProxyPath
		}
		for a := range nodes {
			nb.Servers = append(nb.Servers, b.edge.nodeServer(a))
		}
		slices.SortFunc(nb.Servers, func(x, y Server) int { return x.Addr.Compare(y.Addr) })
		b.rendered = append(b.rendered, nb)
	}
	b.rendered = append(b.rendered, Backend{Name: notFound, Answer: &Answer{Status: 404, Body: "404 not found"}})
	b.sortBackends()
	slices.SortFunc(b.exact, compareEntries)
	slices.SortFunc(b.prefix, compareEntries)
	slices.SortFunc(b.hosts, compareEntries)
	b.hosts = slices.Compact(b.hosts)
	return &Config{
		Global:    b.edge.Global,
		Defaults:  b.edge.Defaults,
		Frontends: b.frontends(),
		Backends:  b.rendered,
		Maps:      []Map{{exactMap, b.exact}, {hostsMap, b.hosts}, {prefixMap, b.prefix}},
	}
}

// sortBackends sorts positions rather than backends, which are large.
func (b *edgeBuilder) sortBackends() {
	order := make([]int, len(b.rendered))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(x, y int) int { return strings.Compare(b.rendered[x].Name, b.rendered[y].Name) })
	sorted := make([]Backend, len(order))
	for i, x := range order {
		sorted[i] = b.rendered[x]
	}
	b.rendered = sorted
}

// binds leaves out those that would serve plain text where TLS is expected, or
// the other way round.
func (b *edgeBuilder) binds(field string, binds []Bind, secure bool) (ok []Bind) {
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

func (b *edgeBuilder) frontends() []Frontend {
	e := b.edge
	var fs []Frontend
	public := Frontend{
		Forwarded:      e.Forwarded,
		Monitor:        e.Monitor,
		Router:         &Router{Hosts: hostsMap, Exact: exactMap, Prefix: prefixMap},
		DefaultBackend: notFound,
	}
	if binds := b.binds("HTTP", e.HTTP, false); len(binds) > 0 {
		f := public
		f.Name, f.Binds, f.RedirectHTTPS = "http", binds, e.RedirectHTTPS
		fs = append(fs, f)
	}
	if binds := b.binds("HTTPS", e.HTTPS, true); len(binds) > 0 {
		f := public
		f.Name, f.Binds = "https", binds
		fs = append(fs, f)
	}
	if len(e.Admin) > 0 {
		fs = append(fs, Frontend{
			Name: "admin", Binds: e.Admin, Forwarded: ForwardedKeep,
			Monitor: "/ready", Exporter: "/metrics", DefaultBackend: notFound,
		})
	}
	return fs
}
