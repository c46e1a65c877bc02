package haproxycfg

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"
)

func (v *validator) frontend(c *Config, f *Frontend) {
	v.place = ""
	if !v.name("frontend", f.Name) {
		return
	}
	v.place = "frontend " + f.Name + ": "
	if len(f.Binds) == 0 {
		v.addf("it listens nowhere")
	}
	for i := range f.Binds {
		v.bind(&f.Binds[i])
	}
	v.number("MaxConn", f.MaxConn, 0, math.MaxInt32)
	if r := f.RedirectHTTPS; r != nil && !slices.Contains([]int{0, 301, 302, 303, 307, 308}, r.Code) {
		v.addf("%d is no code of a redirection", r.Code)
	}
	v.number("Forwarded", int(f.Forwarded), int(ForwardedReplace), int(ForwardedKeep))
	v.path("Monitor", f.Monitor)
	v.path("Exporter", f.Exporter)
	if _, ok := v.backends[f.DefaultBackend]; !ok && f.DefaultBackend != "" {
		v.addf("default backend %q does not exist", f.DefaultBackend)
	}
	if f.Router == nil {
		return
	}
	if f.DefaultBackend == "" {
		v.addf("a router needs a default backend for what it does not know")
	}
	v.routerMap("Hosts", f.Router.Hosts)
	for _, m := range [...]struct{ what, name string }{{"Exact", f.Router.Exact}, {"Prefix", f.Router.Prefix}} {
		if i, ok := v.routerMap(m.what, m.name); ok {
			v.mapTargets(&c.Maps[i])
		}
	}
}

func (v *validator) routerMap(what, name string) (int, bool) {
	i, ok := v.maps[name]
	if !ok {
		v.addf("router: %s names map %q, which does not exist", what, name)
	}
	return i, ok
}

// mapTargets reports entries that name no backend: HAProxy would send them to
// the default backend without a word.
func (v *validator) mapTargets(m *Map) {
	for i := range m.Entries {
		if _, ok := v.backends[m.Entries[i].Value]; !ok {
			v.addf("router: map %s: key %q: backend %q does not exist", m.Name, m.Entries[i].Key, m.Entries[i].Value)
		}
	}
}

func (v *validator) bind(b *Bind) {
	if path, ok := strings.CutPrefix(b.Address, "unix@"); ok {
		v.socketPath("bind", path)
	} else {
		ap, err := b.addrPort()
		if err != nil || ap.Port() == 0 || ap.Addr().Zone() != "" {
			v.addf(`bind %q is neither "host:port" with an IP address and a port nor "unix@/path"`, b.Address)
		}
	}
	if b.TLS == nil {
		return
	}
	v.word("certificates", b.TLS.Certificates)
	if b.TLS.Certificates == "" {
		v.addf("bind %s: TLS without certificates", b.Address)
	}
	oneOf(v, "TLS version", b.TLS.MinVersion, "", "TLSv1.2", "TLSv1.3")
	for _, p := range b.TLS.ALPN {
		if p == "" || strings.ContainsAny(p, ", \t\n\r\x00") || len(p) > 255 {
			v.addf("bind %s: %q is no protocol name", b.Address, p)
		}
	}
	if b.TLS.ALPN != nil && len(b.TLS.ALPN) == 0 {
		v.addf("bind %s: ALPN is empty: nil means the default", b.Address)
	}
}

// addrPort is the address of a bind that is no socket of a path.
func (b *Bind) addrPort() (netip.AddrPort, error) {
	if strings.HasPrefix(b.Address, ":") {
		return netip.ParseAddrPort("0.0.0.0" + b.Address)
	}
	return netip.ParseAddrPort(b.Address)
}

// bindsTwice reports addresses that are listened on twice. HAProxy takes that for
// meant, and the kernel then gives each connection to either listener at random.
func (v *validator) bindsTwice(c *Config) {
	v.place = ""
	first := map[string]string{}
	for i := range c.Frontends {
		for j := range c.Frontends[i].Binds {
			b := &c.Frontends[i].Binds[j]
			keys := []string{b.Address}
			if ap, err := b.addrPort(); err == nil {
				keys[0] = ap.String()
				if ap.Addr() == netip.IPv6Unspecified() { // "v4v6"
					keys = append(keys, netip.AddrPortFrom(netip.IPv4Unspecified(), ap.Port()).String())
				}
			}
			for _, key := range keys {
				if other, dup := first[key]; dup {
					v.addf("frontends %s and %s both listen on %s", other, c.Frontends[i].Name, b.Address)
					break
				}
				first[key] = c.Frontends[i].Name
			}
		}
	}
}

