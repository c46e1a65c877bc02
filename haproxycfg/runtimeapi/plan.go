package runtimeapi

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Backend names a backend of a running HAProxy, and the servers that it should have.
type Backend struct {
	Name string
	// Servers are in any order. No two have the same name.
	Servers []Server
	// Fixed is the reason why HAProxy cannot add or delete servers of the backend at run time, for
	// example the algorithm of the backend. A plan then only changes the servers that exist. Empty
	// means that there is no such reason.
	Fixed string
	// Tracked means that servers of other backends track servers of this backend. HAProxy does not
	// delete a tracked server, and a server cannot track a server that was added at run time. So a
	// plan adds no server to the backend, and leaves unwanted servers in maintenance.
	Tracked bool
	// Add is the whole command that adds the backend: "add backend NAME from DEFAULTS". A plan sends
	// it if HAProxy does not have the backend. DEFAULTS is the name of a section "defaults" that
	// HAProxy has loaded, and that contains all settings of the backend. If Add is empty, HAProxy
	// must reload to add the backend. HAProxy has the command from 3.4 on.
	Add string
	// Delete means that HAProxy should not have the backend: a plan deletes its servers, and then
	// the backend. HAProxy has the command from 3.4 on. It refuses to delete a backend that its
	// configuration names in a rule, and a backend with a stick table.
	Delete bool
}

// Server is a server that a running HAProxy should have.
type Server struct {
	// Name consists of letters, digits and "-_.:".
	Name string
	// Addr is the address and port. The zero AddrPort means that a plan does not change the
	// address.
	Addr netip.AddrPort
	// Weight is the wanted weight, from 0 to 256. With the weight 0 the server gets no requests.
	Weight int
	// Maint is true if the server should be in maintenance, for example because it is a spare
	// server that has no pod. HAProxy then sends it no requests and makes no checks.
	Maint bool
	// Force makes a plan end a maintenance or drain that a person or an agent has begun. Without
	// Force, such a server stays out of service, see [Actual.Plan].
	Force bool
	// Add is the whole command that adds the server: "add server BACKEND/NAME ADDRESS WORD…", see
	// haproxycfg.Backend.AddServer. If Add is empty, HAProxy must reload to add the server. A slot
	// (a server in maintenance whose address a plan can change) that HAProxy already has needs no
	// Add.
	//
	// A plan can change the address, the weight and "disabled" of the server. If any other word of Add
	// changes, the plan deletes the server and adds it again.
	Add string
	// Check is true if the server has a health check, and Agent is true if it has an agent check.
	// If HAProxy has added the server at run time, it begins these checks only after commands that
	// enable them.
	Check, Agent bool
}

// Plan is a list of commands. When a running HAProxy has carried them out, it has the wanted
// servers.
type Plan struct {
	// Commands are in the order in which they must be sent. [Socket.Apply] sends them.
	Commands []Command
	// Reload contains the reasons why HAProxy must also load its configuration again. Empty means
	// that the commands suffice. If it is not empty, the commands still make all changes that
	// HAProxy can make without a reload.
	Reload []Reason
	// First is the number of commands at the beginning of Commands that prepare backends for
	// requests. They add backends. They bring servers into service in two cases: their backend has
	// no server in service, or other servers track them.
	//
	// If a map must change together with the servers, change it after the first First commands, and
	// before the remaining commands. Then a map leads to a new backend only after this backend has
	// servers, and no map leads to an old backend when a command deletes it.
	First int
	// Replaced is the number of servers that the commands delete and add again.
	Replaced int
	// Kept contains the unwanted servers, as "backend/server", that HAProxy cannot delete at run
	// time. They stay in maintenance until the next reload.
	Kept []string
	// Wait is the longest time that [Socket.Apply] waits for connections to end: once for all unwanted
	// servers together, and then for each server that it replaces. 0 means 10 s, and less than 0 means
	// no wait. [Actual.Plan] leaves Wait 0.
	Wait time.Duration
}

// defaultWait is the time that a Plan.Wait of 0 means.
const defaultWait = 10 * time.Second

// Empty reports whether HAProxy already has the wanted servers.
func (p Plan) Empty() bool { return len(p.Commands)+len(p.Reload) == 0 }

