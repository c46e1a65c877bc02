package haproxycfg

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"path"
	"slices"
	"strings"
	"time"
)

// configFile is the name of the main file of a rendered configuration.
const configFile = "haproxy.cfg"

// Render returns the files of the configuration: the maps, then haproxy.cfg.
// Written in that order, they are consistent at every moment: the name of a map
// holds a hash of its content, so a running configuration never sees another
// one's map, and replacing haproxy.cfg switches all of them at once.
//
// dir is the directory that the files will stand in, as HAProxy will see it;
// haproxy.cfg names the maps by it. Empty means relative to HAProxy's working
// directory.
//
// The same Config and dir give the same bytes. An invalid Config gives an error
// and no files; see [Config.Validate].
func (c *Config) Render(dir string) ([]RenderedFile, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if err := checkMapDir(dir); err != nil {
		return nil, err
	}
	files := make([]RenderedFile, 0, len(c.Maps)+1)
	paths := make(map[string]string, len(c.Maps))
	for i := range c.Maps {
		f := c.Maps[i].render()
		paths[c.Maps[i].Name] = path.Join(dir, f.Name)
		files = append(files, f)
	}
	return append(files, RenderedFile{Name: configFile, Data: c.appendText(paths)}), nil
}

// WriteTo writes haproxy.cfg alone, as Render with an empty dir gives it. It
// implements [io.WriterTo].
func (c *Config) WriteTo(w io.Writer) (int64, error) {
	files, err := c.Render("")
	if err != nil {
		return 0, err
	}
	n, err := w.Write(files[len(files)-1].Data)
	return int64(n), err
}

// render returns the map's file: one line an entry, sorted by key.
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
	// 64 bits are plenty to tell the few maps of one directory apart.
	sum := sha256.Sum256(data)
	return RenderedFile{Name: "maps/" + m.Name + "-" + hex.EncodeToString(sum[:8]) + ".map", Data: data}
}

func compareEntries(a, b MapEntry) int { return strings.Compare(a.Key, b.Key) }

// appendText renders a valid Config. paths gives the file of each map.
func (c *Config) appendText(paths map[string]string) []byte {
	t := make(text, 0, c.sizeHint())
	c.Global.append(&t, c.MaxConn())
	c.Defaults.append(&t, c.Global.StateFile != "", len(c.Global.Logs) > 0)
	for i := range c.Frontends {
		c.Frontends[i].append(&t, paths)
	}
	for i := range c.Backends {
		c.Backends[i].append(&t)
	}
	return append(t, '\n') // a missing last line end is fatal to HAProxy
}

// sizeHint is a little more than the length of the text, so that the buffer is
// allocated once.
func (c *Config) sizeHint() int {
	n := 4096 + 4096*len(c.Frontends)
	for i := range c.Backends {
		b := &c.Backends[i]
		n += 256 + len(b.Name) + len(b.Health.Path) + len(b.Health.Host)
		if b.Answer != nil {
			n += len(b.Answer.Body) + len(b.Answer.ContentType)
		}
		for j := range b.Servers {
			s := &b.Servers[j]
			if s.Addr.Addr().Is4() {
				n += 100 // name and address of at most 27 and 21 bytes
			} else {
				n += 160
			}
			n += len(s.Track) + len(s.AgentSend)
			if s.AgentPort != 0 {
				n += 32
			}
		}
	}
	return n
}

func (g *Global) append(t *text, maxConn int) {
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
	t.timeout("hard-stop-after", g.HardStopAfter)
	t.timeout("grace", g.Grace)
	t.timeout("close-spread-time", g.CloseSpread)
	for _, l := range g.Logs {
		t.line("log")
		t.word(l.Address)
		if l.Format != "" {
			t.raw(" format")
			t.word(l.Format)
		}
		t.word(or(l.Facility, "local0"))
		if l.Level != "" {
			t.word(l.Level)
		}
	}
}

func (d *Defaults) append(t *text, state, logs bool) {
	t.section("defaults", "")
	t.line("mode http")
	if logs {
		t.line("log global")
		t.line("option httplog")
		t.line("option dontlognull")
	}
	if state {
		t.line("load-server-state-from-file global")
	}
	t.timeout("timeout client", or(d.Client, 60*time.Second))
	t.timeout("timeout client-fin", or(d.ClientFin, 30*time.Second))
	t.timeout("timeout http-request", or(d.HTTPRequest, 10*time.Second))
	t.timeout("timeout http-keep-alive", or(d.KeepAlive, 60*time.Second))
	Timeouts{
		Connect: or(d.Connect, 3*time.Second),
		Queue:   or(d.Queue, 5*time.Second),
		Server:  or(d.Server, 60*time.Second),
		Tunnel:  or(d.Tunnel, time.Hour),
		Check:   or(d.Check, 2*time.Second),
	}.append(t)
	if d.Retries < 0 {
		t.line("retries 0")
		return
	}
	t.line("retries")
	t.int(or(d.Retries, 3))
	// With an interval of 1 every retry goes to another server, not only the
	// last one (manual, "option redispatch").
	t.line("option redispatch 1")
	t.line("retry-on")
	if d.RetryOn == nil {
		t.raw(" conn-failure empty-response")
	}
	for _, e := range d.RetryOn {
		t.word(string(e))
	}
}

// append renders those time-outs that are set.
func (o Timeouts) append(t *text) {
	t.timeout("timeout connect", o.Connect)
	t.timeout("timeout queue", o.Queue)
	t.timeout("timeout server", o.Server)
	t.timeout("timeout tunnel", o.Tunnel)
	t.timeout("timeout check", o.Check)
}

// timeout appends a line with a time, or nothing if it is zero.
func (t *text) timeout(keyword string, d time.Duration) {
	if d > 0 {
		t.line(keyword)
		t.duration(d)
	}
}
