package runtimeapi_test

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// model imitates the servers of a HAProxy. It refuses the commands that its version of HAProxy
// refuses, and fails the test on a command that a plan must never contain.
type model struct {
	t        testing.TB
	version  runtimeapi.Version
	backends []string
	servers  []*modelServer
}

type modelServer struct {
	runtimeapi.ServerState
	words  string // without address, weight and "disabled"
	pinned bool   // referred to by the configuration
}

func (m *model) actual() runtimeapi.Actual {
	a := runtimeapi.Actual{Version: m.version, Backends: m.backends}
	for _, s := range m.servers {
		a.Servers = append(a.Servers, s.ServerState)
	}
	return a
}

func (m *model) find(name string) (int, *modelServer) {
	for i, s := range m.servers {
		if s.Backend+"/"+s.Name == name {
			return i, s
		}
	}
	return -1, nil
}

func (m *model) hasBackend(name string) bool {
	for _, b := range m.backends {
		if b == name {
			return true
		}
	}
	return false
}

// do carries out a command and returns HAProxy's answer.
func (m *model) do(command string) string {
	if strings.ContainsAny(command, ";\n\r\x00\\") || strings.Contains(command, "<<") {
		m.t.Fatalf("not one command: %q", command)
	}
	words := strings.Fields(command)
	verb := words[0] + " " + words[1]
	if !m.version.AtLeast(3, 0) && verb != "set server" && words[0] != "enable" {
		m.t.Fatalf("HAProxy %s gets %q", m.version, command)
	}
	switch {
	case verb == "add server":
		return m.add(words[2], words[3], words[4:])
	}
	i, s := m.find(words[2])
	switch {
	case s == nil:
		return "No such server."
	case verb == "del server":
		if s.pinned || s.Admin&runtimeapi.ForcedMaint == 0 {
			return "Only servers in maintenance mode can be deleted."
		}
		m.servers = append(m.servers[:i:i], m.servers[i+1:]...)
		return "Server deleted."
	case verb == "enable health":
		return enable(&s.Check)
	case verb == "enable agent":
		return enable(&s.Agent)
	}
	return s.set(words[3], words[4:])
}

func enable(c *runtimeapi.CheckState) string {
	if *c&runtimeapi.CheckConfigured == 0 {
		return "Health check was not configured on this server, cannot enable."
	}
	*c |= runtimeapi.CheckEnabled
	return ""
}

func (m *model) add(name, addr string, words []string) string {
	backend, server, _ := strings.Cut(name, "/")
	if _, s := m.find(name); s != nil {
		return "Already exists a server with the same name in backend."
	}
	if !m.hasBackend(backend) {
		return "No such backend."
	}
	s := &modelServer{ServerState: runtimeapi.ServerState{
		Backend: backend, Name: server, Addr: netip.MustParseAddrPort(addr), Admin: runtimeapi.ForcedMaint, Weight: 1, InitialWeight: 1,
	}}
	s.words = wordsOf(words)
	for i, w := range words {
		switch w {
		case "weight":
			s.Weight, _ = strconv.Atoi(words[i+1])
			s.InitialWeight = s.Weight
		case "check":
			s.Check = runtimeapi.CheckConfigured
		case "agent-check":
			s.Agent = runtimeapi.CheckConfigured
		}
	}
	m.servers = append(m.servers, s)
	return "New server registered."
}

// wordsOf returns the words that "set server" cannot change.
func wordsOf(words []string) string {
	var kept []string
	for i := 0; i < len(words); i++ {
		switch words[i] {
		case "weight":
			i++
		case "disabled":
		default:
			kept = append(kept, words[i])
		}
	}
	return strings.Join(kept, " ")
}

func (s *modelServer) set(what string, values []string) string {
	const admin = runtimeapi.ForcedMaint | runtimeapi.ForcedDrain
	switch what + " " + values[0] {
	case "state ready":
		if s.Admin&runtimeapi.ForcedMaint != 0 {
			s.Op = runtimeapi.Running
		}
		s.Admin &^= admin
		return ""
	case "state maint":
		s.Admin, s.Op = s.Admin&^admin|runtimeapi.ForcedMaint, runtimeapi.Stopped
		return ""
	case "state drain":
		s.Admin = s.Admin&^admin | runtimeapi.ForcedDrain
		return ""
	}
	switch what {
	case "addr":
		s.Addr = netip.MustParseAddrPort(netip.MustParseAddr(values[0]).String() + ":" + values[2])
		return "nothing changed"
	case "weight":
		s.Weight, _ = strconv.Atoi(values[0])
		return ""
	}
	return "Unknown command."
}

