package haproxycfg_test

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/routes"
)

// FuzzEdge declares a route of any strings at all beside a good one. Whatever
// they are, the good one is rendered, and the text has just the sections and
// lines that the typed Config accounts for.
func FuzzEdge(f *testing.F) {
	for _, s := range []string{"a.example.com", "*.example.com", "x\ny", "x y", "a#b", "'", "\\", "\x00", "\r", "{}", "é", "not-found", "nodes", ".", ":", "/", "backend"} {
		f.Add(s, "/"+s, s, s, s, "/"+s, s, int64(time.Second), 100, false)
		f.Add("h.example.com", "/p", "eu-1", s, "http", "", "", int64(0), 0, true)
	}
	f.Add("a.example.com/b", "/", "eu-1", "s", "http", "", "", int64(-1), 257, false)
	f.Add("a.example.com", "/b/", "eu.1", "s", "http", "", "h", int64(1), -1, false)
	f.Add("a.example.com", "/b", "nodes", "eu-1", "http", "", "", int64(1)<<62, 100, false)
	f.Add("a.example.com", "/b", "eu-1", "s", "http", "/health?full=1", "h.example.com", int64(time.Second), 100, true)
	good := ref("eu-1", "good")
	node := haproxycfg.Node{Name: "n", Addr: netip.MustParseAddr("10.0.0.1")}

	f.Fuzz(func(t *testing.T, host, path, cluster, service, port, checkPath, checkHost string, d int64, weight int, exact bool) {
		fuzzed := routes.Ref{Cluster: cluster, Namespace: service, Service: service, Port: port}
		r := routes.Route{
			Host: host, Path: path, Exact: exact,
			Backends: []routes.Backend{{Ref: fuzzed, Weight: weight}, {Ref: good, Weight: 100}},
			Timeouts: routes.Timeouts{Server: time.Duration(d)},
		}
		if checkPath != "" || checkHost != "" {
			r.Check = &routes.Check{Path: checkPath, Host: checkHost, Interval: time.Duration(d)}
		}
		table := routes.Table{Routes: []routes.Route{route("good.example.com", "/", weighted{good, 100}), r, {Host: host, Path: path, Backends: r.Backends}}}
		edge := haproxycfg.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}}
		config, _ := edge.Config(table, []haproxycfg.Upstream{
			{Ref: good, NodePort: 31000, Nodes: []haproxycfg.Node{node}},
			{Ref: fuzzed, NodePort: 31001, AgentPort: 9801, Nodes: []haproxycfg.Node{node, {Name: host, Addr: netip.MustParseAddr("fe80::1%" + zone(host))}}},
		})
		files, err := config.Render("/etc/haproxy")
		require.NoError(t, err, "one bad route takes the good ones down")
		requireAccounted(t, config, files)
		require.Contains(t, string(files[2].Data), "good.example.com/ eu-1.media.good.http\n")

		// What is declared well is rendered without a complaint.
		if table, faults := routes.New(r); len(faults) == 0 {
			_, problems := edge.Config(table, []haproxycfg.Upstream{
				{Ref: good, NodePort: 31000, Nodes: []haproxycfg.Node{node}},
				{Ref: fuzzed, NodePort: 31001, Nodes: []haproxycfg.Node{node}},
			})
			require.Empty(t, problems)
		}
	})
}

func zone(s string) string {
	if s == "" {
		return "z"
	}
	return s
}

// requireAccounted re-reads rendered files and requires that they hold what the
// Config holds and nothing else.
func requireAccounted(t testing.TB, c *haproxycfg.Config, files []haproxycfg.RenderedFile) {
	t.Helper()
	sections, err := parseConfig(string(files[len(files)-1].Data))
	require.NoError(t, err)
	heads := [][]string{{"global"}, {"defaults"}}
	for _, fe := range c.Frontends {
		heads = append(heads, []string{"frontend", fe.Name})
	}
	for _, be := range c.Backends {
		heads = append(heads, []string{"backend", be.Name})
	}
	require.Len(t, sections, len(heads))
	for i, s := range sections {
		require.Equal(t, heads[i], s.head)
		count := map[string]int{}
		for _, l := range s.lines {
			count[l[0]]++
		}
		if i < 2+len(c.Frontends) {
			continue
		}
		be := c.Backends[i-2-len(c.Frontends)]
		want := map[string]int{"balance": 1, "default-server": 1, "server": len(be.Servers)}
		switch {
		case be.Answer != nil:
			want = map[string]int{"http-request": 1}
		case be.Health.Path != "" && be.Health.Host != "":
			want["option"], want["http-check"] = 1, 1
		case be.Health.Path != "":
			want["option"] = 1
		}
		for _, d := range []time.Duration{be.Timeouts.Connect, be.Timeouts.Queue, be.Timeouts.Server, be.Timeouts.Tunnel, be.Timeouts.Check} {
			if d > 0 {
				want["timeout"]++
			}
		}
		if be.Balance == haproxycfg.Source || be.Balance == haproxycfg.URI {
			want["hash-type"] = 1
		}
		for k, n := range want {
			if n == 0 {
				delete(want, k)
			}
		}
		require.Equal(t, want, count, "lines of backend %s", be.Name)
		n := 0
		for _, l := range s.lines {
			if l[0] == "server" {
				require.Equal(t, be.Servers[n].Name(), l[1])
				n++
			}
		}
	}
	require.Len(t, files, len(c.Maps)+1)
	for i, m := range c.Maps {
		lines := strings.Split(string(files[i].Data), "\n")
		require.Empty(t, lines[len(lines)-1])
		lines = lines[:len(lines)-1]
		require.Len(t, lines, len(m.Entries))
		want := []string{}
		for _, e := range m.Entries {
			want = append(want, e.Key+" "+e.Value)
			require.Len(t, strings.FieldsFunc(e.Key+" "+e.Value, blank), 2)
			require.NotEqual(t, byte('#'), e.Key[0])
		}
		slices.Sort(want)
		slices.Sort(lines)
		require.Equal(t, want, lines)
	}
}

