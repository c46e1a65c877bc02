package routes

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNormalHost(t *testing.T) {
	label63 := strings.Repeat("a", 63)
	name253 := strings.Repeat(label63+".", 3) + strings.Repeat("b", 61)
	for _, c := range []struct{ in, want, err string }{
		{"example.com", "example.com", ""},
		{"EXAMPLE.Com", "example.com", ""},
		{"example.com.", "example.com", ""},
		{"example.com:443", "example.com", ""},
		{"example.com.:443", "example.com", ""},
		{"example.com:", "example.com", ""},
		{"localhost", "localhost", ""},
		{"*.example.com", "*.example.com", ""},
		{"*.EXAMPLE.com.:80", "*.example.com", ""},
		{"bücher.example", "xn--bcher-kva.example", ""},
		{"BÜCHER.example", "xn--bcher-kva.example", ""},
		{"xn--bcher-kva.example", "xn--bcher-kva.example", ""},
		{"XN--BCHER-KVA.example", "xn--bcher-kva.example", ""},
		{"faß.de", "xn--fa-hia.de", ""}, // not "fass.de": the profile is not transitional
		{"日本。jp", "xn--wgv71a.jp", ""},  // the ideographic full stop separates labels
		{"Ｅxample.com", "example.com", ""},
		{"\u212Aelvin.example", "kelvin.example", ""}, // the Kelvin sign
		{"r3---sn-abc.example.com", "r3---sn-abc.example.com", ""},
		{"r3---sn-abc.bücher.example", "r3---sn-abc.xn--bcher-kva.example", ""},
		{"1.example", "1.example", ""},
		{"0x1f.example", "0x1f.example", ""},
		{label63 + ".example", label63 + ".example", ""},
		{name253, name253, ""},
		{name253 + ".", name253, ""},

		{"", "", "empty name"},
		{".", "", "empty name"},
		{":80", "", "empty name"},
		{"example.com..", "", "empty label"},
		{"a..example", "", "empty label"},
		{".example.com", "", "empty label"},
		{"*", "", "whole first label"},
		{"*.", "", "empty name"},
		{"*.*.example", "", "whole first label"},
		{"a.*.example", "", "whole first label"},
		{"*a.example", "", "whole first label"},
		{"**.example", "", "whole first label"},
		{"https://example.com", "", "neither a scheme nor a path"},
		{"example.com/a", "", "neither a scheme nor a path"},
		{"user@example.com", "", "has no user"},
		{"example.com:0", "", "port"},
		{"example.com:65536", "", "port"},
		{"example.com:http", "", "port"},
		{"example.com:80:80", "", "port"},
		{"a_b.example", "a_b.example", ""},
		{"a b.example", "", "at byte 1"},
		{"a\n.example", "", "control character at byte 1"},
		{"-a.example", "", "hyphen"},
		{"a-.example", "", "hyphen"},
		{label63 + "a.example", "", "63 bytes"},
		{"x" + name253, "", "253 bytes"}, // the last label has 61 bytes, so only the whole name is too long
		{"*." + name253, "", "253 bytes"},
		{strings.Repeat("a.", 2000) + "b", "", "253 bytes"},
		{"10.0.0.1", "", "IP address"},
		{"10.0.0.1:80", "", "IP address"},
		{"10.0.0.1.", "", "IP address"},
		{"１０.0.0.1", "", "IP address"},
		{"127.1", "", "IP address"},
		{"a.0x7f", "", "IP address"},
		{"*.0.0.1", "", "IP address"},
		{"::1", "", "IP address"},
		{"[::1]", "", "IP address"},
		{"[::1]:80", "", "IP address"},
		{"fe80::1%eth0", "", "IP address"},
		{"xn--a.example", "xn--a.example", ""},
		{"xn--.example", "", ""},
		{"a\xff.example", "", "UTF-8"},
		{"\u200d.example", "", "IDNA"},
	} {
		t.Run(c.in, func(t *testing.T) {
			got, err := normalPattern(c.in)
			if c.want != "" {
				require.NoError(t, err)
				require.Equal(t, c.want, got)
				return
			}
			require.Error(t, err)
			require.Contains(t, err.Error(), c.err)
		})
	}
}