func (v *validator) backend(c *Config, b *Backend) {
	v.place = ""
	if !v.name("backend", b.Name) {
		return
	}
	v.place = "backend " + b.Name + ": "
	if b.Response != nil {
		v.response(b)
		return
	}
	if b.Balance == "static-rr" {
		v.addf("balance static-rr ignores every weight of an agent but 0%% and 100%%: use %s", RoundRobin)
	} else {
		oneOf(v, "Balance", b.Balance, "", RoundRobin, LeastConn, Random, Source, URI)
	}
	if cmp.Or(b.Balance, RoundRobin) == RoundRobin && len(b.Servers) > MaxRoundRobin {
		v.addf("%d servers are more than roundrobin's %d: use %s", len(b.Servers), MaxRoundRobin, LeastConn)
	}
	v.timeouts(&b.Timeouts)
	v.duration("AgentInterval", b.AgentInterval)
	v.health(&b.Health)
	v.serversOf(c, b)
}

func (v *validator) health(h *Health) {
	v.target("Health.Path", h.Path, "")
	v.word("Health.Host", h.Host)
	if h.Host != "" && h.Path == "" {
		v.addf("Health.Host without Health.Path")
	}
	v.duration("Health.Interval", h.Interval)
	v.duration("Health.FastInterval", h.FastInterval)
	v.number("Health.Rise", h.Rise, 0, math.MaxInt16)
	v.number("Health.Fall", h.Fall, 0, math.MaxInt16)
}

func (v *validator) response(b *Backend) {
	if len(b.Servers) > 0 {
		v.addf("it has both a fixed response and servers")
	}
	v.number("Response.Status", b.Response.Status, 200, 599)
	v.word("Response.ContentType", b.Response.ContentType)
	v.word("Response.Body", b.Response.Body)
	if b.Response.ContentType != "" && b.Response.Body == "" {
		v.addf("Response.ContentType without Response.Body")
	}
}

func (v *validator) serversOf(c *Config, b *Backend) {
	v.seen.begin()
	place := v.place
	for i := range b.Servers {
		s := &b.Servers[i]
		twice := v.seen.add(b.Servers[:i], serverKey{s.Addr, s.AgentPort})
		if !twice && v.server(c, s) {
			continue
		}
		v.place = place + "server " + s.Name() + ": "
		v.serverFaults(s, twice)
		v.place = place
	}
}

// server reports whether a server has no fault. It is apart from serverFaults
// since it runs for tens of thousands of servers and must not build their names.
func (v *validator) server(c *Config, s *Server) bool {
	return s.Addr.IsValid() && s.Addr.Port() != 0 && s.Addr.Addr().Zone() == "" && !s.Addr.Addr().Is4In6() &&
		s.Weight >= NoTraffic && s.Weight <= 256 && (s.Track == "" || !s.Check && v.isTracked(c, s.Track)) &&
		(s.AgentSend == "" || validAgentSend(s))
}

// serverSet finds servers that are in a backend twice. As long as they come in
// ascending order, as those of one service do, none is, and nothing is kept.
type serverSet struct {
	last serverKey
	kept bool // all keys, in
	keys map[serverKey]struct{}
}

type serverKey struct {
	addr  netip.AddrPort
	agent uint16
}

func (k serverKey) compare(o serverKey) int {
	return cmp.Or(k.addr.Compare(o.addr), cmp.Compare(k.agent, o.agent))
}

// begin empties the set.
func (s *serverSet) begin() {
	if s.kept {
		s.kept = false
		clear(s.keys)
	}
}

// add reports whether a key is among the earlier servers, and adds it to them.
func (s *serverSet) add(earlier []Server, key serverKey) (twice bool) {
	if !s.kept {
		if len(earlier) == 0 || s.last.compare(key) < 0 {
			s.last = key
			return false
		}
		s.kept = true
		if s.keys == nil {
			s.keys = make(map[serverKey]struct{}, 2*len(earlier))
		}
		for i := range earlier {
			s.keys[serverKey{earlier[i].Addr, earlier[i].AgentPort}] = struct{}{}
		}
	}
	_, twice = s.keys[key]
	s.keys[key] = struct{}{}
	return twice
}