// Reason says why a server cannot be changed without a reload.
type Reason struct {
	// Server is "" if the reason applies to the whole backend.
	Backend, Server string
	Text            string
}

// String returns one line.
func (r Reason) String() string {
	if r.Server == "" {
		return "backend " + r.Backend + ": " + r.Text
	}
	return "server " + r.Backend + "/" + r.Server + ": " + r.Text
}

// Kind is the kind of a [Command].
type Kind int

// The kinds of commands.
const (
	AddServer        Kind = iota // add server
	DeleteServer                 // del server; HAProxy refuses it while the server has connections
	SetAddress                   // set server addr
	SetWeight                    // set server weight
	SetMaint                     // set server state maint
	SetReady                     // set server state ready
	SetDrain                     // set server state drain
	EnableHealth                 // enable health
	EnableAgent                  // enable agent
	DisableAgent                 // disable agent
	AddBackend                   // add backend
	PublishBackend               // publish backend; before it, HAProxy sends no requests to a new backend
	UnpublishBackend             // unpublish backend
	DeleteBackend                // del backend; HAProxy refuses it while a request uses the backend
)

// Command is a command of a plan. It changes one server or one backend.
type Command struct {
	Kind Kind
	// Server is "" in a command that changes a backend.
	Backend, Server string
	// Text is the whole command without a line end.
	Text string
}

// target returns the server as "backend/server", or the name of the backend.
func (c Command) target() string {
	if c.Server == "" {
		return c.Backend
	}
	return c.Backend + "/" + c.Server
}

// DeletesServers reports whether a plan deletes servers of an HAProxy of the version v. HAProxy
// 2.6.12 can crash when it deletes a server while it repeats requests of this server (fixed in
// HAProxy's commit 95c4d2482). HAProxy 2.6 also refuses to delete a server that has idle
// connections.
func (v Version) DeletesServers() bool { return v.AtLeast(3, 0) }

// Plan returns the commands after which HAProxy, whose present state is a, has the wanted servers.
// It does not change backends that are not in "wanted".
//
// The argument "before" contains the servers that HAProxy should have had until now. These are the
// wanted servers of the last plan. If HAProxy carried out only a part of that plan, pass the result
// of [Unsettled]. If the servers are unknown, pass nil. Plan uses before to decide two things:
//
//   - Whether a fixed setting of a server has changed: a setting in Server.Add that HAProxy cannot
//     change at run time. With nil, Plan assumes that no fixed setting has changed.
//   - Who has taken a server out of service. If "before" says that the server should be in service,
//     or if before is nil, Plan assumes that a person or an agent has taken it out of service. The
//     server then stays out of service unless Server.Force is true.
//
// A server that is down stays down. An agent or a person may have changed a weight. So Plan changes
// a weight only if the wanted weight differs from the weight in before. If before is nil, Plan
// compares the wanted weight with the initial weight.
//
// Plan adds the missing backends whose Add is not empty. If HAProxy already has such a backend, but
// "before" does not contain it, nobody knows its settings, and HAProxy needs a reload.
//
// Plan adds the missing servers whose Add is not empty. From HAProxy 3.0 on, it deletes servers
// that are not wanted, and replaces servers with a changed fixed setting. Before 3.0, it sets
// unwanted servers to maintenance, see Plan.Kept, and a changed fixed setting needs a reload.
//
// A new server with an agent would have its full weight until the agent answers. So Plan copies the
// drain, the maintenance and the share of the weight from an old server with an agent. This old
// server has the same address and port, or the same address in the same backend.
//
// An agent may answer "ready", which ends every maintenance. So Plan disables the agent checks of a
// server that is not wanted.
func (a Actual) Plan(before, wanted []Backend) Plan {
	p := planner{dynamic: a.Version.DeletesServers(), version: a.Version, known: before != nil, actual: a.Servers, before: before}
	exists := make(map[string]bool, len(a.Backends))
	for _, name := range a.Backends {
		exists[name] = true
	}
	rows := make(map[string][]*ServerState, len(a.Backends))
	for i := range a.Servers {
		s := &a.Servers[i]
		rows[s.Backend] = append(rows[s.Backend], s)
	}
	earlier := make(map[string]*Backend, len(before))
	for i := range before {
		earlier[before[i].Name] = &before[i]
	}
	for i := range wanted {
		b := &wanted[i]
		has := exists[b.Name] || rows[b.Name] != nil
		switch cannot := p.cannotChange(b); {
		case b.Delete && !has:
		case b.Delete && cannot != "":
			p.reload(b.Name, "", cannot)
		case b.Delete:
			p.delete(b, rows[b.Name])
		case has && b.Add != "" && p.known && earlier[b.Name] == nil:
			p.reload(b.Name, "", "the running HAProxy already has such a backend")
		case has:
			p.backend(b, earlier[b.Name], rows[b.Name])
		case b.Add == "":
			p.reload(b.Name, "", "the running HAProxy has no such backend")
		case cannot != "":
			p.reload(b.Name, "", cannot)
		default:
			p.first = appendCommand(p.first, AddBackend, b.Name, "", b.Add)
			p.backend(b, nil, nil)
			p.first = appendCommand(p.first, PublishBackend, b.Name, "", "publish backend "+b.Name)
		}
	}
	return Plan{
		Commands: slices.Concat(p.first, p.disable, p.fill, p.maint, p.remove, p.backends, p.replace),
		Reload:   p.reasons,
		First:    len(p.first),
		Replaced: p.replaced,
		Kept:     p.kept,
	}
}

