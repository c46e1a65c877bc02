package haproxycfg

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"math"
	"path"
	"slices"
	"strings"
	"time"
)

// configFile is the name of the main file of a configuration.
const configFile = "haproxy.cfg"

// Render returns the files of the configuration: first the maps, certificates and certificate
// lists, and last haproxy.cfg, which names these files. Write the files in this order. All names
// except "haproxy.cfg" contain a hash of the content of the file, so a new file never overwrites a
// file in use. Map.Runtime and Map.Stable describe exceptions.
//
// dir is the directory of the files in HAProxy's file system; empty means HAProxy's working
// directory. The same Config and dir make the same bytes. If the Config is invalid, Render returns
// the error of [Config.Validate] and no files.
func (c *Config) Render(dir string) ([]RenderedFile, error) {
	v, err := c.Valid()
	if err != nil {
		return nil, err
	}
	return v.Render(dir)
}

// Render returns the files of the configuration, as [Config.Render] does, but does not validate the
// configuration again. It returns an error only if dir cannot be part of the path of a map.
func (v Valid) Render(dir string) ([]RenderedFile, error) {
	c := v.config
	if err := checkMapDir(dir); err != nil {
		return nil, err
	}
	if c.Fragment != "" && len(c.CertificateLists) > 0 && strings.ContainsAny(dir, " \t[") {
		return nil, fmt.Errorf("haproxycfg: directory %q: the path of a certificate in a crt-list has no blank and no bracket", dir)
	}
	files := make([]RenderedFile, 0, len(c.Maps)+1)
	paths := renderedPaths{maps: make(map[string]string, len(c.Maps))}
	stable := false
	for i := range c.Maps {
		f := c.Maps[i].render()
		stable = stable || f.Stable
		paths.maps[c.Maps[i].Name] = f.Name
		files = append(files, f)
	}
	for i := range c.CertificateLists {
		l := &c.CertificateLists[i]
		base := ""
		if c.Fragment != "" { // crt-base belongs to the other files
			base = path.Join(dir, certsDir)
		}
		certs, list, names := l.render(base)
		paths.certs = certsDir
		paths.maps[l.Name] = names.Name
		if paths.lists == nil {
			paths.lists, paths.hasCertificate = map[string]string{}, map[string]bool{}
		}
		paths.hasCertificate[l.Name] = len(l.Certificates) > 0
		paths.lists[l.Name] = list.Name
		files = append(append(files, certs...), list, names)
	}
	if stable {
		var skeleton renderedSections
		if v.backends != nil {
			skeleton = v.backends.skeleton
		} else {
			skeleton = c.skeleton()
		}
		hash := c.skeletonHash(paths, skeleton)
		for i := range c.Maps { // the files of the maps come first
			if m := &c.Maps[i]; m.Stable {
				files[i].Name = mapFile(m.Name, hash)
				paths.maps[m.Name] = files[i].Name
			}
		}
	}
	paths.join(dir)
	return append(files, RenderedFile{Name: configFile, Data: v.text(paths)}), nil
}

// text returns the text of haproxy.cfg.
func (v Valid) text(paths renderedPaths) []byte {
	c := v.config
	size := 4096 * (2 + len(c.Frontends))
	if v.backends != nil {
		size += len(v.backends.sections.backends)
	} else {
		size += c.sizeHint()
	}
	t := make(text, 0, size)
	c.appendFirst(&t, paths, v.maxConn)
	if v.backends != nil {
		t = append(t, v.backends.sections.backends...)
		c.appendLast(&t, v.backends.sections.settings)
		return t
	}
	for i := range c.Backends {
		c.Backends[i].append(&t, &c.Global)
	}
	c.appendLast(&t, c.backendSettings(c.addable()))
	return t
}