// validAgentSend: the line is one word on HAProxy's side and one line on the
// agent's.
func validAgentSend(s *Server) bool {
	return s.AgentPort != 0 && len(s.AgentSend) <= maxWord && !strings.ContainsAny(s.AgentSend, "\n\r\x00") && utf8.ValidString(s.AgentSend)
}

func (v *validator) serverFaults(s *Server, twice bool) {
	if !s.Addr.IsValid() || s.Addr.Port() == 0 {
		v.addf("no address or no port")
		return
	}
	if s.Addr.Addr().Zone() != "" || s.Addr.Addr().Is4In6() {
		v.addf("an address has no zone, and IPv4 is not written as IPv6")
	}
	if twice {
		v.addf("it is there twice")
	}
	v.number("weight", s.Weight, NoTraffic, 256)
	if s.Track != "" && s.Check {
		v.addf("it both tracks %s and is checked, which HAProxy refuses", s.Track)
	}
	if s.Track != "" && !v.tracked[s.Track] {
		v.addf("it tracks %q, which is not a checked server", s.Track)
	}
	if s.AgentSend != "" && !validAgentSend(s) {
		v.addf("AgentSend %q is not one line of text for an agent port", s.AgentSend)
	}
}

// isTracked reports whether name is a server that a check or an agent watches.
// HAProxy follows chains of tracking servers too, but here one step is enough.
func (v *validator) isTracked(c *Config, name string) bool {
	known, asked := v.tracked[name]
	if asked {
		return known
	}
	backend, _, _ := strings.Cut(name, "/")
	if _, ok := v.loaded[backend]; !ok {
		v.loadTracked(c, backend)
	}
	v.tracked[name] = v.servers[name]
	return v.tracked[name]
}

func (v *validator) loadTracked(c *Config, backend string) {
	if v.loaded == nil {
		v.loaded, v.servers = map[string]struct{}{}, map[string]bool{}
	}
	v.loaded[backend] = struct{}{}
	i, ok := v.backends[backend]
	if !ok {
		return
	}
	for j := range c.Backends[i].Servers {
		s := &c.Backends[i].Servers[j]
		v.servers[trackName(backend, s.Addr, s.AgentPort)] = s.Check || s.Track == "" && s.AgentPort != 0
	}
}

func (v *validator) mapTable(m *Map) {
	v.place = ""
	if !v.name("map", m.Name) {
		return
	}
	v.place = "map " + m.Name + ": "
	if strings.Contains(m.Name, ":") || strings.HasPrefix(m.Name, ".") {
		v.addf("its name is the name of a file: no colon, no dot at the start")
	}
	sorted := slices.IsSortedFunc(m.Entries, compareEntries) // then two of one key are neighbours
	var keys map[string]struct{}
	if !sorted {
		keys = make(map[string]struct{}, len(m.Entries))
	}
	for i, e := range m.Entries {
		if !e.valid() {
			v.addf("entry %q to %q: both have 1 to %d bytes without white space and control characters, and a key does not begin with #", e.Key, e.Value, maxMapText)
		}
		dup := sorted && i > 0 && m.Entries[i-1].Key == e.Key
		if !sorted {
			_, dup = keys[e.Key]
			keys[e.Key] = struct{}{}
		}
		if dup {
			v.addf("key %q is there twice", e.Key)
		}
	}
}

// valid reports whether a map can hold the entry.
func (e MapEntry) valid() bool {
	return validMapText(e.Key) && e.Key[0] != '#' && validMapText(e.Value)
}

// validMapText: a map has no quoting at all. The key is the first word of its
// line, the value is the rest.
func validMapText(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return s != "" && len(s) <= maxMapText
}

// checkMapDir: a map is named inside double quotes inside single quotes, where
// neither quote nor backslash has a spelling that every version reads alike.
func checkMapDir(dir string) error {
	if strings.ContainsAny(dir, "\n\r\x00'\"\\") || len(dir) > maxWord {
		return fmt.Errorf("haproxycfg: directory %q holds a quote, backslash or line end, or is too long", dir)
	}
	return nil
}