// Unsettled is for the case that HAProxy has carried out only a part of the last plan. Its arguments
// are those of the call of [Actual.Plan] that made the last plan. Unsettled returns the backends to
// pass as "before" to the next call of Plan.
//
// The next plan completes the changes of servers. If such a server is in maintenance, the next plan
// assumes that the last plan began the maintenance. So it can end a maintenance that a person began.
//
// If the last plan adds or deletes backends, reload HAProxy instead: a backend may have no servers
// yet, or may not be published.
func Unsettled(before, attempted []Backend) []Backend {
	type key struct{ backend, server string }
	tried := map[key]*Server{}
	for i := range attempted {
		for j := range attempted[i].Servers {
			tried[key{attempted[i].Name, attempted[i].Servers[j].Name}] = &attempted[i].Servers[j]
		}
	}
	at := map[string]int{}
	var all []Backend
	for _, b := range before {
		at[b.Name] = len(all)
		kept := Backend{Name: b.Name, Fixed: b.Fixed, Tracked: b.Tracked}
		for _, s := range b.Servers {
			now := tried[key{b.Name, s.Name}]
			delete(tried, key{b.Name, s.Name})
			switch {
			case now != nil && sameWords(s.Add, now.Add) && s.Addr == now.Addr && s.Weight == now.Weight && s.Maint == now.Maint:
			case now != nil && sameWords(s.Add, now.Add):
				s = Server{Name: s.Name, Add: s.Add, Maint: true, Weight: -1}
			default:
				s = Server{Name: s.Name, Maint: true, Weight: -1}
			}
			kept.Servers = append(kept.Servers, s)
		}
		all = append(all, kept)
	}
	for _, b := range attempted {
		for _, s := range b.Servers {
			if tried[key{b.Name, s.Name}] == nil {
				continue
			}
			i, ok := at[b.Name]
			if !ok {
				i = len(all)
				at[b.Name] = i
				all = append(all, Backend{Name: b.Name})
			}
			all[i].Servers = append(all[i].Servers, Server{Name: s.Name, Add: s.Add, Maint: true, Weight: -1})
		}
	}
	return all
}

// planner collects the commands of a plan in lists. HAProxy receives the lists in this order:
//
//   - "first" adds backends. It brings servers into service in two cases: other servers track them,
//     or their backend has no server in service.
//   - "disable" ends the agent checks of the servers in "maint", because the answer to a check may
//     end a maintenance.
//   - "fill" brings all other servers into service.
//   - "maint" takes servers out of service.
//   - "remove" deletes servers, and "backends" deletes backends. "replace" deletes servers and adds
//     them again. These lists are last, because Apply may have to wait for the end of connections.
type planner struct {
	dynamic, known         bool
	version                Version
	actual                 []ServerState
	before                 []Backend
	donors                 map[donorKey]*ServerState // see donor
	first, disable, fill   []Command
	maint, remove, replace []Command
	backends               []Command
	reasons                []Reason
	replaced               int
	kept                   []string
}

