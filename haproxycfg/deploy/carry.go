package deploy

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// member is a server of a configuration.
type member struct {
	name      string
	addr      netip.AddrPort
	weight    int    // the weight in the configuration
	agentPort string // "" without an agent
}

// members are the servers of a configuration. The servers of one backend are in the order of the
// configuration.
type members struct {
	backends map[string][]member
	services map[string][]string // names of backends by service
	tracked  map[string]bool     // names of backends whose servers other servers track
}

// service returns the part of a backend's name before the first ":". Package edge writes a hash of
// the settings of the backend after the ":". So service returns the same text when the settings
// change.
func service(backend string) string {
	name, _, _ := strings.Cut(backend, ":")
	return name
}

// readMembers reads the servers in the text of haproxy.cfg.
func readMembers(config []byte) members {
	m := members{backends: map[string][]member{}, services: map[string][]string{}, tracked: map[string]bool{}}
	for head, section := range cutSections(config) {
		backend, ok := strings.CutPrefix(head, "backend ")
		if !ok {
			continue
		}
		lines := section.lines()
		all := make([]member, 0, len(lines.servers))
		for _, name := range lines.servers {
			words := strings.Fields(lines.byName[name])
			s := member{name: name, weight: 1}
			if len(words) > 2 {
				s.addr, _ = netip.ParseAddrPort(words[2])
			}
			for i := 3; i+1 < len(words); i++ {
				switch value := words[i+1]; words[i] {
				case "weight":
					s.weight, _ = strconv.Atoi(value)
				case "agent-port":
					s.agentPort = value
				case "track":
					at, _, _ := strings.Cut(value, "/")
					m.tracked[at] = true
				}
			}
			if s.addr.IsValid() {
				all = append(all, s)
			}
		}
		m.backends[backend] = all
		m.services[service(backend)] = append(m.services[service(backend)], backend)
	}
	for _, names := range m.services {
		slices.Sort(names)
	}
	return m
}

// successors returns the servers of the new configuration m that replace the servers of a backend
// of the old configuration. If m has a backend with the same name, the result is the servers of
// this backend. Otherwise the result is the servers of all backends of the same service in m.
func (m members) successors(backend string) []member {
	if all, ok := m.backends[backend]; ok {
		return all
	}
	var all []member
	for _, name := range m.services[service(backend)] {
		all = append(all, m.backends[name]...)
	}
	return all
}

// state is an answer to "show servers state": two header lines, then one line for each server.
type state struct {
	head    string
	columns map[string]int
	servers []stateServer
}

// stateServer is a line about a server.
type stateServer struct {
	fields        []string
	backend, name string
	addr          netip.AddrPort // the present address, which may differ from the one in the name
}

func parseState(text string) (state, error) {
	s := state{columns: map[string]int{}}
	for n, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		fields := strings.Fields(line)
		switch {
		case n == 1:
			for i, name := range fields[min(1, len(fields)):] { // after "#"
				s.columns[name] = i
			}
			for _, name := range []string{"be_name", "srv_name", "srv_addr", "srv_uweight", "srv_iweight", "srv_port"} {
				if _, ok := s.columns[name]; !ok {
					return s, fmt.Errorf("deploy: the state of the servers has no column %s", name)
				}
			}
			fallthrough
		case n == 0:
			s.head += line + "\n"
		case len(fields) >= len(s.columns):
			server := stateServer{fields: fields, backend: s.get(fields, "be_name"), name: s.get(fields, "srv_name")}
			if ip, err := netip.ParseAddr(s.get(fields, "srv_addr")); err == nil {
				port, _ := strconv.ParseUint(s.get(fields, "srv_port"), 10, 16)
				server.addr = netip.AddrPortFrom(ip, uint16(port))
			}
			s.servers = append(s.servers, server)
		}
	}
	if len(s.columns) == 0 {
		return s, fmt.Errorf("deploy: not a state of servers: %.200q", text)
	}
	return s, nil
}

func (s state) get(fields []string, column string) string { return fields[s.columns[column]] }

// set sets the column of a line to "value". It does nothing if this version of HAProxy does not
// have the column.
func (s state) set(fields []string, column, value string) {
	if i, ok := s.columns[column]; ok {
		fields[i] = value
	}
}

