package edge

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/routes"
)

type edgeBuilder struct {
	edge      *Edge
	upstreams map[routes.Ref]*upstream
	backends  map[string]string                // what makes a backend, encoded, to its name
	hashed    map[string]struct{}              // those of these names that have a hash
	nodes     map[string]map[netip.Addr]string // by cluster and address, what tracks the node
	problems  []routes.Problem

	rendered             []haproxycfg.Backend
	hosts, exact, prefix []haproxycfg.MapEntry

	key   []byte                 // scratch of backendOf
	slab  []haproxycfg.Server    // room for the servers of further backends
	taken map[serverKey]struct{} // scratch of appendServers
}

// serverKey identifies a server of a backend: two servers with the same key would have the same name.
type serverKey struct {
	addr      netip.AddrPort
	agentPort uint16
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
		if u.Unresolved {
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
	if b.edge.Monitor != "" && r.Path == b.edge.Monitor {
		b.problemf(r.Position, "path", "%q is the path of the monitor, which hides it", r.Path)
	}
	key, entries := r.Host+r.Path, &b.prefix
	if r.Exact {
		entries = &b.exact
	} else if r.Path != "/" {
		key += "/" // Prefixes match whole segments.
	}
	*entries = append(*entries, haproxycfg.MapEntry{Key: key, Value: b.backendOf(r)})
	if n := len(b.hosts); n == 0 || b.hosts[n-1].Key != r.Host { // A table is sorted by host.
		b.hosts = append(b.hosts, haproxycfg.MapEntry{Key: r.Host, Value: r.Host})
	}
}

// backendOf returns the name of the route's backend, which it adds if no other
// route had it before.
func (b *edgeBuilder) backendOf(r *routes.Route) string {
	b.key = appendBackendKey(b.key[:0], r)
	name, ok := b.backends[string(b.key)]
	if !ok {
		key := string(b.key)
		name = b.distinctName(backendName(r, key), key)
		b.backends[key] = name
		b.rendered = append(b.rendered, b.backend(name, r))
	}
	b.reportMissing(r)
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
		room := haproxycfg.MaxName - len(":") - hex.EncodedLen(len(sum))
		name = readable[:min(len(readable), room)] + ":" + hex.EncodeToString(sum[:])
	}
	if b.hashed == nil {
		b.hashed = make(map[string]struct{})
	}
	b.hashed[name] = struct{}{}
	return name
}

func (b *edgeBuilder) reportMissing(r *routes.Route) {
	for _, rb := range r.Backends {
		switch u := b.upstreams[rb.Ref]; {
		case u == nil:
			b.problemf(r.Position, "backends", "service %s is not known", rb.Ref)
		case u.Unresolved:
		case len(u.addrs) == 0:
			b.problemf(r.Position, "backends", "service %s has no nodes", rb.Ref)
		}
	}
}

// backend makes the servers of one backend.
func (b *edgeBuilder) backend(name string, r *routes.Route) haproxycfg.Backend {
	out := haproxycfg.Backend{
		Name:          name,
		Balance:       b.edge.Balance,
		AgentInterval: b.edge.AgentInterval,
		Health:        haproxycfg.Health{Interval: b.edge.CheckInterval},
		Timeouts:      haproxycfg.Timeouts{Server: r.Timeouts.Server, Tunnel: r.Timeouts.Tunnel},
	}
	if c := r.Check; c != nil {
		out.Health = haproxycfg.Health{Path: c.Path, Host: c.Host, Interval: cmp.Or(c.Interval, b.edge.CheckInterval), Rise: c.Rise, Fall: c.Fall}
	}
	shares, total := make([]share, len(r.Backends)), 0
	for i, rb := range r.Backends {
		shares[i].weight = rb.Weight
		if u := b.upstreams[rb.Ref]; u != nil {
			shares[i].servers = len(u.addrs)
			total += len(u.addrs)
		}
	}
	out.Servers = b.room(total)
	weights := serverWeights(shares)
	for i, rb := range r.Backends {
		if u := b.upstreams[rb.Ref]; u != nil {
			out.Servers = b.appendServers(out.Servers, u, weights[i], r)
		}
	}
	if cmp.Or(out.Balance, haproxycfg.RoundRobin) == haproxycfg.RoundRobin && len(out.Servers) > haproxycfg.MaxRoundRobin {
		out.Balance = haproxycfg.LeastConn
	}
	return out
}