// apply carries out the commands of a plan up to a number, and fails the test if one fails.
func (m *model) apply(p runtimeapi.Plan, commands int) {
	for _, c := range p.Commands[:min(commands, len(p.Commands))] {
		answer := m.do(c.Text)
		switch answer {
		case "", "New server registered.", "Server deleted.", "nothing changed":
		default:
			m.t.Fatalf("%q: %q", c.Text, answer)
		}
	}
}

// script reads choices from the bytes of a fuzz test. After the last byte, each choice is 0.
type script []byte

func (s *script) choose(n int) int {
	if len(*s) == 0 {
		return 0
	}
	c := int((*s)[0])
	*s = (*s)[1:]
	return c % n
}

func (s *script) version() runtimeapi.Version {
	return []runtimeapi.Version{{Major: 2, Minor: 6}, {Major: 3, Minor: 0}, {Major: 3, Minor: 4}}[s.choose(3)]
}

// slots chooses the servers of two backends. Before 3.0, each backend always has the same four
// slots, and slots chooses their content. From 3.0 on, slots also chooses which servers exist.
func (s *script) slots(version runtimeapi.Version) []runtimeapi.Backend {
	var all []runtimeapi.Backend
	for _, name := range []string{"a", "b"} {
		b := runtimeapi.Backend{Name: name}
		for i := range 4 {
			if version.AtLeast(3, 0) && s.choose(3) == 0 {
				continue
			}
			server := runtimeapi.Server{
				Name: fmt.Sprintf("s%d", i), Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(s.choose(3))}), 80),
				Weight: []int{100, 0, 50}[s.choose(3)], Maint: s.choose(3) == 0, Check: true,
			}
			words := ""
			if version.AtLeast(3, 0) {
				words = []string{"", " maxconn 4"}[s.choose(2)]
			}
			server.Add = fmt.Sprintf("add server %s/%s %s weight %d check inter 1h%s", name, server.Name, server.Addr, server.Weight, words)
			b.Servers = append(b.Servers, server)
		}
		all = append(all, b)
	}
	return all
}

// newModel starts a model with the configuration.
func newModel(t testing.TB, version runtimeapi.Version, config []runtimeapi.Backend) *model {
	m := &model{t: t, version: version}
	for _, b := range config {
		m.backends = append(m.backends, b.Name)
		for _, s := range b.Servers {
			m.add(b.Name+"/"+s.Name, s.Addr.String(), strings.Fields(s.Add)[4:])
			started := m.servers[len(m.servers)-1]
			started.Admin, started.Op = 0, runtimeapi.Running
			started.Check |= runtimeapi.CheckEnabled
			if s.Maint {
				started.Admin, started.Op = runtimeapi.ForcedMaint|runtimeapi.ConfiguredMaint, runtimeapi.Stopped
			}
		}
	}
	return m
}

// requireWanted fails the test if the model does not have the wanted servers. byHand are servers
// that somebody has set to maintenance or drain.
func (m *model) requireWanted(wanted []runtimeapi.Backend, byHand map[string]runtimeapi.AdminState) {
	m.t.Helper()
	found := 0
	for _, b := range wanted {
		for _, s := range b.Servers {
			name := b.Name + "/" + s.Name
			_, got := m.find(name)
			if got == nil {
				m.t.Fatalf("%s is missing", name)
			}
			found++
			admin := got.Admin & (runtimeapi.ForcedMaint | runtimeapi.ForcedDrain)
			switch {
			case got.Addr != s.Addr || got.words != wordsOf(strings.Fields(s.Add)[4:]):
				m.t.Fatalf("%s is %+v, wanted %+v", name, got, s)
			case s.Maint:
				if admin&runtimeapi.ForcedMaint == 0 {
					m.t.Fatalf("%s is in service: %+v", name, got)
				}
			case admin != byHand[name]:
				m.t.Fatalf("%s has admin state %d, wanted %d", name, admin, byHand[name])
			case got.Weight != s.Weight || got.Check&runtimeapi.CheckEnabled == 0:
				m.t.Fatalf("%s is %+v, wanted %+v", name, got, s)
			}
		}
	}
	for _, s := range m.servers {
		if m.version.AtLeast(3, 0) {
			found--
		} else if _, wants := lookUp(wanted, s.Backend, s.Name); !wants && s.Admin&runtimeapi.ForcedMaint == 0 {
			m.t.Fatalf("%s/%s is in service", s.Backend, s.Name)
		}
	}
	if m.version.AtLeast(3, 0) && found != 0 {
		m.t.Fatalf("%d servers too many", -found)
	}
}

