package routes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// renderTable contains special cases: the origin itself, a name two labels below a wildcard, paths
// of each kind, and an internationalised name.
func renderTable(t testing.TB) Table {
	return tableOf(t,
		"example.com/", "*.example.com/", "api.example.com/", "api.example.com/a&b", "=api.example.com/a", "api.example.com/a/long/one",
		"*.deep.er.example.com/", "bücher.example.com/", "example.org/", "notexample.com/", "xexample.com/")
}

var terminators = []netip.Addr{netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("::ffff:192.0.2.1")}

func TestAppendZone(t *testing.T) {
	for _, c := range []struct {
		name string
		o    ZoneOptions
	}{
		{"addrs", ZoneOptions{Origin: "Example.com.", Addrs: terminators}},
		{"target", ZoneOptions{Origin: "example.com", Addrs: terminators[:1], Target: "edge.example.net", TTL: time.Hour}},
		{"below", ZoneOptions{Origin: "er.example.com", Target: "edge.example.com"}},
		{"none", ZoneOptions{Origin: "example.net", Target: "edge.example.com"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := AppendZone([]byte("; before\n"), renderTable(t), c.o)
			require.NoError(t, err)
			golden(t, got)
			zone := readZone(t, got)
			for _, host := range renderTable(t).Hosts() {
				origin := strings.ToLower(strings.TrimSuffix(c.o.Origin, "."))
				_, ok := zone[host]
				require.Equal(t, host == origin || strings.HasSuffix(host, "."+origin), ok, host)
			}
		})
	}
}

// TestAppendZoneErrors: with an error, AppendZone returns dst unchanged.
func TestAppendZoneErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		o    ZoneOptions
		want string
	}{
		{"no origin", ZoneOptions{Target: "edge.example.net"}, `routes: zone: origin: "" is not a host name: empty name`},
		{"wildcard origin", ZoneOptions{Origin: "*.example.com", Target: "edge.example.net"}, `routes: zone: origin: "*.example.com" is not a host name: asterisk`},
		{"no target", ZoneOptions{Origin: "example.com"}, "routes: zone: neither addresses nor a target name given"},
		{"bad target", ZoneOptions{Origin: "example.com", Target: "a b"}, `routes: zone: target: "a b" is not a host name: character`},
		{"target is an address", ZoneOptions{Origin: "example.com", Target: "192.0.2.1"}, "is not a host name: IP address"},
		{"alias at the origin", ZoneOptions{Origin: "example.com", Target: "edge.example.net"}, "example.com is the origin, which cannot be an alias"},
		{"alias of itself", ZoneOptions{Origin: "example.com", Addrs: terminators, Target: "API.example.com"}, "api.example.com would be an alias of itself"},
		{"no address", ZoneOptions{Origin: "example.com", Addrs: []netip.Addr{{}}}, "is no address to publish"},
		{"any address", ZoneOptions{Origin: "example.com", Addrs: []netip.Addr{netip.IPv4Unspecified()}}, "0.0.0.0 is no address to publish"},
		{"zoned address", ZoneOptions{Origin: "example.com", Addrs: []netip.Addr{netip.MustParseAddr("fe80::1%eth0")}}, "is no address to publish"},
		{"TTL negative", ZoneOptions{Origin: "example.com", Addrs: terminators, TTL: -time.Second}, "the TTL -1s"},
		{"TTL fraction", ZoneOptions{Origin: "example.com", Addrs: terminators, TTL: 1500 * time.Millisecond}, "the TTL 1.5s"},
		{"TTL too long", ZoneOptions{Origin: "example.com", Addrs: terminators, TTL: 1 << 31 * time.Second}, "the TTL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := AppendZone([]byte("before"), renderTable(t), c.o)
			require.ErrorContains(t, err, c.want)
			require.Equal(t, "before", string(got))
		})
	}
}

// TestZoneCoversMatch resolves names by the rules of RFC 4592: every host that the table serves
// must resolve. The difficult case is a name with other names below it: a DNS wildcard does not
// cover it.
func TestZoneCoversMatch(t *testing.T) {
	table := renderTable(t)
	out, err := AppendZone(nil, table, ZoneOptions{Origin: "example.com", Addrs: terminators})
	require.NoError(t, err)
	zone := readZone(t, out)
	served := 0
	for _, name := range []string{
		"example.com", "api.example.com", "www.example.com", "er.example.com", "deep.er.example.com", "x.deep.er.example.com",
		"x.er.example.com", "x.y.example.com", "x.api.example.com", "xn--bcher-kva.example.com",
	} {
		if _, ok := table.Match(name, "/"); ok {
			served++
			require.NotEmpty(t, resolve(zone, name), name)
		}
	}
	require.Equal(t, 6, served)
	require.Empty(t, resolve(zone, "deep.er.example.com"), "an empty non-terminal, which the wildcard does not cover")
}

// TestZoneLeavesTheTargetAlone: the target has records of its own. So a name below the target, or a
// wildcard above it, must not add an alias for the target.
func TestZoneLeavesTheTargetAlone(t *testing.T) {
	out, err := AppendZone(nil, tableOf(t, "*.example.com/", "a.edge.example.com/", "a.b.example.com/"), ZoneOptions{Origin: "example.com", Target: "edge.example.com"})
	require.NoError(t, err)
	zone := readZone(t, out)
	require.Contains(t, zone, "b.example.com", "which the wildcard of the DNS does not cover")
	require.NotContains(t, zone, "edge.example.com")
	require.Contains(t, zone, "a.edge.example.com")
}