func (p *planner) reload(backend, server, text string) {
	p.reasons = append(p.reasons, Reason{backend, server, text})
}

// cannotChange returns the reason why HAProxy cannot add or delete the backend at run time, or "".
func (p *planner) cannotChange(b *Backend) string {
	err := checkName("the backend", b.Name)
	if err == nil && b.Add != "" {
		err = b.checkAdd()
	}
	switch {
	case err != nil:
		return err.Error()
	case !p.version.AtLeast(3, 4):
		return "HAProxy " + p.version.String() + " cannot add or delete backends at run time"
	case b.Fixed != "":
		return b.Fixed
	case b.Tracked:
		return "other servers track the servers of the backend"
	}
	return ""
}

// delete plans the commands that delete the backend and its servers.
func (p *planner) delete(b *Backend, rows []*ServerState) {
	for _, row := range rows {
		p.unwanted(b, row)
	}
	p.backends = appendCommand(p.backends, UnpublishBackend, b.Name, "", "unpublish backend "+b.Name)
	p.backends = appendCommand(p.backends, DeleteBackend, b.Name, "", "del backend "+b.Name)
}

func (p *planner) backend(b, before *Backend, rows []*ServerState) {
	byName := make(map[string]*ServerState, len(rows))
	idle := true // no server of the backend is in service
	for _, row := range rows {
		byName[row.Name] = row
		idle = idle && row.Admin&ForcedMaint != 0
	}
	// Servers of other backends track the servers of a backend with Tracked, and are down while the
	// tracked server is down. So the commands for a tracked backend come first.
	early := idle || b.Tracked
	fill := p.fill
	if early {
		p.fill = p.first
	}
	var earlier map[string]*Server
	if before != nil {
		earlier = make(map[string]*Server, len(before.Servers))
		for i := range before.Servers {
			earlier[before.Servers[i].Name] = &before.Servers[i]
		}
	}
	wanted := make(map[string]bool, len(b.Servers))
	for i := range b.Servers {
		s := &b.Servers[i]
		if err := s.check(b.Name); err != nil {
			wanted[s.Name] = true
			p.reload(b.Name, s.Name, err.Error())
			continue
		}
		if wanted[s.Name] {
			p.reload(b.Name, s.Name, "the name is wanted twice")
			continue
		}
		wanted[s.Name] = true
		p.server(b, s, earlier[s.Name], byName[s.Name])
	}
	for _, row := range rows {
		if !wanted[row.Name] {
			p.unwanted(b, row)
		}
	}
	if early {
		p.first, p.fill = p.fill, fill
	}
}

// server plans the commands that give HAProxy the wanted server s. The argument "was" is the same
// server in the old configuration, or nil if the old configuration has no such server. row is the
// state of the server in the running HAProxy, or nil if HAProxy has no such server.
func (p *planner) server(b *Backend, s, was *Server, row *ServerState) {
	at := b.Name + "/" + s.Name
	switch cannot := p.cannotAdd(b, s); {
	case row == nil && cannot != "":
		p.reload(b.Name, s.Name, cannot)
	case row == nil:
		p.add(b.Name, at, s)
	case !p.known || was != nil && sameWords(was.Add, s.Add):
		p.alter(b.Name, at, s, was, row)
	case cannot != "":
		p.reload(b.Name, s.Name, "its words have changed; "+cannot)
	case !p.dynamic:
		p.reload(b.Name, s.Name, "its words have changed; HAProxy "+p.version.String()+" cannot delete servers safely")
	default:
		p.replaced++
		p.replaceServer(b.Name, at, s, was, row)
	}
}

