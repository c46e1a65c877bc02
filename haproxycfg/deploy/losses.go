package deploy

import (
	"bytes"
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/headgate/headgate/haproxycfg"
)

// Losses counts the parts of the configuration in force that a change removes or alters. A part
// that the change adds does not reduce the losses.
//
// A backend can continue under another name, for example with "shift: true": then its servers and
// paths are not lost. The condition is that a backend after the change has the same settings and
// all server lines of the backend before the change.
type Losses struct {
	// Hosts counts the hosts of the router. A host is lost if the change removes it, or if no path
	// of the host has a server afterwards.
	Hosts Loss `json:"hosts"`
	// Paths counts the paths of all hosts. A path is lost in three cases:
	//
	//   - the change removes it;
	//   - its backend loses all servers;
	//   - the change leads it to another backend that does not continue the backend of the path.
	Paths Loss `json:"paths"`
	// Backends counts the backends that have servers and to which a path leads. A backend is lost
	// if the change removes it or all its servers. It is not lost if each of its paths then leads
	// to a backend that continues it under another name.
	Backends Loss `json:"backends"`
	// Servers counts the servers of all backends that the change removes or alters. Servers of a
	// backend to which no path leads do not count if the configuration has paths: they only stand
	// for nodes. A server that tracks the server of its node does not count if only the name of the
	// tracked server changes, for example because the node no longer uses a spare server
	// (haproxycfg.Server.Spare).
	Servers Loss `json:"servers"`
}

// Loss counts the losses of one kind.
type Loss struct {
	Before int `json:"before"` // in the configuration before the change
	Lost   int `json:"lost"`
	// Names are the names of up to 5 lost hosts, paths or backends. A name with more lost servers
	// or paths comes before a name with fewer. In Losses.Servers, Names are the names of the
	// backends that lose servers.
	Names []string `json:"names,omitempty"`
}

// maxNames is the largest length of Loss.Names.
const maxNames = 5

// Share is the lost part, Lost divided by Before, from 0 to 1. It is 0 if Before is 0.
func (l Loss) Share() float64 {
	if l.Before == 0 {
		return 0
	}
	return float64(l.Lost) / float64(l.Before)
}

// Share is the largest of four shares: the share of the hosts that the change takes away, and the
// shares of the paths, the backends and the servers.
func (l Losses) Share() float64 {
	return max(l.Hosts.Share(), l.Paths.Share(), l.Backends.Share(), l.Servers.Share())
}

// Over returns a text about those lost shares of the hosts, paths, backends and servers that are
// larger than "share" (0 to 1). It returns "" if no lost share is larger.
func (l Losses) Over(share float64) string {
	var parts, names []string
	for _, kind := range []struct {
		name string
		Loss
	}{{"hosts", l.Hosts}, {"paths", l.Paths}, {"backends", l.Backends}, {"servers", l.Servers}} {
		if kind.Share() <= share {
			continue
		}
		parts = append(parts, fmt.Sprintf("%.1f%% of the %s", 100*kind.Share(), kind.name))
		text := fmt.Sprintf("%s %d of %d", kind.name, kind.Lost, kind.Before)
		if len(kind.Names) > 0 {
			text += " (" + strings.Join(kind.Names, ", ")
			if kind.name == "servers" {
				text += ")"
			} else if more := kind.Lost - len(kind.Names); more > 0 {
				text += fmt.Sprintf(" and %d more)", more)
			} else {
				text += ")"
			}
		}
		names = append(names, text)
	}
	if len(parts) == 0 {
		return ""
	}
	list := parts[len(parts)-1]
	if len(parts) > 1 {
		list = strings.Join(parts[:len(parts)-1], ", ") + " and " + list
	}
	return fmt.Sprintf("%s would go or change, and the limit is %.1f%%; the largest losses are %s", list, 100*share, strings.Join(names, "; "))
}

// Losses counts what the plan takes away from the configuration in force. The function "wrong", if
// not nil, reports whether a server, by its [haproxycfg.Server.Name], leads to a wrong service. The
// removal of such a server is no loss.
func (p *Plan) Losses(wrong func(server string) bool) Losses {
	c := lossCounter{
		before: byLogicalName(p.before), after: byLogicalName(p.after.files), cut: p.dir.texts.sections, wrong: wrong,
		serversAfter: map[string]int{}, emptied: map[string]bool{},
	}
	var router haproxycfg.Router
	if i := slices.IndexFunc(p.config.Frontends, func(f haproxycfg.Frontend) bool { return f.Router != nil }); i >= 0 {
		router = *p.config.Frontends[i].Router
	}
	c.backends(router)
	c.routes(router)
	return c.losses
}