func TestNormalPath(t *testing.T) {
	for _, c := range []struct {
		in    string
		exact bool
		want  string
		err   string
	}{
		{"", false, "/", ""},
		{"", true, "/", ""},
		{"/", false, "/", ""},
		{"/", true, "/", ""},
		{"/a", false, "/a", ""},
		{"/a/", false, "/a", ""},
		{"/a/", true, "/a/", ""},
		{"/A/b.c/~d", false, "/A/b.c/~d", ""},
		{"/a%2Fb/%20", false, "/a%2Fb/%20", ""},
		{"/a%2fb", false, "/a%2fb", ""},
		{"/!$&'()+,;=:@-._~", false, "/!$&'()+,;=:@-._~", ""},
		{"/...", false, "/...", ""},
		{"/.a", false, "/.a", ""},
		{"/" + strings.Repeat("a", 1023), false, "/" + strings.Repeat("a", 1023), ""},

		{"a", false, "", `must begin with "/"`},
		{"http://a/", false, "", `must begin with "/"`},
		{"/a?b", false, "", "query"},
		{"/a#b", false, "", "ignores a query and a fragment"},
		{"/a*", false, "", "no patterns"},
		{"//", false, "", "empty segment"},
		{"/a//b", false, "", "empty segment"},
		{"/a//", true, "", "empty segment"},
		{"/./a", false, "", "clients resolve"},
		{"/a/..", false, "", "clients resolve"},
		{"/a/../", false, "", "clients resolve"},
		{"/%2e", false, "", "clients resolve"},
		{"/.%2E/a", false, "", "clients resolve"},
		{"/a b", false, "", "%20"},
		{"/a\tb", false, "", "%09"},
		{"/a\nb", false, "", "%0A"},
		{"/a\x7f", false, "", "%7F"},
		{"/é", false, "", "%C3%A9"},
		{`/a"b`, false, "", "%22"},
		{`/a\b`, false, "", "%5C"},
		{"/\xff", false, "", "0xff"},
		{"/%", false, "", "hexadecimal"},
		{"/%2", false, "", "hexadecimal"},
		{"/%2g", false, "", "hexadecimal"},
		{"/%%20", false, "", "hexadecimal"},
		{"/" + strings.Repeat("a", 1024), false, "", "1025 bytes"},
	} {
		t.Run(c.in, func(t *testing.T) {
			got, err := normalPath(c.in, c.exact)
			if c.want != "" {
				require.NoError(t, err)
				require.Equal(t, c.want, got)
				return
			}
			require.Error(t, err)
			require.Contains(t, err.Error(), c.err)
		})
	}
}

func TestCheckPort(t *testing.T) {
	for _, ok := range []string{"http", "80", "1", "65535", "a", "h2c", "8080-tcp", "1a", "a-name-of-more-than-15-bytes"} {
		require.NoError(t, checkPort(ok), ok)
	}
	for _, bad := range []string{"", "0", "00", "080", "65536", "99999999999999999999", "HTTP", "-http", "http-", "a.b", "a b", "a\n", "é", strings.Repeat("a", 64)} {
		require.Error(t, checkPort(bad), bad)
	}
}

func TestDurations(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"1h": time.Hour, "30s": 30 * time.Second, "1h30m": 90 * time.Minute, "500ms": 500 * time.Millisecond,
		"1.5s": 1500 * time.Millisecond, "2d": 48 * time.Hour, "1d12h": 36 * time.Hour, "1000us": time.Millisecond,
		"24d20h31m23s647ms": maxDuration,
	} {
		got, err := parseDuration(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
		require.NoError(t, checkDuration(got, time.Millisecond), in)
		again, err := parseDuration(formatDuration(got))
		require.NoError(t, err, in)
		require.Equal(t, got, again, in)
	}
	for _, bad := range []string{"", "5", "0", "s", "d", "-1s", "+1s", "1d-1h", "1 s", "1w", "1s1", "1.5d", "-1d", "1d1d", "99999d", "1h1d", "1d0"} {
		d, err := parseDuration(bad)
		if err == nil {
			err = checkDuration(d, time.Millisecond)
		}
		require.Error(t, err, bad)
	}
	for _, far := range []string{"25d", "24d20h31m23s648ms", "65535d2562047h", "2562047h47m16s"} {
		d, err := parseDuration(far)
		require.NoError(t, err, far)
		require.ErrorContains(t, checkDuration(d, time.Millisecond), "at most", far)
	}
}