// skeletonHash returns a hash of haproxy.cfg without servers, certificates, values of variables, and
// addable backends (backends that HAProxy can add at run time). If a new configuration has the same
// hash, a program can usually apply it without a reload. Two changes still need a reload:
//
//   - a change of some options of servers;
//   - an addable backend with settings that no other backend has.
//
// The file name of a Stable map contains this hash. So each backend that the map names is either in
// the configuration of the running HAProxy, or a program adds it at run time.
//
// The argument "skeleton" is the result of the method "skeleton".
func (c *Config) skeletonHash(paths renderedPaths, skeleton renderedSections) [sha256.Size]byte {
	s := *c
	s.Global.Variables = slices.Clone(c.Global.Variables)
	for i := range s.Global.Variables {
		s.Global.Variables[i].Value = 0
	}
	s.Backends = nil
	paths.maps, paths.lists = maps.Clone(paths.maps), maps.Clone(paths.lists)
	for i := range c.CertificateLists {
		name := c.CertificateLists[i].Name
		paths.maps[name], paths.lists[name] = name, name
	}
	var first, last text
	s.appendFirst(&first, paths, s.MaxConn())
	s.appendLast(&last, skeleton.settings)
	h := sha256.New()
	for _, part := range [][]byte{first, skeleton.backends, last} {
		_, _ = h.Write(part)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// renderedSections are the parts of haproxy.cfg that depend on backends.
type renderedSections struct {
	backends []byte   // the sections "backend"
	settings []string // the settings of addable backends, see Config.backendSettings
}

// skeleton returns the sections of the backends that HAProxy cannot add at run time, without servers.
// The result also has the settings of those backends that HAProxy cannot add only because other
// servers track their servers.
func (c *Config) skeleton() renderedSections {
	addable := c.addable()
	t := make(text, 0, 256*len(c.Backends))
	for i := range c.Backends {
		if b := &c.Backends[i]; !addable(b) {
			b.appendHead(&t, &c.Global)
		}
	}
	return renderedSections{t, c.backendSettings(func(b *Backend) bool {
		return c.addsBackends() && b.addable() && !addable(b)
	})}
}

// mapFile returns the name of the file of a map. 64 bits of the hash are enough to distinguish the
// few maps of a directory.
func mapFile(name string, hash [sha256.Size]byte) string {
	return "maps/" + name + "-" + hex.EncodeToString(hash[:8]) + ".map"
}

// join makes all paths relative to dir.
func (p *renderedPaths) join(dir string) {
	for _, names := range []map[string]string{p.maps, p.lists} {
		for name, file := range names {
			names[name] = path.Join(dir, file)
		}
	}
	if p.certs != "" {
		p.certs = path.Join(dir, p.certs)
	}
}

// renderedPaths are the paths of rendered files and directories in the file system of HAProxy.
type renderedPaths struct {
	maps, lists map[string]string // the paths of maps and of certificate lists, by their names
	certs       string            // the directory of certificates, "" if there is no list

	hasCertificate map[string]bool // true for the name of each certificate list that is not empty
}

// WriteTo calls Render("") and writes only the file haproxy.cfg of the result, none of the other
// files. It implements [io.WriterTo].
func (c *Config) WriteTo(w io.Writer) (int64, error) {
	files, err := c.Render("")
	if err != nil {
		return 0, err
	}
	n, err := w.Write(files[len(files)-1].Data)
	return int64(n), err
}

// render returns the file of the map, with one line for each entry, sorted by key.
func (m *Map) render() RenderedFile {
	entries := m.Entries
	if !slices.IsSortedFunc(entries, compareEntries) {
		entries = slices.SortedFunc(slices.Values(entries), compareEntries)
	}
	size := 0
	for i := range entries {
		size += len(entries[i].Key) + len(entries[i].Value) + 2
	}
	data := make([]byte, 0, size)
	for i := range entries {
		data = append(data, entries[i].Key...)
		data = append(data, ' ')
		data = append(data, entries[i].Value...)
		data = append(data, '\n')
	}
	if m.Stable { // Render replaces the hash in the name
		return RenderedFile{Name: mapFile(m.Name, [sha256.Size]byte{}), Data: data, Stable: true}
	}
	hashed := data
	if m.Runtime {
		hashed = nil
		for i := range entries {
			hashed = append(append(hashed, entries[i].Key...), '\n')
		}
	}
	return RenderedFile{Name: mapFile(m.Name, sha256.Sum256(hashed)), Data: data, Runtime: m.Runtime}
}

func compareEntries(a, b MapEntry) int { return strings.Compare(a.Key, b.Key) }

// appendFirst appends the text of haproxy.cfg before the sections "backend". The argument "maxConn" is
// the result of the method "MaxConn".
func (c *Config) appendFirst(t *text, paths renderedPaths, maxConn int) {
	t.raw(notice)
	if c.Fragment == "" {
		c.Global.append(t, maxConn, c.checkSpread())
		if paths.certs != "" {
			t.line("crt-base")
			t.word(paths.certs)
		}
		c.Defaults.append(t, &c.Global, "")
	} else {
		c.Defaults.append(t, &c.Global, c.Fragment+"defaults")
	}
	for i := range c.Frontends {
		c.Frontends[i].append(t, paths, &c.Global)
	}
}

// appendLast appends the text of haproxy.cfg after the sections "backend". The argument "settings"
// is the result of the method "backendSettings".
func (c *Config) appendLast(t *text, settings []string) {
	for i := range c.Frontends {
		if f := &c.Frontends[i]; f.RetryBudget != nil && c.Global.Version.nativeRetryBudget() {
			f.RetryBudget.appendTable(t, f)
		}
	}
	if c.Global.Observe {
		appendObserved(t)
	}
	c.appendBackendSettings(t, settings)
	t.raw("\n") // a missing last line end is fatal to HAProxy
}

// notice is the beginning of haproxy.cfg. It contains no version and no time, so the text changes
// only if the Config changes.
const notice = "# Generated by headgate. Do not edit: what is changed here is lost when it is\n" +
	"# generated again. Change the declarations and settings that it is made of."

// sizeHint returns a number that is usually a little larger than the length of the sections of all
// backends, so that the text needs only one allocation. It looks at one server of each backend,
// because the lines of the other servers have a similar length.
func (c *Config) sizeHint() int {
	n := 4096
	for i := range c.Backends {
		b := &c.Backends[i]
		n += 256 + len(b.Name) + len(b.Health.Path) + len(b.Health.Host)
		if b.Response != nil {
			n += len(b.Response.Body) + len(b.Response.ContentType)
		}
		if len(b.Servers) > 0 {
			n += len(b.Servers) * b.Servers[len(b.Servers)-1].sizeHint() // IPv6 addresses come last, and are longer
		}
	}
	return n
}

// sizeHint returns a number a little larger than the length of the server line.
func (s *Server) sizeHint() int {
	n := 80 + len(s.Track) + len(s.AgentSend) // the name and the address have at most 21 bytes each
	if s.Addr.Addr().Is6() {
		n += 60
	}
	if s.AgentPort != 0 {
		n += 40 // also for the port in the name
	}
	return n
}

func (g *Global) append(t *text, maxConn int, checkSpread time.Duration) {
	t.section("global", "")
	if maxConn > 0 {
		t.line("maxconn")
		t.int(maxConn)
	}
	if g.Threads > 0 {
		t.line("nbthread")
		t.int(g.Threads)
	}
	if g.User != "" {
		t.line("user")
		t.word(g.User)
	}
	if g.Group != "" {
		t.line("group")
		t.word(g.Group)
	}
	if g.StatsSocket != "" {
		t.line("stats socket")
		t.word(g.StatsSocket)
		t.raw(" mode 600 level admin expose-fd listeners")
	}
	if g.StateFile != "" {
		t.line("server-state-file")
		t.word(g.StateFile)
	}
	t.timeout("max-spread-checks", checkSpread)
	t.timeout("hard-stop-after", g.HardStopAfter)
	t.line("mworker-max-reloads")
	t.int(cmp.Or(g.MaxReloads, math.MaxInt32))
	t.timeout("grace", g.Grace)
	t.timeout("close-spread-time", g.CloseSpread)
	if g.BufferSize > 0 {
		t.line("tune.bufsize")
		t.int(g.BufferSize)
	}
	if g.MaxHeaders > 0 {
		t.line("tune.http.maxhdr")
		t.int(g.MaxHeaders)
	}
	if g.HTTP2Requests > 0 && g.Version.AtLeast(3, 0) {
		t.line("tune.h2.fe.max-total-streams")
		t.int(g.HTTP2Requests)
	}
	for _, x := range g.Variables {
		x.append(t)
	}
	g.appendLogs(t)
}

func (g *Global) appendLogs(t *text) {
	for _, l := range g.Logs {
		t.line("log")
		t.word(l.Address)
		if l.Format != "" {
			t.raw(" format")
			t.word(l.Format)
		}
		t.word(cmp.Or(l.Facility, "local0"))
		if l.Level != "" {
			t.word(l.Level)
		}
	}
}

// append renders the section "defaults". The argument "name" is the name of the section if the
// configuration is a fragment, and "" otherwise.
func (d *Defaults) append(t *text, g *Global, name string) {
	t.section("defaults", name)
	d.appendLines(t, g, name != "")
}

// appendLines renders the lines of a section "defaults". fragment is true if the configuration is a
// fragment.
func (d *Defaults) appendLines(t *text, g *Global, fragment bool) {
	t.line("mode http")
	// By default, a reload closes idle connections immediately. If a client has just sent its next
	// request on such a connection, this request is lost. With this option, HAProxy answers the
	// next request, and closes the connection with that answer (RFC 9112, section 9.6).
	t.line("option idle-close-on-response")
	if g.Version.AtLeast(3, 2) {
		// Remove trailers, because a server may merge the trailers of a request into its headers
		// (RFC 9110, section 6.5.1). A client could send X-Forwarded-For as a trailer, and no rule
		// about headers would remove it. Backends of HTTP/2 servers keep trailers, because HTTP/2
		// servers tell trailers from headers.
		t.line("option http-drop-request-trailers")
	}
	if len(g.Logs) > 0 {
		if fragment {
			g.appendLogs(t) // "log global" would mean the logs of the other files
		} else {
			t.line("log global")
		}
		t.line("option httplog")
		t.line("option dontlognull")
	}
	if g.StateFile != "" {
		t.line("load-server-state-from-file global")
	}
	t.timeout("timeout client", cmp.Or(d.Client, 60*time.Second))
	t.timeout("timeout client-fin", cmp.Or(d.ClientFin, 30*time.Second))
	t.timeout("timeout http-request", cmp.Or(d.HTTPRequest, 10*time.Second))
	t.timeout("timeout http-keep-alive", cmp.Or(d.KeepAlive, 60*time.Second))
	Timeouts{
		Connect: cmp.Or(d.Connect, 3*time.Second),
		Queue:   cmp.Or(d.Queue, 5*time.Second),
		Server:  cmp.Or(d.Server, 60*time.Second),
		Tunnel:  cmp.Or(d.Tunnel, time.Hour),
		Check:   cmp.Or(d.Check, 2*time.Second),
	}.append(t)
	if d.Retries < 0 {
		t.line("retries 0")
		return
	}
	t.line("retries")
	t.int(cmp.Or(d.Retries, 3))
	// With an interval of 1, each retry goes to another server. Without this option, only the last
	// retry does (manual, "option redispatch").
	t.line("option redispatch 1")
	t.line("retry-on")
	if d.RetryOn == nil {
		t.raw(" conn-failure empty-response")
	}
	for _, e := range d.RetryOn {
		t.word(string(e))
	}
}

// append renders the time-outs that are not 0.
func (o Timeouts) append(t *text) {
	t.timeout("timeout connect", o.Connect)
	t.timeout("timeout queue", o.Queue)
	t.timeout("timeout server", o.Server)
	t.timeout("timeout tunnel", o.Tunnel)
	t.timeout("timeout check", o.Check)
}

// timeout appends a line with the keyword and a time. It appends nothing if the time is 0.
func (t *text) timeout(keyword string, d time.Duration) {
	if d > 0 {
		t.line(keyword)
		t.duration(d)
	}
}