// InForce contains the paths and backends of the configuration in a directory. HAProxy runs this
// configuration. The zero InForce contains no paths and no backends.
type InForce struct {
	exact, prefix map[string]string
	servers       map[string]int
	agents        map[string]bool // backends whose servers have agents
}

// InForce returns the paths, and the backends with their servers, of the configuration in the
// directory. It reads the paths from the maps that router names. If it cannot read the maps, the
// result contains no paths.
func (d *Dir) InForce(router haproxycfg.Router) InForce {
	d.mu.Lock()
	defer d.mu.Unlock()
	files, err := d.current()
	if err != nil {
		return InForce{}
	}
	maps := byLogicalName(files)
	f := InForce{entries(maps[router.Exact].Data), entries(maps[router.Prefix].Data), map[string]int{}, map[string]bool{}}
	for head, s := range d.texts.sections(maps[configFile].Data) {
		if name, ok := strings.CutPrefix(head, "backend "); ok {
			f.servers[name] = s.servers
			f.agents[name] = bytes.Contains(s.text, []byte(" agent-port "))
		}
	}
	return f
}

// Servers returns the number of servers of a backend.
func (f InForce) Servers(backend string) int { return f.servers[backend] }

// HasAgents reports whether at least one server of the backend has an agent check.
func (f InForce) HasAgents(backend string) bool { return f.agents[backend] }

// Backend returns the name of the backend to which an exact path or a prefix of the host leads. A
// prefix has no slash at its end, except "/". ok is false if the host has no such path.
func (f InForce) Backend(host, path string, exact bool) (name string, ok bool) {
	if exact {
		name, ok = f.exact[host+path]
		return name, ok
	}
	if path != "/" {
		path += "/"
	}
	name, ok = f.prefix[host+path]
	return name, ok
}

type lossCounter struct {
	before, after map[string]haproxycfg.RenderedFile
	cut           func([]byte) map[string]section // see compareFiles
	wrong         func(string) bool
	losses        Losses
	// sections are the sections of haproxy.cfg before and after the change.
	sections     [2]map[string]section
	continued    map[[2]string]bool // the results of continues
	serversAfter map[string]int     // servers by backend
	emptied      map[string]bool    // backends that lose all their servers
}

// named is one entry in the list of the largest losses: the name of a host, path or backend, and
// how many of its servers or paths the change takes away.
type named struct {
	name string
	size int
}

// largest returns the names of the entries with the largest losses, the largest loss first, and at
// most maxNames of them.
func largest(lost []named) (names []string) {
	slices.SortFunc(lost, func(a, b named) int { return cmp.Or(cmp.Compare(b.size, a.size), cmp.Compare(a.name, b.name)) })
	for _, n := range lost[:min(maxNames, len(lost))] {
		names = append(names, n.name)
	}
	return names
}

// backends compares the backends of haproxy.cfg.
func (c *lossCounter) backends(router haproxycfg.Router) {
	before, after := c.cut(c.before[configFile].Data), c.cut(c.after[configFile].Data)
	c.sections = [2]map[string]section{before, after}
	serves := map[string]bool{} // the backends of paths; the others contain nodes that servers track
	for _, name := range []string{router.Exact, router.Prefix} {
		for _, backend := range eachEntry(c.before[name].Data) {
			if !serves[string(backend)] {
				serves[string(backend)] = true
			}
		}
	}
	for head, now := range after {
		if name, ok := strings.CutPrefix(head, "backend "); ok {
			c.serversAfter[name] = now.servers
		}
	}
	renamed := c.renamed(router)
	nodes := trackedServers{before, after, map[string][2]map[string]string{}}
	var lostServers, lostBackends []named
	for head, was := range before {
		name, ok := strings.CutPrefix(head, "backend ")
		if !ok || was.servers == 0 {
			continue
		}
		if serves[name] {
			c.losses.Backends.Before++
		}
		c.losses.Servers.Before += was.servers
		if now, ok := after[head]; ok && bytes.Equal(was.text, now.text) {
			continue
		}
		if len(serves) > 0 && !serves[name] || renamed[name] {
			continue
		}
		x := compareSections(head, before, after)
		right := len(x.ServersRemoved)
		if c.wrong != nil {
			right -= countIf(x.ServersRemoved, c.wrong)
		}
		wrong := len(x.ServersRemoved) - right
		altered := len(x.ServersAltered)
		if altered > 0 {
			a, b := was.lines().byName, after[head].lines().byName
			altered -= countIf(x.ServersAltered, func(server string) bool { return nodes.same(a[server], b[server]) })
		}
		if lost := right + altered; lost > 0 {
			c.losses.Servers.Lost += lost
			lostServers = append(lostServers, named{name, lost})
		}
		if c.serversAfter[name] == 0 && wrong < was.servers {
			c.emptied[name] = true
			lostBackends = append(lostBackends, named{name, was.servers})
		}
	}
	c.losses.Backends.Lost = len(lostBackends)
	c.losses.Backends.Names = largest(lostBackends)
	c.losses.Servers.Names = largest(lostServers)
}