func (s state) String() string {
	var b strings.Builder
	b.WriteString(s.head)
	for _, server := range s.servers {
		b.WriteString(strings.Join(server.fields, " "))
		b.WriteByte('\n')
	}
	return b.String()
}

// dropLeftovers removes from the state each server in maintenance that the configuration in force
// ("before") no longer contains. A [Runtime] has taken such a server out of service, but HAProxy
// could not delete it. If a new configuration contains the server again, it must not be in
// maintenance.
//
// Servers of backends that are not in the configuration in force stay in the state: they belong to
// the files of somebody else, see haproxycfg.Config.Fragment.
func (s *state) dropLeftovers(before members) {
	known := map[string]bool{}
	for backend, all := range before.backends {
		for _, m := range all {
			known[backend+"/"+m.name] = true
		}
	}
	admin, ok := s.columns["srv_admin_state"]
	s.servers = slices.DeleteFunc(s.servers, func(server stateServer) bool {
		if _, ours := before.backends[server.backend]; !ours || !ok || known[server.backend+"/"+server.name] {
			return false
		}
		flags, err := strconv.Atoi(server.fields[admin])
		return err == nil && runtimeapi.AdminState(flags)&runtimeapi.ForcedMaint != 0
	})
}

// reweigh writes the new weights of servers without agents into the saved state. The argument "now"
// is the new configuration, and "before" is the configuration in force.
//
// HAProxy restores the saved weight of a server if the server has the same initial weight as at the
// last start of HAProxy. So without reweigh, HAProxy could restore a weight that a Dir has set at
// run time.
//
// If a saved weight differs from the weight in the configuration in force, a person has set it, and
// reweigh does not change it.
func (s *state) reweigh(before, now members) {
	weights := func(m members) map[string]string {
		all := map[string]string{}
		for backend, servers := range m.backends {
			for _, server := range servers {
				if server.agentPort == "" {
					all[backend+"/"+server.name] = strconv.Itoa(server.weight)
				}
			}
		}
		return all
	}
	old, wanted := weights(before), weights(now)
	for _, server := range s.servers {
		name := server.backend + "/" + server.name
		was, ok := old[name]
		weight, stays := wanted[name]
		if ok && stays && was != weight && s.get(server.fields, "srv_uweight") == was {
			s.set(server.fields, "srv_uweight", weight)
			s.set(server.fields, "srv_iweight", weight)
		}
	}
}

// carry changes s, the saved state of the servers in the running HAProxy, before a reload, so that
// it fits the new configuration:
//
//   - HAProxy finds the state of a server by the names of its backend and of the server. A renamed
//     server, after a change of its port or its backend, would have its full weight until its agent
//     answers. So it receives the state of the server that it replaces on the same node.
//   - If a node had a spare server (haproxycfg.Server.Spare) and now gets a server with a name of
//     its own, the new server receives the state of the spare server. carry removes the states of
//     spare servers, because they may belong to other nodes later.
//   - HAProxy also restores the addresses in the state. So carry sets the address of each server to
//     its address in the new configuration.
func (s *state) carry(config members) {
	type key struct{ backend, name string }
	known := make(map[key]int, len(s.servers))
	donors := map[string][]int{} // by service
	for i, server := range s.servers {
		known[key{server.backend, server.name}] = i
		donors[service(server.backend)] = append(donors[service(server.backend)], i)
	}
	for _, names := range config.services {
		for _, backend := range names {
			for _, now := range config.backends[backend] {
				if i, ok := known[key{backend, now.name}]; ok {
					s.place(s.servers[i].fields, now)
					continue
				}
				best, rank := -1, 0
				for _, i := range donors[service(backend)] {
					was := s.servers[i]
					own, ok := was.ownAddr()
					if !ok || own.Addr() != now.addr.Addr() {
						continue
					}
					r := 1
					if _, stays := known[key{backend, was.name}]; !stays || was.backend == backend {
						r++
					}
					if own.Port() == now.addr.Port() {
						r += 2
					}
					if was.name == now.name {
						r += 4
					}
					if r > rank {
						best, rank = i, r
					}
				}
				if best >= 0 {
					s.copyTo(s.servers[best], backend, now)
				}
			}
		}
	}
	s.dropSpares(config)
}