// resolve returns the records of a name, as a name server does. A name without records of its own
// gets no records if there are names below it. Otherwise it gets the records of the wildcard at the
// closest encloser (RFC 4592 section 3.3).
func resolve(zone map[string][]string, name string) []string {
	exists := func(n string) bool {
		for owner := range zone {
			if owner == n || strings.HasSuffix(owner, "."+n) {
				return true
			}
		}
		return false
	}
	if exists(name) {
		return zone[name]
	}
	for encloser := name; ; {
		_, parent, ok := strings.Cut(encloser, ".")
		if !ok {
			return nil
		}
		if encloser = parent; exists(encloser) {
			return zone["*."+encloser]
		}
	}
}

var zoneLine = regexp.MustCompile(`^((?:\*\.)?(?:[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?\.)+)\t([1-9][0-9]{0,9})\tIN\t(A|AAAA|CNAME)\t(\S+)$`)

// readZone parses the lines of AppendZone and checks them by the rules of DNS data.
func readZone(t testing.TB, data []byte) map[string][]string {
	zone := map[string][]string{}
	require.True(t, len(data) == 0 || bytes.HasSuffix(data, []byte("\n")))
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, ";") {
			continue
		}
		m := zoneLine.FindStringSubmatch(line)
		require.NotNil(t, m, line)
		name, kind, value := strings.TrimSuffix(m[1], "."), m[3], m[4]
		if kind == "CNAME" {
			require.Regexp(t, `\.$`, value)
			require.Empty(t, zone[name], "an alias has no other records")
		} else {
			addr, err := netip.ParseAddr(value)
			require.NoError(t, err)
			require.Equal(t, kind == "A", addr.Is4())
		}
		zone[name] = append(zone[name], kind+" "+value)
	}
	return zone
}

func TestAppendCDN(t *testing.T) {
	table := renderTable(t)
	got, err := AppendCDN([]byte("\n"), table, CDNOptions{Origin: "Edge.example.net"})
	require.NoError(t, err)
	golden(t, got)

	var file cdnFile
	dec := json.NewDecoder(bytes.NewReader(got))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(&file))
	// The first pattern that matches must belong to the route that Match returns.
	for _, d := range file.Distributions {
		for _, path := range []string{"/", "/a", "/a/", "/a/long", "/a/long/one", "/a/long/one/x", "/a/long/ones", "/a&b", "/a&b/c", "/x"} {
			want, ok := table.Match(strings.Replace(d.Host, "*", "any", 1), path)
			require.Equal(t, short(want, ok), short(firstBehaviour(d, path)), d.Host+path)
		}
	}

	empty, err := AppendCDN(nil, Table{}, CDNOptions{Origin: "edge.example.net"})
	require.NoError(t, err)
	require.Equal(t, "{\n  \"distributions\": []\n}\n", string(empty))

	for origin, want := range map[string]string{
		"":                 "is not a host name: empty name",
		"api.example.com.": "would fetch from itself",
		"10.0.0.1":         "is not a host name: IP address",
	} {
		got, err := AppendCDN([]byte("before"), table, CDNOptions{Origin: origin})
		require.ErrorContains(t, err, want)
		require.Equal(t, "before", string(got))
	}
}

func firstBehaviour(d cdnDistribution, path string) (Route, bool) {
	for _, b := range d.Behaviours {
		for _, p := range b.Patterns {
			prefix, glob := strings.CutSuffix(p, "*")
			if p == path || glob && strings.HasPrefix(path, prefix) {
				return Route{Host: d.Host, Path: b.Path, Exact: b.Exact}, true
			}
		}
	}
	return Route{}, false
}

// TestAppendYAML: values that look like another type of YAML, such as "yes", stay strings.
func TestAppendYAML(t *testing.T) {
	var rs []Route
	for i, name := range []string{"true", "null", "no", "y", "1", "08", "1e3", "0x1f", "1-2", "2020-01-01", "n", "off", "a"} {
		rs = append(rs, Route{
			Host: fmt.Sprintf("h%d", i), Path: "/" + name + ":", Exact: i%2 == 0,
			Backends: []Backend{{Ref{name, name, name, "p-" + name}, i}, {Ref{name, name, name, "8080"}, 100}},
			Check:    []*Check{nil, {GRPC: true, Rise: 1}, {Path: "/x?a=b&c:d", Host: name + ".x", Interval: 1500 * time.Millisecond, Rise: 1, Fall: 100}, {}}[i%4],
			Protocol: []Protocol{HTTP1, H2C, GRPC, "http1"}[i%4],
			Limits:   []Limits{{}, {Limit: Limit{1, 2}}, {Source: Limit{3, 0}}, {Limit{0, 4}, Limit{5, 6}}, {}}[i%5],
			Timeouts: []Timeouts{{}, {Server: time.Millisecond}, {Server: time.Minute, Tunnel: maxDuration}, {Tunnel: 48 * time.Hour}}[i%4],
		})
	}
	rs = append(rs, Route{Host: "*.true", Backends: []Backend{tracks}}, Route{Host: "null", Backends: []Backend{tracks}}, Route{Host: "no", Path: "/~a/,b", Backends: []Backend{tracks}})
	table, problems := New(rs...)
	require.Empty(t, problems)
	again, problems := Parse("f", AppendYAML(nil, table))
	require.Empty(t, problems)
	require.Equal(t, table, withoutPositions(again))
	require.Equal(t, "routes: []\n", string(AppendYAML(nil, Table{})))
}

func withoutPositions(t Table) Table {
	for i := range t.routes {
		t.routes[i].Position = Position{}
	}
	return t
}

// golden compares got with the test's file under testdata. UPDATE_GOLDEN=1 writes the file.
func golden(t *testing.T, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", filepath.FromSlash(t.Name())+".golden")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o777))
		require.NoError(t, os.WriteFile(file, got, 0o666))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}