func TestNew(t *testing.T) {
	check := &Check{Path: "/up", Host: "A.example"}
	given := Route{Host: "B.example:80", Backends: []Backend{{Ref{"z", "n", "s", "p"}, 1}, {Ref{"a", "n", "s", "p"}, 2}}, Check: check}
	table, problems := New(given, Route{Host: "a.example"}, Route{
		Host: "b.example", Backends: []Backend{tracks}, Position: Position{"f", 7},
	}, Route{Host: "c.example", Backends: []Backend{tracks}, Timeouts: Timeouts{Server: -1}, Check: &Check{Rise: -1, Fall: 101, Interval: 1}})
	require.Equal(t, []string{
		"routes[1].backends: is missing or empty: nothing would serve the route",
		"routes[3].check.interval: \"1ns\" must be whole milliseconds",
		"routes[3].check.rise: must be from 1 to 100, or left out",
		"routes[3].check.fall: must be from 1 to 100, or left out",
		"routes[3].timeouts.server: \"-1ns\" must be whole milliseconds",
		"f:7: routes[2]: b.example/ is declared differently at routes[0], which stands; this one is left out",
	}, lines(problems))
	require.Equal(t, []Route{{
		Host: "b.example", Path: "/",
		Backends: []Backend{{Ref{"a", "n", "s", "p"}, 2}, {Ref{"z", "n", "s", "p"}, 1}},
		Check:    &Check{Path: "/up", Host: "a.example"},
	}}, table.routes)
	require.Equal(t, "A.example", check.Host, "arguments are not changed")
	require.Equal(t, "z", given.Backends[0].Cluster, "arguments are not changed")
}

func TestMerge(t *testing.T) {
	parse := func(file, hosts string) Table {
		var b strings.Builder
		b.WriteString("routes:\n")
		for h := range strings.FieldsSeq(hosts) {
			b.WriteString("- {host: '" + h + "', backends: [" + backend + "]}\n")
		}
		table, problems := Parse(file, []byte(b.String()))
		require.Empty(t, problems)
		return table
	}
	table, problems := Merge(parse("a.yaml", "c.example a.example"), Table{}, parse("b.yaml", "b.example a.example c.example"))
	require.Equal(t, []string{"a.example", "b.example", "c.example"}, table.Hosts())
	require.Equal(t, []string{
		"b.yaml:3: routes: a.example/ is declared alike at a.yaml:3, which stands; this one is left out",
		"b.yaml:4: routes: c.example/ is declared alike at a.yaml:2, which stands; this one is left out",
	}, lines(problems))
	for _, r := range table.routes[:1] {
		require.Equal(t, Position{"a.yaml", 3}, r.Position)
	}
	table, problems = Merge()
	require.Empty(t, table.routes)
	require.Empty(t, problems)
}

func TestRefsAndHosts(t *testing.T) {
	b := func(cluster, port string) Backend { return Backend{Ref{cluster, "n", "s", port}, 1} }
	table, problems := New(
		Route{Host: "b.example", Backends: []Backend{b("z", "http"), b("a", "http")}},
		Route{Host: "b.example", Path: "/a", Backends: []Backend{b("a", "http"), b("a", "8080")}},
		Route{Host: "*.example", Backends: []Backend{b("a", "8080")}},
	)
	require.Empty(t, problems)
	var refs []string
	for _, r := range table.Refs() {
		refs = append(refs, r.String())
	}
	require.Equal(t, []string{"a/n/s:8080", "a/n/s:http", "z/n/s:http"}, refs)
	require.Equal(t, []string{"*.example", "b.example"}, table.Hosts())
	require.Empty(t, Table{}.Refs())
	require.Empty(t, Table{}.Hosts())
}

func TestStrings(t *testing.T) {
	require.Equal(t, "eu-1/media/tracks:http", tracks.Ref.String())
	require.Equal(t, "eu-1/media/tracks:http weight 100", tracks.String())
	require.Equal(t, "f:3", Position{"f", 3}.String())
	require.Equal(t, "f", Position{File: "f"}.String())
	require.Equal(t, "line 3", Position{Line: 3}.String())
	require.Equal(t, "m", Problem{Message: "m"}.Error())
	require.Equal(t, "f:3: a: m", Problem{"f", 3, "a", "m"}.Error())
}

func lines(problems []Problem) []string {
	var out []string
	for _, p := range problems {
		out = append(out, p.Error())
	}
	return out
}