// blank is what parts words to HAProxy. It knows bytes, and no spaces of Unicode.
func blank(r rune) bool { return r <= ' ' || r == 0x7f }

const mark = "M4RK"

// stringFields puts a string into each field of a Config that takes one.
var stringFields = []struct {
	name string
	set  func(c *haproxycfg.Config, s string)
}{
	{"Global.User", func(c *haproxycfg.Config, s string) { c.Global.User = s }},
	{"Global.Group", func(c *haproxycfg.Config, s string) { c.Global.Group = s }},
	{"Global.StatsSocket", func(c *haproxycfg.Config, s string) { c.Global.StatsSocket = "/" + s }},
	{"Global.StateFile", func(c *haproxycfg.Config, s string) { c.Global.StateFile = s }},
	{"Log.Address", func(c *haproxycfg.Config, s string) { c.Global.Logs = []haproxycfg.Log{{Address: s}} }},
	{"Log.Format", func(c *haproxycfg.Config, s string) { c.Global.Logs[0].Format = s }},
	{"Log.Facility", func(c *haproxycfg.Config, s string) { c.Global.Logs[0].Facility = s }},
	{"Log.Level", func(c *haproxycfg.Config, s string) { c.Global.Logs[0].Level = s }},
	{"RetryOn", func(c *haproxycfg.Config, s string) {
		c.Defaults.RetryOn = []haproxycfg.RetryEvent{haproxycfg.RetryEvent(s)}
	}},
	{"Frontend.Name", func(c *haproxycfg.Config, s string) { c.Frontends[0].Name = s }},
	{"Frontend.Monitor", func(c *haproxycfg.Config, s string) { c.Frontends[0].Monitor = "/" + s }},
	{"Frontend.Exporter", func(c *haproxycfg.Config, s string) { c.Frontends[0].Exporter = "/" + s }},
	{"Bind.Address", func(c *haproxycfg.Config, s string) { c.Frontends[0].Binds[0].Address = s }},
	{"Bind.Address socket", func(c *haproxycfg.Config, s string) { c.Frontends[0].Binds[0].Address = "unix@/" + s }},
	{"TLS.Certificates", func(c *haproxycfg.Config, s string) { c.Frontends[0].Binds[0].TLS.Certificates = s }},
	{"TLS.MinVersion", func(c *haproxycfg.Config, s string) { c.Frontends[0].Binds[0].TLS.MinVersion = s }},
	{"TLS.ALPN", func(c *haproxycfg.Config, s string) { c.Frontends[0].Binds[0].TLS.ALPN = []string{"h2", s} }},
	{"Backend.Name", func(c *haproxycfg.Config, s string) { c.Backends[0].Name, c.Frontends[0].DefaultBackend = s, s }},
	{"Backend.Balance", func(c *haproxycfg.Config, s string) { c.Backends[0].Balance = haproxycfg.Balance(s) }},
	{"Health.Path", func(c *haproxycfg.Config, s string) { c.Backends[0].Health.Path = "/" + s }},
	{"Health.Host", func(c *haproxycfg.Config, s string) { c.Backends[0].Health.Host = s }},
	{"Server.Track", func(c *haproxycfg.Config, s string) { c.Backends[0].Servers[1].Track = s }},
	{"Server.AgentSend", func(c *haproxycfg.Config, s string) { c.Backends[0].Servers[0].AgentSend = s }},
	{"Answer.ContentType", func(c *haproxycfg.Config, s string) { c.Backends[1].Answer.ContentType = s }},
	{"Answer.Body", func(c *haproxycfg.Config, s string) { c.Backends[1].Answer.Body = s }},
	{"Router.Hosts", func(c *haproxycfg.Config, s string) { c.Frontends[0].Router.Hosts = s; c.Maps[0].Name = s }},
	{"Map.Key", func(c *haproxycfg.Config, s string) { c.Maps[1].Entries[0].Key = s }},
	{"Map.Value", func(c *haproxycfg.Config, s string) { c.Maps[2].Entries[0].Value = s }},
	{"Log.Address socket", func(c *haproxycfg.Config, s string) { c.Global.Logs = []haproxycfg.Log{{Address: "/" + s}} }},
}