// copyTo adds a line for the server "fresh" of a backend to the saved state, so that HAProxy starts
// it with the weight, the drain and the maintenance of the server "old". If the initial weights
// differ, copyTo scales the weight: 50 of 100 becomes 5 of 10.
func (s *state) copyTo(old stateServer, backend string, fresh member) {
	fields := slices.Clone(old.fields)
	initial, err1 := strconv.Atoi(s.get(fields, "srv_iweight"))
	weight, err2 := strconv.Atoi(s.get(fields, "srv_uweight"))
	if err1 != nil || err2 != nil || initial <= 0 || weight < 0 || fresh.weight <= 0 {
		return // the old server has no weight to keep
	}
	scaled := min(256, weight*fresh.weight/initial)
	if weight > 0 {
		scaled = max(1, scaled)
	}
	s.set(fields, "be_name", backend)
	s.set(fields, "srv_name", fresh.name)
	s.set(fields, "srv_uweight", strconv.Itoa(scaled))
	s.set(fields, "srv_iweight", strconv.Itoa(fresh.weight))
	s.place(fields, fresh)
	if i, ok := s.columns["srv_admin_state"]; ok {
		if admin, err := strconv.Atoi(fields[i]); err == nil { // a spare server is disabled in the configuration
			fields[i] = strconv.Itoa(admin &^ int(runtimeapi.ConfiguredMaint))
		}
	}
	// Keep the weight, the drain and the maintenance, because they belong to the node or the
	// service. Reset the result of the health checks, because the checks of the old port prove
	// nothing about the new port: the server is up, as every new server is.
	for column, value := range map[string]string{
		"srv_op_state": "2", "srv_check_status": "1", "srv_check_result": "0", "srv_check_health": "0",
		"srv_check_addr": "-", "srv_agent_addr": "-", "srv_check_port": "0", "srv_agent_port": "0",
	} {
		s.set(fields, column, value)
	}
	s.servers = append(s.servers, stateServer{fields: fields, backend: backend, name: fresh.name, addr: fresh.addr})
}

// place writes the address and port of the server into fields, the columns of a line of the state.
func (s *state) place(fields []string, server member) {
	s.set(fields, "srv_addr", server.addr.Addr().String())
	s.set(fields, "srv_port", strconv.Itoa(int(server.addr.Port())))
}

// addrOfName returns the address and port in a server's name, as [haproxycfg.Server.Name] writes
// them: "10.1.0.1:31000", "10.1.0.1:31000-9801" or "fd00::1:31000".
func addrOfName(name string) (netip.AddrPort, bool) {
	name, _, _ = strings.Cut(name, "-")
	colon := strings.LastIndexByte(name, ':')
	if colon < 0 {
		return netip.AddrPort{}, false
	}
	ip, err1 := netip.ParseAddr(name[:colon])
	port, err2 := strconv.ParseUint(name[colon+1:], 10, 16)
	return netip.AddrPortFrom(ip, uint16(port)), err1 == nil && err2 == nil
}

// move is a command that gives a server of the running HAProxy another address.
type move struct {
	backend, name string
	to            netip.AddrPort
}

// command returns the command "set server" that makes the move.
func (m move) command() string {
	return fmt.Sprintf("set server %s/%s addr %s port %d", m.backend, m.name, m.to.Addr(), m.to.Port())
}