// room returns an empty slice with room for n servers. It cuts large ones, which cost
// less than one for each of thousands of backends.
func (b *edgeBuilder) room(n int) []haproxycfg.Server {
	if n > len(b.slab) {
		b.slab = make([]haproxycfg.Server, max(n, 1024))
	}
	room := b.slab[:0:n]
	b.slab = b.slab[n:]
	return room
}

func (b *edgeBuilder) appendServers(servers []haproxycfg.Server, u *upstream, weight int, r *routes.Route) []haproxycfg.Server {
	s := haproxycfg.Server{Weight: weight, AgentPort: u.AgentPort, Check: r.Check != nil}
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
		name = nodesBackend(cluster) + "/" + s.Name()
		nodes[a] = name
	}
	return name
}

func (e *Edge) nodeAgentPort() uint16 { return cmp.Or(e.NodeAgentPort, DefaultNodeAgentPort) }

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

func (b *edgeBuilder) config() *haproxycfg.Config {
	for cluster, nodes := range b.nodes {
		nb := haproxycfg.Backend{
			Name: nodesBackend(cluster),
			// Nothing is sent here. Least connections has no limit of servers, and
			// costs least: see Balance.
			Balance:       haproxycfg.LeastConn,
			Health:        haproxycfg.Health{Interval: b.edge.CheckInterval},
			AgentInterval: b.edge.AgentInterval,
			Servers:       make([]haproxycfg.Server, 0, len(nodes)),
		}
		if b.edge.NodeHealth != NodeAgent {
			nb.Health.Path = kubeProxyPath
		}
		for a := range nodes {
			nb.Servers = append(nb.Servers, b.edge.nodeServer(a))
		}
		slices.SortFunc(nb.Servers, func(x, y haproxycfg.Server) int { return x.Addr.Compare(y.Addr) })
		b.rendered = append(b.rendered, nb)
	}
	b.rendered = append(b.rendered, haproxycfg.Backend{Name: notFound, Response: &haproxycfg.FixedResponse{Status: 404, Body: "404 not found"}})
	b.sortBackends()
	slices.SortFunc(b.exact, compareKeys)
	slices.SortFunc(b.prefix, compareKeys)
	return &haproxycfg.Config{
		Global:    b.edge.Global,
		Defaults:  b.edge.Defaults,
		Frontends: b.frontends(),
		Backends:  b.rendered,
		Maps:      []haproxycfg.Map{{Name: exactMap, Entries: b.exact}, {Name: hostsMap, Entries: b.hosts}, {Name: prefixMap, Entries: b.prefix}},
	}
}

func compareKeys(a, b haproxycfg.MapEntry) int { return strings.Compare(a.Key, b.Key) }

// sortBackends sorts positions rather than backends, which are large.
func (b *edgeBuilder) sortBackends() {
	order := make([]int, len(b.rendered))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(x, y int) int { return strings.Compare(b.rendered[x].Name, b.rendered[y].Name) })
	sorted := make([]haproxycfg.Backend, len(order))
	for i, x := range order {
		sorted[i] = b.rendered[x]
	}
	b.rendered = sorted
}

// binds leaves out those that would serve plain text where TLS is expected, or
// the other way round.
func (b *edgeBuilder) binds(field string, binds []haproxycfg.Bind, secure bool) (ok []haproxycfg.Bind) {
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

func (b *edgeBuilder) frontends() []haproxycfg.Frontend {
	e := b.edge
	var fs []haproxycfg.Frontend
	public := haproxycfg.Frontend{
		Forwarded:      e.Forwarded,
		Monitor:        e.Monitor,
		Router:         &haproxycfg.Router{Hosts: hostsMap, Exact: exactMap, Prefix: prefixMap},
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
		fs = append(fs, haproxycfg.Frontend{
			Name: "admin", Binds: e.Admin, Forwarded: haproxycfg.ForwardedKeep,
			Monitor: "/ready", Exporter: "/metrics", DefaultBackend: notFound,
		})
	}
	return fs
}
