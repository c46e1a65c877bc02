package deploy

import (
	"bytes"
	"net/netip"
	"slices"

	"github.com/headgate/headgate/haproxycfg"
)

// renderLive returns the target with which HAProxy needs no reload, if there is one: the
// configuration c with its new nodes in spare servers. Otherwise it returns "own", the result of
// d.render(c). The caller must hold d.mu.
//
// HAProxy lets no server track a server that was added at run time. So the servers of services on a
// new node track a spare server (haproxycfg.Server.Spare), which HAProxy has loaded at its start.
// The node keeps the spare server until the next change that needs a reload anyway.
func (d *Dir) renderLive(c *haproxycfg.Config, own target) (target, error) {
	if d.Runtime == nil || d.Reload == nil {
		return own, nil
	}
	disk, err := readOptional(d.file(configFile))
	if err != nil {
		return target{}, err
	}
	inSpares := useSpares(c, disk, d.Runtime.busy)
	if inSpares == nil {
		return own, nil
	}
	live, err := d.renderWith(&d.inSpares, inSpares)
	if err != nil {
		return target{}, err
	}
	change, err := d.liveChange(live, exists(d.file(pendingFile)))
	if err != nil {
		return target{}, err
	}
	if change.reload != "" {
		return own, nil
	}
	return live, nil
}

// useSpares returns a copy of c in which new nodes use spare servers: servers in maintenance that
// HAProxy has loaded, and that servers of services can track. disk is the text of the present
// haproxy.cfg, and the keys of "busy" are removed servers that HAProxy still has. The result is nil
// if no node needs a spare server, or if there are too few spare servers.
func useSpares(c *haproxycfg.Config, disk []byte, busy map[string]string) *haproxycfg.Config {
	var changed *haproxycfg.Config
	renamed := map[string]string{} // values of Server.Track
	for i := range c.Backends {
		b := &c.Backends[i]
		if len(b.Servers) == 0 || !haproxycfg.IsSpare(b.Servers[len(b.Servers)-1].Slot) {
			continue
		}
		servers, ok := inSpares(b, sectionOf(disk, "backend "+b.Name), busy, renamed)
		if !ok {
			return nil
		}
		if servers != nil {
			if changed == nil {
				clone := *c
				clone.Backends = slices.Clone(c.Backends)
				changed = &clone
			}
			changed.Backends[i].Servers = servers
		}
	}
	if changed == nil {
		return nil
	}
	for i := range changed.Backends {
		b := &changed.Backends[i]
		cloned := false
		for j := range b.Servers {
			if to := renamed[b.Servers[j].Track]; to != "" {
				if !cloned {
					b.Servers, cloned = slices.Clone(b.Servers), true
				}
				b.Servers[j].Track = to
			}
		}
	}
	return changed
}