// moves returns changes of addresses for the servers in s, so that HAProxy sends no requests to an
// address that the new configuration does not use. The addresses in use for a backend are those of
// its servers with a weight above 0 in the new configuration. If the new configuration has no
// backend of this name, they are the addresses of such servers in all backends of the same service.
//
// The name of a server contains an address and a port. moves applies the first rule that fits:
//
//   - If the address and port in the name of the server are in use, the server gets this address
//     and port.
//   - A port of the same node is new if it is in use, and no server of the backend has it in its
//     name. If there is exactly one new port, the server gets it.
//   - Otherwise the server gets the address and port of another server of its backend that takes
//     requests. If no other server takes requests, the server keeps its address and port.
//
// moves does not change a server without an address in its name, a server that other servers track,
// or the servers of a backend for which no address is in use.
func (s state) moves(config members) []move {
	groups := map[string][]stateServer{}
	for _, server := range s.servers {
		if !config.tracked[server.backend] {
			groups[server.backend] = append(groups[server.backend], server)
		}
	}
	var all []move
	for _, backend := range slices.Sorted(maps.Keys(groups)) {
		inUse := map[netip.AddrPort]bool{}
		byIP := map[netip.Addr][]netip.AddrPort{} // addresses in use that are in no server's name
		for _, now := range config.successors(backend) {
			if now.weight > 0 && !inUse[now.addr] {
				inUse[now.addr] = true
				byIP[now.addr.Addr()] = append(byIP[now.addr.Addr()], now.addr)
			}
		}
		var others []netip.AddrPort // addresses of servers that take requests now
		for _, server := range groups[backend] {
			own, _ := addrOfName(server.name)
			if !inUse[own] {
				continue
			}
			byIP[own.Addr()] = slices.DeleteFunc(byIP[own.Addr()], func(a netip.AddrPort) bool { return a == own })
			if s.takesRequests(server) {
				others = append(others, own)
			}
		}
		for i, server := range groups[backend] {
			own, ok := addrOfName(server.name)
			target := own
			switch renamed := byIP[own.Addr()]; {
			case !ok || len(inUse) == 0:
				continue
			case inUse[own]:
			case len(renamed) == 1:
				target = renamed[0]
			case len(others) > 0:
				target = others[i%len(others)]
			default:
				continue
			}
			if server.addr != target {
				all = append(all, move{backend, server.name, target})
			}
		}
	}
	return all
}

// takesRequests reports whether HAProxy sends requests to the server: it is up, it is not in drain
// or maintenance, and its weight is not 0.
func (s state) takesRequests(server stateServer) bool {
	is := func(column, value string) bool {
		i, ok := s.columns[column]
		return ok && server.fields[i] == value
	}
	return is("srv_admin_state", "0") && !is("srv_op_state", "0") && !is("srv_uweight", "0")
}

// maxMovesTime limits how long makeMoves may take. The limit leaves time for the reload after it.
const maxMovesTime = 15 * time.Second

// makeMoves sends the moves to the worker. If a move fails, makeMoves still tries the others. Its
// error contains the error of the first failed move, and the number of failed moves.
func makeMoves(ctx context.Context, worker runtimeapi.Socket, moves []move) error {
	ctx, cancel := context.WithTimeout(ctx, maxMovesTime)
	defer cancel()
	failed := 0
	var first error
	for n, m := range moves {
		if ctx.Err() != nil {
			failed += len(moves) - n
			first = cmp.Or(first, ctx.Err())
			break
		}
		answer, err := worker.Do(ctx, m.command())
		if err == nil && !strings.Contains(answer, "changed from") && !strings.Contains(answer, "no need to change") {
			err = fmt.Errorf("deploy: %s: HAProxy answers %.200q", m.command(), strings.TrimSpace(answer))
		}
		if err != nil {
			failed++
			first = cmp.Or(first, err)
		}
	}
	if failed > 1 {
		return fmt.Errorf("%d of %d servers keep their address, the first because: %w", failed, len(moves), first)
	}
	return first
}

// Redirect makes HAProxy send no more requests to servers that config does not use; config is the
// text of a haproxy.cfg that the caller cannot load yet. In the worker that serves new connections,
// each such server moves to its new port, or to the address of another server of its backend. With
// the text of the configuration in force, Redirect undoes earlier calls.
func (r Reloader) Redirect(ctx context.Context, config []byte) error {
	worker, err := r.worker(ctx)
	if err != nil {
		return fmt.Errorf("deploy: redirect: %w", err)
	}
	text, err := worker.ServersState(ctx)
	if err != nil {
		return fmt.Errorf("deploy: redirect: %w", err)
	}
	servers, err := parseState(text)
	if err != nil {
		return fmt.Errorf("deploy: redirect: %w", err)
	}
	return makeMoves(ctx, worker, servers.moves(readMembers(config)))
}