func fieldsConfig() *haproxycfg.Config {
	return &haproxycfg.Config{
		Global: haproxycfg.Global{Logs: []haproxycfg.Log{{Address: "stdout"}}},
		Frontends: []haproxycfg.Frontend{{
			Name: "f", Binds: []haproxycfg.Bind{{Address: ":80", TLS: &haproxycfg.TLS{Certificates: "/certs"}}},
			Router: &haproxycfg.Router{Hosts: "h", Exact: "e", Prefix: "p"}, DefaultBackend: "b",
		}},
		Backends: []haproxycfg.Backend{
			{Name: "b", Health: haproxycfg.Health{Path: "/h"}, Servers: []haproxycfg.Server{
				{Addr: netip.MustParseAddrPort("10.0.0.1:80"), Check: true, AgentPort: 9801, AgentSend: "x"},
				{Addr: netip.MustParseAddrPort("10.0.0.2:80")},
			}},
			{Name: "answer", Answer: &haproxycfg.Answer{Status: 200, Body: "x"}},
		},
		Maps: []haproxycfg.Map{
			{Name: "h", Entries: []haproxycfg.MapEntry{{Key: "a", Value: "a"}}},
			{Name: "e", Entries: []haproxycfg.MapEntry{{Key: "a/x", Value: "answer"}}},
			{Name: "p", Entries: []haproxycfg.MapEntry{{Key: "a/", Value: "answer"}}},
		},
	}
}

// FuzzConfig puts any string into one field. Either the Config is rejected, or
// the text is, word for word, that of a harmless string with the one replaced
// by the other.
func FuzzConfig(f *testing.F) {
	for i := range stringFields {
		for _, s := range []string{"plain", "a b", "it's", `\`, `"$HOME"`, "x # y", "a#b", "x\nbackend y", "50%", "é\xff", "-f", "", "{", "roundrobin", "b/10.0.0.1:80-9801", "answer"} {
			f.Add(i, s)
		}
	}
	f.Fuzz(func(t *testing.T, field int, s string) {
		if field < 0 || field >= len(stringFields) {
			return
		}
		set := stringFields[field]
		harmless, c := fieldsConfig(), fieldsConfig()
		set.set(c, s)
		got, err := c.Render("/dir")
		if err != nil {
			require.ErrorIs(t, err, haproxycfg.ErrInvalid)
			return
		}
		set.set(harmless, mark)
		want, err := harmless.Render("/dir")
		if err != nil {
			// Only some values are allowed here, paths of sockets among them.
			// Whatever it is, it adds no section, and is one word if it has spaces.
			require.ErrorIs(t, err, haproxycfg.ErrInvalid)
			sections, err := parseConfig(string(got[len(got)-1].Data))
			require.NoError(t, err)
			plain, err := fieldsConfig().Render("/dir")
			require.NoError(t, err)
			usual, err := parseConfig(string(plain[len(plain)-1].Data))
			require.NoError(t, err)
			require.Len(t, sections, len(usual))
			require.True(t, !strings.Contains(s, " ") || slices.ContainsFunc(sections, func(x section) bool {
				return slices.ContainsFunc(x.lines, func(words []string) bool { return slices.Contains(words, s) })
			}), "%s: %q is not one word", set.name, s)
			return
		}
		require.Len(t, got, len(want))
		for i := range want[:len(want)-1] {
			require.Equal(t, strings.ReplaceAll(string(want[i].Data), mark, s), string(got[i].Data), want[i].Name)
			require.Len(t, bytes.FieldsFunc(got[i].Data, blank), 2)
		}
		wantSections, err := parseConfig(string(want[len(want)-1].Data))
		require.NoError(t, err)
		gotSections, err := parseConfig(string(got[len(got)-1].Data))
		require.NoError(t, err, "%s", set.name)
		if s == "" {
			return // means that the setting is left out
		}
		require.NoError(t, sameWords(wantSections, gotSections, set.name, s), "%s", set.name)
	})
}

// sameWords compares two texts, of which the first has mark where the second has s.
func sameWords(want, got []section, field, s string) error {
	switch field {
	case "Health.Host":
		s = strings.ReplaceAll(s, "%", "%%")
	}
	if len(want) != len(got) {
		return errors.New("other sections")
	}
	for i := range want {
		w, g := append([][]string{want[i].head}, want[i].lines...), append([][]string{got[i].head}, got[i].lines...)
		if len(w) != len(g) {
			return errors.New("another number of lines")
		}
		for j := range w {
			words := slices.Clone(w[j])
			for k := range words {
				words[k] = strings.ReplaceAll(words[k], mark, s)
			}
			// The names of maps hold a hash of their content.
			if strings.Contains(strings.Join(g[j], " "), ".map") && len(words) == len(g[j]) {
				continue
			}
			if !slices.Equal(words, g[j]) {
				return errors.New("another line: " + strings.Join(g[j], " "))
			}
		}
	}
	return nil
}