// replaceServer plans the commands that delete a server and add it again with the settings in
// s.Add. If the server is in service in the old configuration, but in maintenance or drain in
// HAProxy, a person or an agent has taken it out of service. replaceServer then gives the new
// server the same state, unless s.Force is true or the address changes.
func (p *planner) replaceServer(backend, at string, s, was *Server, row *ServerState) {
	p.replace = appendDisable(p.replace, backend, row)
	if row.Admin&ForcedMaint == 0 {
		p.replace = appendCommand(p.replace, SetMaint, backend, s.Name, "set server "+at+" state maint")
	}
	p.replace = appendCommand(p.replace, DeleteServer, backend, s.Name, "del server "+at)
	p.replace = appendCommand(p.replace, AddServer, backend, s.Name, s.Add)
	p.replace = appendEnableHealth(p.replace, backend, s, nil)
	byHand := !s.Force && was != nil && !was.Maint && was.Addr == s.Addr
	switch {
	case s.Maint || byHand && row.Admin&ForcedMaint != 0:
	case byHand && row.Admin&ForcedDrain != 0:
		p.replace = appendCommand(p.replace, SetDrain, backend, s.Name, "set server "+at+" state drain")
	default:
		p.replace = appendCommand(p.replace, SetReady, backend, s.Name, "set server "+at+" state ready")
	}
	p.replace = appendEnableAgent(p.replace, backend, s, nil)
}

// cannotAdd returns the reason why a server cannot be added or replaced at run time, or "".
func (p *planner) cannotAdd(b *Backend, s *Server) string {
	switch {
	case b.Fixed != "":
		return b.Fixed
	case b.Tracked:
		return "other servers track the servers of the backend"
	case s.Add == "":
		return "HAProxy cannot add this server at run time"
	}
	return ""
}

// alter plans the commands that change the address, the weight and the state of a server that
// HAProxy already has. All other settings of the server must already be as wanted.
func (p *planner) alter(backend, at string, s, was *Server, row *ServerState) {
	set := func(list *[]Command, kind Kind, what string) {
		*list = appendCommand(*list, kind, backend, s.Name, "set server "+at+" "+what)
	}
	moved := s.Addr.IsValid() && s.Addr != row.Addr
	address := ""
	if moved {
		address = "addr " + s.Addr.Addr().String() + " port " + strconv.Itoa(int(s.Addr.Port()))
	}
	if s.Maint {
		if row.Admin&ForcedMaint == 0 {
			p.disable = appendDisable(p.disable, backend, row)
			set(&p.maint, SetMaint, "state maint")
		}
		if moved {
			set(&p.maint, SetAddress, address)
		}
		return
	}
	// fresh means that the plan itself decides whether the server gets requests: s is a new server
	// in this slot, or an earlier change should have brought s into service. In both cases, no
	// person and no agent has taken s out of service.
	fresh := moved || was != nil && (was.Maint || was.Addr.IsValid() && was.Addr != s.Addr)
	own := fresh || s.Force
	blocked := row.Admin&(ForcedMaint|ForcedDrain) != 0
	// down means that the server is down although nobody has taken it out of service. This happens
	// in HAProxy 2.6 after a reload, if the slot was in maintenance before the reload, and the new
	// configuration does not disable it: HAProxy reads the maintenance from the state file, and
	// keeps the server down.
	down := fresh && row.Op == Stopped && row.Admin&^ConfiguredMaint == 0
	if (moved || down) && row.Admin&ForcedMaint == 0 {
		// The result of the health checks so far belongs to the old address. HAProxy resets this
		// result when a maintenance ends. So begin a maintenance here, which SetReady ends below.
		set(&p.fill, SetMaint, "state maint")
	}
	if moved {
		set(&p.fill, SetAddress, address)
	}
	reweigh := row.InitialWeight != s.Weight
	if was != nil {
		reweigh = was.Weight != s.Weight
	}
	answered := s.Agent && !moved && row.InitialWeight == s.Weight // row.Weight is an answer of the agent
	if (reweigh || own && !answered) && row.Weight != s.Weight {
		set(&p.fill, SetWeight, "weight "+strconv.Itoa(s.Weight))
	}
	if own {
		p.fill = appendEnableHealth(p.fill, backend, s, row)
	}
	if moved || down || own && blocked {
		set(&p.fill, SetReady, "state ready")
	}
	if own {
		p.fill = appendEnableAgent(p.fill, backend, s, row)
	}
}