// renamed returns the removed backends that continue under other names: after the change, each path
// of such a backend leads to a backend that continues the removed backend.
func (c *lossCounter) renamed(router haproxycfg.Router) map[string]bool {
	renamed := map[string]bool{}
	for _, name := range []string{router.Exact, router.Prefix} {
		// The path of a removed backend now leads to another backend. So the line of the path
		// differs.
		before, after := differentLines(c.before[name].Data, c.after[name].Data)
		now := entries(after)
		for key, backend := range entries(before) {
			if _, stays := c.sections[1]["backend "+backend]; stays {
				continue
			}
			so, seen := renamed[backend]
			leads, ok := now[key]
			renamed[backend] = (so || !seen) && ok && c.continues(backend, leads)
		}
	}
	return renamed
}

// continues reports whether the backend "to" after the change continues the backend "from" before
// the change. "to" must have the same settings, and all servers of "from" with the same lines. "to"
// may have further servers.
func (c *lossCounter) continues(from, to string) bool {
	pair := [2]string{from, to}
	if known, ok := c.continued[pair]; ok {
		return known
	}
	was, now := c.sections[0]["backend "+from], c.sections[1]["backend "+to]
	same := was.servers > 0 && now.servers >= was.servers
	if same {
		old, present := was.lines(), now.lines()
		// The rules of limits contain the name of the stick table, which is the name of the
		// backend.
		same = slices.EqualFunc(old.others, present.others, func(a, b string) bool {
			return strings.ReplaceAll(a, from, "") == strings.ReplaceAll(b, to, "")
		})
		for name, line := range old.byName {
			same = same && present.byName[name] == line
		}
	}
	if c.continued == nil {
		c.continued = map[[2]string]bool{}
	}
	c.continued[pair] = same
	return same
}

// trackedServers compares the servers that other servers track. The fields "before" and "after" are
// the sections of haproxy.cfg before and after a change.
type trackedServers struct {
	before, after map[string]section
	lines         map[string][2]map[string]string // by backend: the lines of its servers, before and after
}

// same reports whether two lines of a server differ only in the name of the server that it tracks,
// and the tracked servers have the same address. "a" is the line before the change, and b is the
// line after it.
func (t trackedServers) same(a, b string) bool {
	from, to := trackOf(a), trackOf(b)
	if from == "" || to == "" || strings.Replace(a, " track "+from, " track "+to, 1) != b {
		return false
	}
	address := t.address(0, from)
	return address != "" && address == t.address(1, to)
}

// address returns the address and port of the server that the argument "name" names
// ("backend/server"). It returns "" if there is no such server. i is 0 for the time before the
// change, and 1 for the time after it.
func (t trackedServers) address(i int, name string) string {
	backend, server, _ := strings.Cut(name, "/")
	lines, ok := t.lines[backend]
	if !ok {
		head := "backend " + backend
		lines = [2]map[string]string{t.before[head].lines().byName, t.after[head].lines().byName}
		t.lines[backend] = lines
	}
	words := strings.Fields(lines[i][server]) // "server NAME ADDRESS"
	if len(words) < 3 {
		return ""
	}
	return words[2]
}

func countIf[T any](list []T, f func(T) bool) (n int) {
	for _, x := range list {
		if f(x) {
			n++
		}
	}
	return n
}