func lookUp(backends []runtimeapi.Backend, backend, server string) (runtimeapi.Server, bool) {
	for _, b := range backends {
		for _, s := range b.Servers {
			if b.Name == backend && s.Name == server {
				return s, true
			}
		}
	}
	return runtimeapi.Server{}, false
}

// FuzzPlan changes the servers of a model several times. It interrupts some plans after some of
// their commands. Between plans, it sets servers to maintenance and drain as a person would. After
// each complete plan the model has the wanted servers, and another plan is empty.
func FuzzPlan(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		s := script(data)
		version := s.version()
		before := s.slots(version)
		m := newModel(t, version, before)
		for range 4 {
			byHand := map[string]runtimeapi.AdminState{}
			for _, server := range m.servers {
				if admin := server.Admin & (runtimeapi.ForcedMaint | runtimeapi.ForcedDrain); admin != 0 {
					if was, ok := lookUp(before, server.Backend, server.Name); ok && !was.Maint {
						byHand[server.Backend+"/"+server.Name] = admin
					}
				}
			}
			// A person changes a server that is in service, or HAProxy ejects one.
			var ejected *modelServer
			if n := s.choose(2*len(m.servers) + 2); n < 2*len(m.servers) {
				server := m.servers[n/2]
				name := server.Backend + "/" + server.Name
				was, ok := lookUp(before, server.Backend, server.Name)
				switch {
				case !ok || was.Maint:
				case n%2 == 0:
					server.set("state", []string{[]string{"maint", "drain", "ready"}[s.choose(3)]})
					byHand[name] = server.Admin & (runtimeapi.ForcedMaint | runtimeapi.ForcedDrain)
				case server.Admin&^runtimeapi.ConfiguredMaint == 0:
					server.Op, ejected = runtimeapi.Stopped, server
				}
			}
			settled := before
			if s.choose(2) == 1 {
				attempted := s.slots(version)
				m.apply(m.actual().Plan(before, attempted), s.choose(40))
				settled, ejected = runtimeapi.Unsettled(before, attempted), nil
				forget(byHand, before, attempted, true)
			}
			wanted := s.slots(version)
			forget(byHand, before, wanted, false)
			plan := m.actual().Plan(settled, wanted)
			if len(plan.Reload) > 0 {
				t.Fatalf("a reload for %v", plan.Reload)
			}
			m.apply(plan, len(plan.Commands))
			m.requireWanted(wanted, byHand)
			if ejected != nil {
				was, _ := lookUp(before, ejected.Backend, ejected.Name)
				if now, ok := lookUp(wanted, ejected.Backend, ejected.Name); ok && was == now && ejected.Op != runtimeapi.Stopped {
					t.Fatalf("%+v is up", ejected)
				}
			}
			if again := m.actual().Plan(wanted, wanted); !again.Empty() {
				t.Fatalf("not empty: %+v", again)
			}
			before = wanted
		}
	})
}

// forget removes servers from byHand. A person has set these servers to maintenance or drain, and
// the change ends this state: a server is gone, has another address, or should not be in service.
// An interrupted change may have ended the state of every server that it would change.
func forget(byHand map[string]runtimeapi.AdminState, before, wanted []runtimeapi.Backend, interrupted bool) {
	for name := range byHand {
		backend, server, _ := strings.Cut(name, "/")
		was, _ := lookUp(before, backend, server)
		now, ok := lookUp(wanted, backend, server)
		if !ok || now.Maint || was.Addr != now.Addr || interrupted && was != now {
			delete(byHand, name)
		}
	}
}