// unwanted plans the commands for a server that HAProxy has, but that the new configuration does
// not contain: maintenance, and then deletion.
//
// In two cases, the server cannot be deleted and stays in maintenance (see Plan.Kept): HAProxy is
// older than 3.0, or other servers track the server. In a third case, Backend.Fixed says why HAProxy
// cannot delete the server; then HAProxy needs a reload.
func (p *planner) unwanted(b *Backend, row *ServerState) {
	at := b.Name + "/" + row.Name
	if checkWord("the server", at) != nil {
		return // HAProxy allows no such name, so this row does not come from HAProxy
	}
	p.disable = appendDisable(p.disable, b.Name, row)
	if row.Admin&ForcedMaint == 0 {
		p.maint = appendCommand(p.maint, SetMaint, b.Name, row.Name, "set server "+at+" state maint")
	}
	switch {
	case !p.dynamic || b.Tracked:
		p.kept = append(p.kept, at)
	case b.Fixed != "":
		p.reload(b.Name, row.Name, b.Fixed)
	default:
		p.remove = appendCommand(p.remove, DeleteServer, b.Name, row.Name, "del server "+at)
	}
}

func appendCommand(list []Command, kind Kind, backend, server, text string) []Command {
	return append(list, Command{Kind: kind, Backend: backend, Server: server, Text: text})
}

// add plans the commands that add the server s.
func (p *planner) add(backend, at string, s *Server) {
	p.fill = appendCommand(p.fill, AddServer, backend, s.Name, s.Add)
	p.fill = appendEnableHealth(p.fill, backend, s, nil)
	donor := p.donor(backend, s)
	if donor != nil {
		weight := min(256, donor.Weight*s.Weight/donor.InitialWeight)
		if donor.Weight > 0 && s.Weight > 0 {
			weight = max(1, weight)
		}
		if weight != s.Weight {
			p.fill = appendCommand(p.fill, SetWeight, backend, s.Name, "set server "+at+" weight "+strconv.Itoa(weight))
		}
	}
	switch {
	case s.Maint || donor != nil && donor.Admin&ForcedMaint != 0:
	case donor != nil && donor.Admin&ForcedDrain != 0:
		p.fill = appendCommand(p.fill, SetDrain, backend, s.Name, "set server "+at+" state drain")
	default:
		p.fill = appendCommand(p.fill, SetReady, backend, s.Name, "set server "+at+" state ready")
	}
	p.fill = appendEnableAgent(p.fill, backend, s, nil)
}

// donor returns a server of the running HAProxy whose agent probably gives the same answers as the
// agent of the new server s. It ignores servers that an earlier plan has taken out of service. If
// there is no such server, donor returns nil.
func (p *planner) donor(backend string, s *Server) *ServerState {
	if !s.Agent || !s.Addr.IsValid() || !p.known {
		return nil
	}
	if p.donors == nil {
		p.findDonors()
	}
	if row := p.donors[donorKey{"", s.Addr}]; row != nil {
		return row
	}
	return p.donors[donorKey{backend, netip.AddrPortFrom(s.Addr.Addr(), 0)}]
}

// donorKey is a key of the map of donors; see the method "donor". Each server has two keys: its
// address and port without a backend, and its backend and address with the port 0.
type donorKey struct {
	backend string
	addr    netip.AddrPort
}

func (p *planner) findDonors() {
	inService := map[string]bool{}
	for i := range p.before {
		for j := range p.before[i].Servers {
			if s := &p.before[i].Servers[j]; !s.Maint {
				inService[p.before[i].Name+"/"+s.Name] = true
			}
		}
	}
	p.donors = map[donorKey]*ServerState{}
	for i := range p.actual {
		row := &p.actual[i]
		if row.Agent&CheckConfigured != 0 && row.InitialWeight > 0 && inService[row.Backend+"/"+row.Name] {
			p.donors[donorKey{"", row.Addr}] = row
			p.donors[donorKey{row.Backend, netip.AddrPortFrom(row.Addr.Addr(), 0)}] = row
		}
	}
}

// appendDisable appends the command that ends the agent checks of a server.
func appendDisable(list []Command, backend string, row *ServerState) []Command {
	if row.Agent&CheckConfigured == 0 || row.Agent&CheckEnabled == 0 {
		return list
	}
	return appendCommand(list, DisableAgent, backend, row.Name, "disable agent "+backend+"/"+row.Name)
}

