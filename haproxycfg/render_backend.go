package haproxycfg

import (
	"bytes"
	"cmp"
	"hash/fnv"
	"net/netip"
	"strconv"
	"time"
)

func (b *Backend) append(t *text) {
	t.section("backend", b.Name)
	if b.Response != nil {
		b.Response.append(t)
		return
	}
	switch b.Balance {
	case "", RoundRobin:
		t.line("balance roundrobin")
	case Random:
		t.line("balance random(2)")
	case Source, URI:
		t.line("balance ")
		t.raw(string(b.Balance))
		t.line("hash-type consistent")
	default:
		t.line("balance ")
		t.raw(string(b.Balance))
	}
	b.Timeouts.append(t)
	b.Health.append(t, b.AgentInterval)
	var ids []int
	if b.Balance == Source || b.Balance == URI {
		ids = serverIDs(b.Servers)
	}
	for i := range b.Servers {
		b.Servers[i].append(t)
		if ids != nil {
			t.raw(" id")
			t.int(ids[i])
		}
	}
}

// maxServerID: of an id HAProxy keeps 20 bits when it places a server's up to 4,096
// points on the ring (id times SRV_EWGHT_RANGE in 32 bits, in its lb_chash.c). Two
// servers that differ in the others alone have the same points, and share what is
// meant for one.
const maxServerID = 1<<20 - 1

// serverIDs returns an id for each server, made of its name. HAProxy hashes
// servers by id, and the ids that it gives out itself follow the order in the
// file: a server added in the middle would move the clients of all after it.
func serverIDs(servers []Server) []int {
	ids := make([]int, len(servers))
	taken := make(map[int]bool, len(servers))
	var name []byte
	for i := range servers {
		name = servers[i].appendName(name[:0])
		h := fnv.New32a()
		_, _ = h.Write(name)
		sum := h.Sum32()
		id := int((sum>>20^sum)%maxServerID) + 1 // positive, as they have to be
		for taken[id] && len(taken) < maxServerID {
			id = id%maxServerID + 1
		}
		taken[id] = true
		ids[i] = id
	}
	return ids
}

func (r *FixedResponse) append(t *text) {
	t.line("http-request return status")
	t.int(r.Status)
	if r.Body == "" { // HAProxy refuses an empty string
		return
	}
	t.raw(" content-type")
	t.word(cmp.Or(r.ContentType, "text/plain"))
	t.raw(" string")
	t.word(r.Body)
}

// defaultInterval is the time between two checks, of health and of agents.
const defaultInterval = 2 * time.Second

// append renders how servers are checked. There is always a default-server line,
// since without one HAProxy 3.3 and 3.4 leave a server down after its agent
// said "down" once and then nothing of health.
func (h *Health) append(t *text, agentInterval time.Duration) {
	if h.Path != "" && h.Host == "" {
		t.line("option httpchk GET")
		t.word(h.Path)
	} else if h.Path != "" {
		t.line("option httpchk")
		t.line("http-check send meth GET uri")
		t.word(h.Path)
		t.raw(" ver HTTP/1.1 hdr Host")
		t.word(logFormat(h.Host))
	}
	t.line("default-server inter")
	t.duration(cmp.Or(h.Interval, defaultInterval))
	if h.FastInterval > 0 {
		t.raw(" fastinter")
		t.duration(h.FastInterval)
	}
	t.raw(" rise")
	t.int(cmp.Or(h.Rise, 2))
	t.raw(" fall")
	t.int(cmp.Or(h.Fall, 3))
	t.raw(" agent-inter")
	t.duration(cmp.Or(agentInterval, defaultInterval))
}

// Name is the server's name in HAProxy: "ADDRESS:PORT", with an agent
// "ADDRESS:PORT-AGENTPORT", IPv6 addresses without brackets.
//
// Every name is derived from these three and nothing else, because HAProxy's
// state file restores not only weight and drain of a server that it knows by
// name but address and port too. If a service's node port changes, a name that
// stayed would keep the old port alive after a reload, and in time send one
// service's clients to another; a name that changes has no line in that file.
func (s Server) Name() string {
	var b [64]byte
	return string(s.appendName(b[:0]))
}

func (s *Server) appendName(b []byte) []byte {
	b = s.Addr.Addr().AppendTo(b)
	b = append(b, ':')
	b = strconv.AppendUint(b, uint64(s.Addr.Port()), 10)
	if s.AgentPort != 0 {
		b = append(b, '-')
		b = strconv.AppendUint(b, uint64(s.AgentPort), 10)
	}
	return b
}

// append is nearly all of rendering a large configuration, so it works on a slice of
// its own and writes out an IPv4 address once: name and address read the same then.
func (s *Server) append(t *text) {
	b := append(*t, "\n    server "...)
	name := len(b)
	b = s.appendName(b)
	b = append(b, ' ')
	if s.Addr.Addr().Is4() {
		end := name + bytes.IndexByte(b[name:], ':') + 1
		for '0' <= b[end] && b[end] <= '9' {
			end++
		}
		b = append(b, b[name:end]...)
	} else {
		b = s.Addr.AppendTo(b) // IPv6 in brackets: HAProxy reads the last colon as that of the port
	}
	if s.Check {
		b = append(b, " check"...)
	}
	if s.Track != "" {
		b = appendQuoted(append(b, " track "...), s.Track)
	}
	b = strconv.AppendInt(append(b, " weight "...), int64(s.weight()), 10)
	if s.AgentPort != 0 {
		b = strconv.AppendUint(append(b, " agent-check agent-port "...), uint64(s.AgentPort), 10)
		if s.AgentSend != "" {
			// HAProxy sends these bytes and nothing else, so the line end is
			// part of them; it is written as an escape, outside the quotes.
			b = appendQuoted(append(b, " agent-send "...), s.AgentSend)
			b = append(b, `\n`...)
		}
	}
	*t = b
}

// weight is the weight as HAProxy counts it.
func (s *Server) weight() int {
	switch s.Weight {
	case 0:
		return DefaultWeight
	case NoTraffic:
		return 0
	}
	return s.Weight
}

// trackName is what Server.Track holds to follow the named server.
func trackName(backend string, addr netip.AddrPort, agentPort uint16) string {
	s := Server{Addr: addr, AgentPort: agentPort}
	return string(s.appendName(append([]byte(backend), '/')))
}