// inSpares returns the servers of the backend b, in which each new node has the name of a spare
// server. It stores this name in "renamed", under the node's own name. A node is new if its own
// name is neither in "section", the section of b in the present haproxy.cfg, nor in "busy", whose
// keys are removed servers that HAProxy still has.
//
// The result is nil if there is no new node. ok is false in two cases: there are too few free spare
// servers, or two servers of b have the same IP address.
//
// A spare server is free only if no node uses it in "section". If a node leaves a spare server with
// this change, the spare server is not free yet, because servers still track it for a while.
func inSpares(b *haproxycfg.Backend, section []byte, busy, renamed map[string]string) (servers []haproxycfg.Server, ok bool) {
	present, spares := presentServers(section)
	byAddr := map[netip.Addr]string{}
	for name, addr := range spares {
		byAddr[addr] = name
	}
	var own []haproxycfg.Server
	inUse := map[string]haproxycfg.Server{} // by the name of the spare server
	var waiting []haproxycfg.Server
	known := map[string]bool{} // spare servers of the new configuration
	for _, s := range b.Servers {
		_, kept := busy[b.Name+"/"+s.Slot]
		switch spare := byAddr[s.Addr.Addr()]; {
		case haproxycfg.IsSpare(s.Slot):
			known[s.Slot] = true
		case present[s.Slot] || kept:
			own = append(own, s)
		case spare != "":
			inUse[spare] = s
		default:
			waiting = append(waiting, s)
		}
	}
	if len(inUse)+len(waiting) == 0 {
		return nil, true
	}
	seen := map[netip.Addr]bool{}
	for _, s := range b.Servers {
		if haproxycfg.IsSpare(s.Slot) {
			continue
		}
		if seen[s.Addr.Addr()] { // byAddr would confuse the two servers
			return nil, false
		}
		seen[s.Addr.Addr()] = true
	}
	for i, s := range b.Servers {
		_, taken := inUse[s.Slot]
		if free := spares[s.Slot] == haproxycfg.SpareAddr; known[s.Slot] && free && !taken && len(waiting) > 0 {
			inUse[s.Slot], waiting = waiting[0], waiting[1:]
		}
		if node, taken := inUse[s.Slot]; taken && known[s.Slot] {
			delete(inUse, s.Slot)
			renamed[b.Name+"/"+node.Slot] = b.Name + "/" + s.Slot
			node.Slot = s.Slot
			own = append(own, node)
		} else if known[s.Slot] {
			own = append(own, b.Servers[i])
		}
	}
	return own, len(inUse)+len(waiting) == 0
}

// presentServers returns the names of the servers in a section of haproxy.cfg, and the addresses of
// its spare servers.
func presentServers(section []byte) (present map[string]bool, spares map[string]netip.Addr) {
	present, spares = map[string]bool{}, map[string]netip.Addr{}
	for line := range bytes.Lines(section) {
		word, rest := cutWord(line)
		if string(word) != "server" {
			continue
		}
		name, rest := cutWord(rest)
		address, _ := cutWord(rest)
		present[string(name)] = true
		if haproxycfg.IsSpare(string(name)) {
			addr, _ := netip.ParseAddrPort(string(address))
			spares[string(name)] = addr.Addr()
		}
	}
	return present, spares
}

// isFreeSpare reports whether a server line is about a spare server that no node uses. The argument
// is the line after the word "server".
func isFreeSpare(line []byte) bool {
	name, rest := cutWord(line)
	if len(name) == 0 || name[0] != 's' || !haproxycfg.IsSpare(string(name)) {
		return false
	}
	address, _ := cutWord(rest)
	addr, err := netip.ParseAddrPort(string(address))
	return err == nil && addr.Addr() == haproxycfg.SpareAddr
}

// sectionOf returns the text of one section of haproxy.cfg. head is the first line of the section.
// In contrast to cutSections, it does not read the other sections.
func sectionOf(config []byte, head string) []byte {
	begin := bytes.Index(config, []byte("\n"+head+"\n"))
	if begin < 0 {
		return nil
	}
	rest := config[begin+1:]
	at := 0
	for line := range bytes.Lines(rest) {
		if word, _ := cutWord(line); at > 0 && sectionWords[string(word)] {
			break
		}
		at += len(line)
	}
	return rest[:at]
}

// dropSpares removes from a saved state the spare servers of the backends in config. HAProxy reads
// the saved state later, and restores the address and the state of each server by its name. At that
// time, a spare server may belong to another node. dropSpares keeps all servers of backends that
// are not in config, whatever their names are, because these backends belong to the files of
// somebody else.
func (s *state) dropSpares(config members) {
	s.servers = slices.DeleteFunc(s.servers, func(server stateServer) bool {
		_, ours := config.backends[server.backend]
		return ours && haproxycfg.IsSpare(server.name)
	})
}

// ownAddr returns the address and port in the name of a server, or the present address of a spare
// server.
func (server *stateServer) ownAddr() (netip.AddrPort, bool) {
	if haproxycfg.IsSpare(server.name) {
		return server.addr, server.addr.IsValid()
	}
	return addrOfName(server.name)
}