// appendEnableHealth appends the command that enables the health check of a server. row is nil for a
// server that the plan has just added.
func appendEnableHealth(list []Command, backend string, s *Server, row *ServerState) []Command {
	if s.Check && (row == nil || row.Check.disabled()) {
		list = appendCommand(list, EnableHealth, backend, s.Name, "enable health "+backend+"/"+s.Name)
	}
	return list
}

// appendEnableAgent appends the command that enables the agent check of a server. A new server with
// an enabled agent check is down until the first answer of its agent. So that the server is up at
// once, this command must follow the command that ends the maintenance.
func appendEnableAgent(list []Command, backend string, s *Server, row *ServerState) []Command {
	if s.Agent && (row == nil || row.Agent.disabled()) {
		list = appendCommand(list, EnableAgent, backend, s.Name, "enable agent "+backend+"/"+s.Name)
	}
	return list
}

// disabled reports whether the server has a check of this kind (health check or agent check), but
// HAProxy does not make the check.
func (c CheckState) disabled() bool { return c&CheckConfigured != 0 && c&CheckEnabled == 0 }

// check returns an error if HAProxy would misread a command about the server s, for example as two
// commands.
func (s *Server) check(backend string) error {
	if err := checkName("the backend", backend); err != nil {
		return err
	}
	if err := checkName("the server", s.Name); err != nil {
		return err
	}
	if s.Weight < 0 || s.Weight > 256 {
		return fmt.Errorf("%w: the weight %d is not between 0 and 256", ErrCommand, s.Weight)
	}
	if s.Addr.Addr().Zone() != "" {
		return fmt.Errorf("%w: the address %s has a zone", ErrCommand, s.Addr)
	}
	if s.Add == "" {
		return nil
	}
	rest, ok := strings.CutPrefix(s.Add, "add server "+backend+"/"+s.Name+" ")
	if !ok {
		return fmt.Errorf("%w: %.200q does not begin with \"add server %s/%s \"", ErrCommand, s.Add, backend, s.Name)
	}
	if strings.Contains(rest, "<<") {
		return fmt.Errorf("%w: %.200q announces a payload", ErrCommand, s.Add)
	}
	for i := range len(rest) {
		if c := rest[i]; c < ' ' || c == 0x7f || c == ';' || c == '\\' {
			return fmt.Errorf("%w: %.200q has a control character, ';' or a backslash", ErrCommand, s.Add)
		}
	}
	return nil
}

// checkAdd returns an error if b.Add is not "add backend NAME from DEFAULTS".
func (b *Backend) checkAdd() error {
	defaults, ok := strings.CutPrefix(b.Add, "add backend "+b.Name+" from ")
	if !ok {
		return fmt.Errorf("%w: %.200q does not begin with \"add backend %s from \"", ErrCommand, b.Add, b.Name)
	}
	return checkName("the section defaults", defaults)
}

// checkName returns an error if s is not a name that HAProxy allows for backends and servers.
func checkName(what, s string) error {
	if s == "" || len(s) > maxWord {
		return fmt.Errorf("%w: the name of %s has %d bytes", ErrCommand, what, len(s))
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-_.:", c) >= 0:
		default:
			return fmt.Errorf("%w: the name of %s %.100q has other characters than letters, digits and \"-_.:\"", ErrCommand, what, s)
		}
	}
	return nil
}

// sameWords reports whether two commands "add server" differ only in the address, the weight and
// the word "disabled". A command "set server" can change these three.
func sameWords(a, b string) bool {
	if a == b {
		return true
	}
	if a == "" || b == "" {
		return false
	}
	for range 4 { // add server NAME ADDRESS
		_, a = cutWord(a)
		_, b = cutWord(b)
	}
	for {
		var x, y string
		x, a = nextWord(a)
		y, b = nextWord(b)
		if x != y {
			return false
		}
		if x == "" {
			return true
		}
	}
}

// nextWord returns the next word of a command. It skips the word "disabled" and the weight.
func nextWord(text string) (word, rest string) {
	for {
		word, text = cutWord(text)
		switch word {
		case "weight":
			_, text = cutWord(text)
		case "disabled":
		default:
			return word, text
		}
	}
}