// routes compares the maps of the router.
func (c *lossCounter) routes(router haproxycfg.Router) {
	lost := map[string]int{} // lost paths by host
	var lostPaths []named
	for _, name := range []string{router.Exact, router.Prefix} {
		before, after := c.before[name].Data, c.after[name].Data
		for range eachEntry(before) {
			c.losses.Paths.Before++
		}
		if len(c.emptied) == 0 {
			before, after = differentLines(before, after) // the paths in all other lines are not lost
		}
		now := entries(after)
		for key, backend := range entries(before) {
			leads, ok := now[key]
			if !ok || leads == backend && c.emptied[backend] || leads != backend && !c.continues(backend, leads) {
				host, _, _ := strings.Cut(key, "/")
				lost[host]++
				lostPaths = append(lostPaths, named{key, 0})
			}
		}
	}
	var lostHosts []named
	left := c.hostsLeft(router, lost)
	before, after := c.before[router.Hosts].Data, c.after[router.Hosts].Data
	for host := range eachEntry(before) {
		c.losses.Hosts.Before++
		if len(lost) == 0 {
			continue
		}
		if host := string(host); lost[host] > 0 && !left[host] {
			lostHosts = append(lostHosts, named{host, lost[host]})
		}
	}
	before, after = differentLines(before, after)
	now := entries(after)
	for host := range entries(before) {
		if _, ok := now[host]; !ok && (lost[host] == 0 || left[host]) {
			lostHosts = append(lostHosts, named{host, lost[host]})
		}
	}
	c.losses.Paths.Lost, c.losses.Paths.Names = len(lostPaths), largest(lostPaths)
	c.losses.Hosts.Lost, c.losses.Hosts.Names = len(lostHosts), largest(lostHosts)
}

// hostsLeft returns the hosts that have lost paths, but still have a path whose backend has servers
// before and after the change. The keys of the argument "lost" are the hosts that have lost paths.
func (c *lossCounter) hostsLeft(router haproxycfg.Router, lost map[string]int) map[string]bool {
	left := map[string]bool{}
	if len(lost) == 0 {
		return left
	}
	for _, name := range []string{router.Exact, router.Prefix} {
		after := map[string]string{} // the paths of the hosts in lost
		for key, backend := range eachEntry(c.after[name].Data) {
			if host, _, _ := bytes.Cut(key, []byte("/")); lost[string(host)] > 0 {
				after[string(key)] = string(backend)
			}
		}
		for key, backend := range eachEntry(c.before[name].Data) {
			now, ok := after[string(key)]
			if ok && !c.emptied[string(backend)] && (now == string(backend) || c.serversAfter[now] > 0) {
				host, _, _ := bytes.Cut(key, []byte("/"))
				left[string(host)] = true
			}
		}
	}
	return left
}

// differentLines returns the texts without the lines that both have at their start, and without
// the lines that both have at their end.
func differentLines(a, b []byte) (restA, restB []byte) {
	const block = 64 // compare whole blocks first, which takes a tenth of the time
	start := 0
	for start+block <= min(len(a), len(b)) && bytes.Equal(a[start:start+block], b[start:start+block]) {
		start += block
	}
	line := bytes.LastIndexByte(a[:start], '\n') + 1
	for start < len(a) && start < len(b) && a[start] == b[start] {
		if start++; a[start-1] == '\n' {
			line = start
		}
	}
	a, b = a[line:], b[line:]
	end, line := 0, 0
	for end+block <= min(len(a), len(b)) && bytes.Equal(a[len(a)-end-block:len(a)-end], b[len(b)-end-block:len(b)-end]) {
		end += block
	}
	if at := bytes.IndexByte(a[len(a)-end:], '\n'); at >= 0 {
		line = end - 1 - at // the line after this line end is the same in both texts
	}
	for end < len(a) && end < len(b) && a[len(a)-1-end] == b[len(b)-1-end] {
		if a[len(a)-1-end] == '\n' {
			line = end
		}
		end++
	}
	if end == len(a) && (end == len(b) || b[len(b)-1-end] == '\n') || end == len(b) && (end == len(a) || a[len(a)-1-end] == '\n') {
		line = end
	}
	return a[:len(a)-line], b[:len(b)-line]
}

// entries returns a map from the keys of a map file to their values.
func entries(data []byte) map[string]string {
	m := make(map[string]string, bytes.Count(data, []byte("\n")))
	for key, value := range eachEntry(data) {
		m[string(key)] = string(value)
	}
	return m
}

// eachEntry returns the keys and values of a map file, in the order of the file.
func eachEntry(data []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		for line := range bytes.Lines(data) {
			key, value, ok := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
			if ok && string(key) != "#" && !yield(key, value) {
				return
			}
		}
	}
}
