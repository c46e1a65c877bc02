package routes

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// backend is a valid backend for cases about other fields.
const backend = `{cluster: eu-1, namespace: media, service: tracks, port: http}`

var tracks = Backend{Ref{"eu-1", "media", "tracks", "http"}, 100}

func TestParseKeepsEveryField(t *testing.T) {
	table, problems := Parse("edge.yaml", []byte(`
routes:
- host: API.Example.com.:443
  path: /tracks/
  exact: false
  backends:
  - {cluster: eu-2, namespace: media, service: tracks, port: 8080, weight: 0}
  - {cluster: eu-1, namespace: media, service: tracks, port: http}
  check:
    path: /healthz?full=1
    host: Tracks.internal
    interval: 2s
    rise: 3
    fall: 2
  timeouts: {server: 90s, tunnel: 1d12h}
  protocol: h2c
  limits: {requests: 1000, connections: 200, source: {requests: 20, connections: 10000000}}
  shift: true
  prefer:
  - {region: eu, clusters: [eu-1, eu-2], quorum: 60}
  - {clusters: [eu-2]}
- host: "*.Bücher.example"
  exact: true
  path: /a/
  backends: [{cluster: eu-1, namespace: media, service: tracks, port: http, weight: 256}]
  check: {}
`))
	require.Empty(t, problems)
	require.Equal(t, []Route{
		{
			Host: "*.xn--bcher-kva.example", Path: "/a/", Exact: true,
			Backends: []Backend{{tracks.Ref, 256}},
			Check:    &Check{},
			Position: Position{"edge.yaml", 22},
		},
		{
			Host: "api.example.com", Path: "/tracks",
			Backends: []Backend{tracks, {Ref{"eu-2", "media", "tracks", "8080"}, 0}},
			Check:    &Check{Path: "/healthz?full=1", Host: "tracks.internal", Interval: 2 * time.Second, Rise: 3, Fall: 2},
			Protocol: H2C,
			Limits:   Limits{Limit{1000, 200}, Limit{20, 10_000_000}},
			Timeouts: Timeouts{Server: 90 * time.Second, Tunnel: 36 * time.Hour},
			Shift:    true,
			Prefer:   []Preference{{"", []string{"eu-2"}, 0}, {"eu", []string{"eu-1", "eu-2"}, 60}},
			Position: Position{"edge.yaml", 3},
		},
	}, table.routes)
}

// TestParseProblems puts each bad route between two good ones, and Parse must keep those two.
func TestParseProblems(t *testing.T) {
	const before = "routes:\n- {host: first.example.com, backends: [" + backend + "]}\n"
	const after = "\n- {host: last.example.com, backends: [" + backend + "]}\n"
	full := func(fields string) string { return "- host: a.example.com\n" + fields }
	with := func(fields string) string { return full(fields + "\n  backends: [" + backend + "]") }
	back := func(b string) string { return full("  backends:\n  - " + b) }

	two := func(prefer string) string {
		return "- host: a.example.com\n  backends: [{cluster: b, namespace: n, service: s, port: p},\n    {cluster: c, namespace: n, service: s, port: p}]\n  prefer: " + prefer
	}

	for _, c := range []struct{ name, route, want string }{
		{"no host", `- {backends: [` + backend + `]}`, `3: routes[1].host: is missing`},
		{"empty host", `- {host: "", backends: [` + backend + `]}`, `3: routes[1].host: is empty`},
		{"null host", `- {host: , backends: [` + backend + `]}`, `3: routes[1].host: must be a string, not nothing`},
		{"host is a number", `- {host: 1.5, backends: [` + backend + `]}`, `3: routes[1].host: must be a string, not the number "1.5"; put quotes around it`},
		{"host is an address", `- {host: 10.0.0.1, backends: [` + backend + `]}`, `3: routes[1].host: "10.0.0.1" is not a host name: IP address at byte 0`},
		{"route is text", `- nonsense`, `3: routes[1]: must be a mapping, not the string "nonsense"`},
		{"route is null", `-`, `3: routes[1]: must be a mapping, not nothing`},
		{"unknown field", with("  exakt: true"), `4: routes[1].exakt: unknown field, did you mean exact?`},
		{"unknown field, other case", with("  Path: /a"), `4: routes[1].Path: unknown field, did you mean path?`},
		{"unknown field, longer", with("  hostname: a"), `4: routes[1].hostname: unknown field, did you mean host?`},
		{"unknown field, nothing near", with("  colour: red"), `4: routes[1].colour: unknown field; known here: host, path, exact, backends, check, protocol, limits, timeouts, shift, prefer`},
		{"unknown field, odd key", with("  \"a\\nb\": red"), `4: routes[1]."a\nb": unknown field; known here: host, path, exact, backends, check, protocol, limits, timeouts, shift, prefer`},
		{"unknown field, no scalar", with("  ? [a]\n  : red"), `4: routes[1]: has a key that must be the name of a field, not a list`},
		{"key is nothing", with("  ? "), `4: routes[1]: has a key that must be the name of a field, not nothing`},
		{"x- below the top", with("  x-note: red"), `4: routes[1].x-note: unknown field; known here: host, path, exact, backends, check, protocol, limits, timeouts, shift, prefer`},
		{"merge key", with("  <<: {path: /a}"), `4: routes[1]."<<": merge keys are not supported; repeat the fields, or alias whole values`},
		{"field twice", with("  path: /a\n  path: /b"), `5: routes[1].path: is given twice`},
		{"path is a list", with("  path: [/a]"), `4: routes[1].path: must be a string, not a list`},
		{"long value", with("  path: " + strings.Repeat("x", 100)), `4: routes[1].path: "` + strings.Repeat("x", 64) + `"… must begin with "/"`},
		{"path relative", with("  path: a"), `4: routes[1].path: "a" must begin with "/"`},
		{"path is a glob", with("  path: /a/*"), `4: routes[1].path: "/a/*" has a "*", but paths are no patterns: /a covers itself and all below it, unless it is exact`},
		{"exact is text", with("  exact: yes"), `4: routes[1].exact: must be true or false, not the string "yes"`},
		{"no backends", full("  path: /a"), `3: routes[1].backends: is missing or empty: nothing would serve the route`},
		{"empty backends", full("  backends: []"), `4: routes[1].backends: is missing or empty: nothing would serve the route`},
		{"backends is a mapping", full("  backends: " + backend), `4: routes[1].backends: must be a list, not a mapping`},
		{"too many backends", full("  backends:\n" + strings.Repeat("  - "+backend+"\n", 65)), `5: routes[1].backends: has 65 entries; at most 64 are allowed`},
		{"prot", back("{cluster: c, namespace: n, service: s, prot: http}"), "5: routes[1].backends[0].prot: unknown field, did you mean port?\n5: routes[1].backends[0].port: is missing"},
		{"no cluster", back("{namespace: n, service: s, port: http}"), `5: routes[1].backends[0].cluster: is missing`},
		{"upper-case cluster", back("{cluster: EU, namespace: n, service: s, port: http}"), `5: routes[1].backends[0].cluster: "EU" must begin and end with a lower-case letter or a digit`},
		{"path that HAProxy refuses", with("  path: /a/..;x"), `4: routes[1].path: "/a/..;x" has a segment that some servers read as "." or "..", so HAProxy answers 400`},
		{"path with a dot segment encoded twice", with("  path: /%252e%252e"), `4: routes[1].path: "/%252e%252e" has a segment that some servers read as "." or "..", so HAProxy answers 400`},
		{"namespace with a dot", back("{cluster: c, namespace: n.m, service: s, port: http}"), `5: routes[1].backends[0].namespace: "n.m" may have lower-case letters, digits and hyphens`},
		{"service ends in a hyphen", back("{cluster: c, namespace: n, service: s-, port: http}"), `5: routes[1].backends[0].service: "s-" must begin and end with a lower-case letter or a digit`},
		{"long service", back("{cluster: c, namespace: n, service: " + strings.Repeat("s", 64) + ", port: http}"), `5: routes[1].backends[0].service: "` + strings.Repeat("s", 64) + `" is longer than 63 bytes`},
		{"port 0", back("{cluster: c, namespace: n, service: s, port: 0}"), `5: routes[1].backends[0].port: "0" must be a number from 1 to 65535, or the name of a service port`},
		{"port too high", back("{cluster: c, namespace: n, service: s, port: 65536}"), `5: routes[1].backends[0].port: "65536" must be a number from 1 to 65535, or the name of a service port`},
		{"port hexadecimal", back("{cluster: c, namespace: n, service: s, port: 0x50}"), `5: routes[1].backends[0].port: must be the name or the number of a service port, not the number "0x50"`},
		{"port octal", back("{cluster: c, namespace: n, service: s, port: 010}"), `5: routes[1].backends[0].port: "010" must be a number from 1 to 65535, or the name of a service port`},
		{"port with underscore", back("{cluster: c, namespace: n, service: s, port: my_port}"), `5: routes[1].backends[0].port: "my_port" may have lower-case letters, digits and hyphens`},
		{"port true", back("{cluster: c, namespace: n, service: s, port: true}"), `5: routes[1].backends[0].port: must be the name or the number of a service port, not the truth value "true"`},
		{"weight negative", back("{cluster: c, namespace: n, service: s, port: p, weight: -1}"), `5: routes[1].backends[0].weight: -1 is not from 0 to 256`},
		{"weight too high", back("{cluster: c, namespace: n, service: s, port: p, weight: 257}"), `5: routes[1].backends[0].weight: 257 is not from 0 to 256`},
		{"weight fraction", back("{cluster: c, namespace: n, service: s, port: p, weight: 0.5}"), `5: routes[1].backends[0].weight: must be a whole number, not the number "0.5"`},
		{"weight text", back(`{cluster: c, namespace: n, service: s, port: p, weight: "5"}`), `5: routes[1].backends[0].weight: must be a whole number, not the string "5"`},
		{"weight beyond int", back(`{cluster: c, namespace: n, service: s, port: p, weight: 99999999999999999999}`), `5: routes[1].backends[0].weight: must be a whole number, not the number "99999999999999999999"`},
		{"same service twice", full("  backends:\n  - " + backend + "\n  - " + backend), `6: routes[1].backends[1]: eu-1/media/tracks:http is backends[0] already; give it once, with its whole weight`},
		{"prefer with one cluster", with("  prefer: [{clusters: [eu-1]}]"), `4: routes[1].prefer: needs backends in at least two clusters`},
		{"prefer is a mapping", two("{}"), `6: routes[1].prefer: must be a list, not a mapping`},
		{"prefer without clusters", two("[{region: eu}]"), `6: routes[1].prefer[0].clusters: is missing or empty`},
		{"prefer with another cluster", two("[{clusters: [b, d]}]"), `6: routes[1].prefer[0].clusters[1]: "d" is not a cluster of the backends of this route`},
		{"prefer with a cluster twice", two("[{clusters: [b, b]}]"), `6: routes[1].prefer[0].clusters[1]: "b" occurs twice`},
		{"prefer with five clusters", two("[{clusters: [b, c, d, e, f]}]"), `6: routes[1].prefer[0].clusters: has more than 4 entries`},
		{"prefer with a region twice", two("[{region: eu, clusters: [b]}, {region: eu, clusters: [c]}]"), `6: routes[1].prefer[1]: has the same region as prefer[0]`},
		{"prefer with a bad region", two("[{region: EU, clusters: [b]}]"), `6: routes[1].prefer[0].region: "EU" must begin and end with a lower-case letter or a digit`},
		{"quorum 0", two("[{quorum: 0, clusters: [b]}]"), `6: routes[1].prefer[0].quorum: must be a percentage from 1 to 100, or left out`},
		{"too many preferences", two("[" + strings.Repeat("{clusters: [b]}, ", 33) + "]"), `6: routes[1].prefer: has more than 32 entries`},
		{"check is text", with("  check: /healthz"), `4: routes[1].check: must be a mapping, not the string "/healthz"`},
		{"check path relative", with("  check:\n    path: healthz"), `5: routes[1].check.path: "healthz" must begin with "/"`},
		{"check path with a space", with("  check: {path: /a b}"), `4: routes[1].check.path: "/a b" has the character ' '; write it as requests carry it: %20`},
		{"check host without path", with("  check: {host: a.example}"), `4: routes[1].check.host: needs check.path: without a path the check sends no request`},
		{"gRPC check of HTTP/1.1", with("  check: {grpc: true}"), `4: routes[1].check.grpc: needs protocol h2c or grpc`},
		{"gRPC check with a path", with("  protocol: grpc\n  check: {grpc: true, path: /x}"), `5: routes[1].check.grpc: needs a check without a path`},
		{"check host wildcard", with("  check: {path: /, host: '*.example'}"), `4: routes[1].check.host: "*.example" is not a host name: asterisk (a wildcard is the whole first label of a declared host, as in *.example.com) at byte 0`},
		{"interval without unit", with("  check: {interval: 5}"), `4: routes[1].check.interval: "5" must be a duration with its unit, such as "30s", "1h30m" or "2d"`},
		{"interval too short", with("  check: {interval: 5ms}"), `4: routes[1].check.interval: "5ms" must be at least 100ms`},
		{"interval in microseconds", with("  check: {interval: 1s5us}"), `4: routes[1].check.interval: "1.000005s" must be whole milliseconds`},
		{"limit of 0", with("  limits: {requests: 0}"), `4: routes[1].limits.requests: must be from 1 to 10000000, or left out`},
		{"limit too large", with("  limits: {connections: 10000001}"), `4: routes[1].limits.connections: must be from 1 to 10000000, or left out`},
		{"limit of a source", with("  limits:\n    source:\n      requests: many"), `6: routes[1].limits.source.requests: must be a whole number, not the string "many"`},
		{"unknown limit", with("  limits:\n    source: {connection: 1}"), `5: routes[1].limits.source.connection: unknown field, did you mean connections?`},
		{"limits are a number", with("  limits: 5"), `4: routes[1].limits: must be a mapping, not the number "5"`},
		{"protocol", with("  protocol: http2"), `4: routes[1].protocol: "http2" must be http1, h2c or grpc; HAProxy speaks no TLS to services`},
		{"protocol in capitals", with("  protocol: GRPC"), `4: routes[1].protocol: "GRPC" must be http1, h2c or grpc; HAProxy speaks no TLS to services`},
		{"protocol is null", with("  protocol:"), `4: routes[1].protocol: must be a string, not nothing`},
		{"protocol is a list", with("  protocol: [h2c]"), `4: routes[1].protocol: must be a string, not a list`},
		{"rise 0", with("  check: {rise: 0}"), `4: routes[1].check.rise: must be from 1 to 100, or left out`},
		{"fall 101", with("  check: {fall: 101}"), `4: routes[1].check.fall: must be from 1 to 100, or left out`},
		{"timeouts null", with("  timeouts:"), `4: routes[1].timeouts: must be a mapping, not nothing`},
		{"timeout 0", with("  timeouts: {server: 0s}"), `4: routes[1].timeouts.server: "0s" must be more than nothing; without the field the default holds`},
		{"timeout negative", with("  timeouts: {server: -1s}"), `4: routes[1].timeouts.server: "-1s" must be a duration with its unit, such as "30s", "1h30m" or "2d"`},
		{"timeout too long", with("  timeouts: {tunnel: 25d}"), `4: routes[1].timeouts.tunnel: "600h0m0s" must be at most 2147483647ms, the longest that HAProxy counts`},
		{"timeout list", with("  timeouts: {tunnel: [1s]}"), `4: routes[1].timeouts.tunnel: must be a duration, not a list`},
		{"unknown timeout", with("  timeouts: {tunel: 1s}"), `4: routes[1].timeouts.tunel: unknown field, did you mean tunnel?`},
		{"custom tag", with("  path: !custom /a"), `4: routes[1].path: must be a string, not "/a" of type "!custom"; put quotes around it`},
		{
			"several at once", "- host: -a\n  path: b\n  backends:\n  - {cluster: c, namespace: n, service: s, port: 0}",
			"3: routes[1].host: \"-a\" is not a host name: hyphen at the start of a label at byte 0\n" +
				"4: routes[1].path: \"b\" must begin with \"/\"\n" +
				"6: routes[1].backends[0].port: \"0\" must be a number from 1 to 65535, or the name of a service port",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			table, problems := Parse("f.yaml", []byte(before+c.route+after))
			require.Equal(t, []string{"first.example.com", "last.example.com"}, table.Hosts())
			require.Len(t, table.routes, 2)
			var got []string
			for _, p := range problems {
				got = append(got, strings.TrimPrefix(p.Error(), "f.yaml:"))
			}
			require.Equal(t, c.want, strings.Join(got, "\n"))
		})
	}
}

func TestParseConflicts(t *testing.T) {
	route := func(rest string) string { return "- {" + rest + ", backends: [" + backend + "]}\n" }
	other := "- {host: a.example, path: /x, backends: [{cluster: us-1, namespace: n, service: s, port: p}]}\n"
	two := func(fields string) string {
		return "- {host: a.example, " + fields + "backends: [" + backend + ", {cluster: us-1, namespace: n, service: s, port: p}]}\n"
	}
	for _, c := range []struct{ name, data, want string }{
		{"alike", route("host: a.example, path: /x") + route("host: A.Example., path: /x/"), `f:3: routes[1]: a.example/x is declared alike at f:2, which stands; this one is left out`},
		{"differently", route("host: a.example, path: /x") + other, `f:3: routes[1]: a.example/x is declared differently at f:2, which stands; this one is left out`},
		{"other check", route("host: a.example, check: {}") + route("host: a.example"), `f:3: routes[1]: a.example/ is declared differently at f:2, which stands; this one is left out`},
		{"other limits", route("host: a.example, limits: {requests: 1}") + route("host: a.example"), `f:3: routes[1]: a.example/ is declared differently at f:2, which stands; this one is left out`},
		{"other protocol", route("host: a.example, protocol: h2c") + route("host: a.example, protocol: grpc"), `f:3: routes[1]: a.example/ is declared differently at f:2, which stands; this one is left out`},
		{"other shift", two("") + two("shift: true, "), `f:3: routes[1]: a.example/ is declared differently at f:2, which stands; this one is left out`},
		{"default protocol", route("host: a.example, protocol: http1") + route("host: a.example"), `f:3: routes[1]: a.example/ is declared alike at f:2, which stands; this one is left out`},
		{"same check", route("host: a.example, check: {rise: 2}") + route("host: a.example, check: {rise: 2}"), `f:3: routes[1]: a.example/ is declared alike at f:2, which stands; this one is left out`},
		{"exact twice", route("host: a.example, exact: true") + route("host: a.example, exact: true"), `f:3: routes[1]: a.example/ (exact) is declared alike at f:2, which stands; this one is left out`},
		{"exact and prefix", route("host: a.example, exact: true") + route("host: a.example"), ``},
		{"exact with and without slash", route("host: a.example, path: /x, exact: true") + route("host: a.example, path: /x/, exact: true"), ``},
		{"wildcard and name", route("host: '*.example'") + route("host: a.example"), ``},
		{"bad first", route("host: a.example, path: /x, exakt: 1") + other, `f:2: routes[0].exakt: unknown field, did you mean exact?`},
		{"across documents", route("host: a.example, path: /x") + "---\nroutes:\n" + other, `f:5: routes[0]: a.example/x is declared differently at f:2, which stands; this one is left out`},
	} {
		t.Run(c.name, func(t *testing.T) {
			table, problems := Parse("f", []byte("routes:\n"+c.data))
			if c.want == "" {
				require.Empty(t, problems)
				require.Len(t, table.routes, 2)
				return
			}
			require.Len(t, problems, 1)
			require.Equal(t, c.want, problems[0].Error())
			require.Len(t, table.routes, 1)
		})
	}
}

func TestParseDocuments(t *testing.T) {
	list := "routes: [{host: a.example, backends: [" + backend + "]}]\n"
	for _, c := range []struct {
		name, data string
		routes     int
		want       string
	}{
		{"one", list, 1, ""},
		{"empty table", "routes: []", 0, ""},
		{"all commented out", "routes:\n# - host: a.example\n", 0, ""},
		{"several, some empty", "---\n" + list + "---\n# nothing\n---\nroutes: []\n", 1, ""},
		{"byte order mark", "\uFEFF" + list, 1, ""},
		{"DOS lines", strings.ReplaceAll(list, "\n", "\r\n"), 1, ""},
		{"anchors", "x-all: &all [" + backend + "]\nroutes:\n- {host: a.example, backends: *all}\n- {host: b.example, backends: *all}\n", 2, ""},
		{"alias of a value", "routes:\n- {host: &h a.example, backends: &b [" + backend + "]}\n- {host: *h, path: /b, backends: *b}\n", 2, ""},
		{
			"fault behind an alias", "x-all: &all\n- {cluster: c}\nroutes: [{host: a.example, backends: *all}]\n", 0,
			"f:2: routes[0].backends[0].namespace: is missing\nf:2: routes[0].backends[0].service: is missing\nf:2: routes[0].backends[0].port: is missing",
		},
		{"JSON", "{\n\t\"routes\": [\n\t\t{\"host\": \"a.example\", \"path\": \"\\/b\", \"exact\": true, \"backends\": [\n" +
			"\t\t\t{\"cluster\": \"c\", \"namespace\": \"n\", \"service\": \"s\", \"port\": 80, \"weight\": 5}]}]}", 1, ""},
		{
			"JSON problem", "{\n\t\"routes\": [\n\t\t{\"host\": \"\\ud83d\\ude00:x\", \"backends\": null,\n\"exact\": 1, \"path\": 1.5}]}", 0,
			"f:3: routes[0].backends: must be a list, not nothing\nf:3: routes[0].host: \"😀:x\" is not a host name: port that is not a number at byte 5\n" +
				"f:4: routes[0].exact: must be true or false, not the number \"1\"\nf:4: routes[0].path: must be a string, not the number \"1.5\"; put quotes around it",
		},
		{"flow that is not JSON", "{routes: [{host: a.example, backends: [" + backend + "]}]}", 1, ""},
		{"empty", "", 0, "f:1: the file is empty; an intended empty table says routes: []; nothing of this file is used"},
		{"comments alone", "# nothing\n---\n", 0, "f:1: the file is empty; an intended empty table says routes: []; nothing of this file is used"},
		{"list at the top", "\n- host: a.example", 0, `f:2: must be a mapping; put the list under "routes:"`},
		{"text", "hello", 0, `f:1: must be a mapping, not the string "hello"`},
		{"no routes", "x-a: 1\n", 0, "f:1: routes: is missing; an intended empty table says routes: []"},
		{"misspelt", "route:\n- {}\n", 0, "f:1: route: unknown field, did you mean routes?\nf:1: routes: is missing; an intended empty table says routes: []"},
		{"routes is a mapping", "routes:\n  host: a\n", 0, "f:2: routes: must be a list, not a mapping"},
		{"further key", "version: 1\n" + list, 1, "f:1: version: unknown field; known here: routes"},
		{"anchor within itself", "routes: &r [*r]\n", 0, "f:1: routes[0]: must be a mapping, not a list"},
	} {
		t.Run(c.name, func(t *testing.T) {
			table, problems := Parse("f", []byte(c.data))
			var got []string
			for _, p := range problems {
				got = append(got, p.Error())
			}
			require.Equal(t, c.want, strings.Join(got, "\n"))
			require.Len(t, table.routes, c.routes)
		})
	}
}

// TestParseSyntax: Parse keeps the routes around a fault of syntax, and reports the line at which a
// reader finds the fault.
func TestParseSyntax(t *testing.T) {
	good := "routes:\n- {host: a.example, backends: [" + backend + "]}\n" // two lines
	for _, c := range []struct {
		name, data string
		line       int
		text       string
	}{
		{"two colons", good + "a: b: c\n", 3, "mapping values are not allowed in this context"},
		{"first line", "a: b: c\n", 1, "mapping values are not allowed in this context"},
		{"indentation", "routes:\n  - a\n b: 1\n", 3, "did not find expected key"},
		{"list among keys", good + "x-a: 1\n- c: 1\nx-b: 1\nx-c: 1\n", 4, "did not find expected"},
		{"text among items", "x-a: 1\nroutes:\n" + strings.Repeat("- a: 1\n", 100) + " x: y\n" + strings.Repeat("- a: 1\n", 100), 103, "did not find expected '-' indicator"},
		{"key among items", "routes:\n" + strings.Repeat("  - a: 1\n", 100) + "  x: y\n" + strings.Repeat("  - a: 1\n", 100), 102, "did not find expected '-' indicator"},
		{"open list", "routes:\n- [1,\n2\n\n", 2, "did not find expected ',' or ']'"},
		{"open quote", good + "x-a: \"b\n", 3, "unexpected end of stream"},
		{"tab", "routes:\n\t- a\n", 2, "found character that cannot start any token"},
		{"unknown anchor", good + "\nx-a: *b\n", 4, "unknown anchor 'b' referenced"},
		{"second document", good + "---\na: b: c\n", 4, "mapping values are not allowed in this context"},
		{"not UTF-8", good + "\n# \xff\n", 4, "the byte 0xff is not UTF-8"},
		{"control character", good + "x-a: \"\x01\"\n", 3, `the character '\x01' may not stand in a file`},
		{"carriage return alone", good + "# a\r- b\n", 3, `the character '\r' may not stand in a file`},
		{"carriage return at the end", good + "# a\r", 3, `the character '\r' may not stand in a file`},
		{"next line", good + "# a\u0085- b\n", 3, `the character '\u0085' may not stand in a file`},
		{"line separator", good + "# a\u2028- b\n", 3, `the character '\u2028' may not stand in a file`},
		{"paragraph separator", good + "# a\u2029- b\n", 3, `the character '\u2029' may not stand in a file`},
		{"UTF-16", "\xfe\xff\x00a", 1, "the byte 0xfe is not UTF-8"},
		{"deep", strings.Repeat("[", 10_002), 1, "exceeded max depth"},
		{"broken JSON", "{\"routes\": [\n{\"host\": \"a.example\" \"path\": \"/\"}\n]}", 2, "did not find expected ',' or '}'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			table, problems := Parse("f", []byte(c.data))
			if strings.HasPrefix(c.data, good) {
				require.Equal(t, []string{"a.example"}, table.Hosts())
			} else {
				require.Empty(t, table.routes)
			}
			i := slices.IndexFunc(problems, func(p Problem) bool { return strings.Contains(p.Message, c.text) })
			require.GreaterOrEqual(t, i, 0, problems)
			require.Equal(t, c.line, problems[i].Line, problems[i].Message)
			if table.routes == nil && len(problems) == 1 {
				require.Contains(t, problems[0].Message, "; nothing of this file is used")
			} else {
				require.NotEmpty(t, problems[i].Field)
			}
		})
	}
}

func TestParseBounds(t *testing.T) {
	t.Run("file size", func(t *testing.T) {
		data := make([]byte, MaxFileBytes+1)
		table, problems := Parse("f", data)
		require.Empty(t, table.routes)
		require.Equal(t, "f:1: the file has 16777217 bytes, more than 16777216; nothing of this file is used", problems[0].Error())
	})
	t.Run("routes", func(t *testing.T) {
		data := "routes:\n"
		for i := range 5 {
			data += fmt.Sprintf("- {host: h%d.example, backends: [%s]}\n", i, backend)
		}
		roots, syntax := documents([]byte(data))
		require.Nil(t, syntax)
		var got []string
		d := decoder{file: "f", budget: 1000, limit: 3, report: func(line int, field, message string) {
			got = append(got, Problem{"f", line, field, message}.Error())
		}}
		d.document(roots[0])
		require.Len(t, d.declarations, 3)
		require.Equal(t, []string{"f:5: routes[3]: " + tooManyRoutes}, got)

		entries := make([]declaration, MaxRoutes+2)
		for i := range entries {
			entries[i] = declaration{Route{Host: fmt.Sprint(i), Position: Position{"f", i + 1}}, "routes"}
		}
		table, problems := build(entries, MaxRoutes)
		require.Len(t, table.routes, MaxRoutes)
		require.Equal(t, []string{"f:100001: routes: there are more than 100000 routes; this one and all after it are left out"}, lines(problems))

		// The routes of one file do not count for the limit of another file.
		other, _ := build([]declaration{{Route{Host: "other.example"}, "routes"}}, MaxRoutes)
		merged, problems := Merge(table, other)
		require.Empty(t, problems)
		require.Len(t, merged.routes, MaxRoutes+1)
	})
	t.Run("problems", func(t *testing.T) {
		_, problems := Parse("f", []byte("routes:\n"+strings.Repeat("- x\n", 10_001)))
		require.Len(t, problems, maxProblems)
		require.Equal(t, "f:10001: routes: there are further problems, which are not listed", problems[maxProblems-1].Error())
	})
	t.Run("alias bomb", func(t *testing.T) {
		// The file has 9 KB. Its aliases repeat a route of 60 backends 1,000 times: 300,000 fields.
		var b strings.Builder
		b.WriteString("x-b: &b\n" + strings.Repeat("- "+backend+"\n", 60))
		b.WriteString("x-r: &r {host: a.example, backends: *b}\nroutes:\n")
		b.WriteString(strings.Repeat("- *r\n", 1000))
		d := decoder{file: "f", budget: 1 << 14, limit: MaxRoutes}
		roots, syntax := documents([]byte(b.String()))
		require.Nil(t, syntax)
		last := ""
		d.report = func(_ int, _, message string) { last = message }
		d.document(roots[0])
		require.Contains(t, last, "aliases repeat too much")
		require.LessOrEqual(t, d.budget, 0)
		require.Greater(t, d.budget, -1000, "stops soon after the budget is spent")
	})
	t.Run("spent budget keeps no half-read route", func(t *testing.T) {
		data := []byte("routes:\n- {host: a.example, backends: [" + backend + "], exact: true}\n")
		roots, syntax := documents(data)
		require.Nil(t, syntax)
		for budget := 1; ; budget++ {
			d := decoder{file: "f", budget: budget, limit: 1, report: func(int, string, string) {}}
			d.document(roots[0])
			if len(d.declarations) == 0 {
				require.Less(t, budget, 50)
				continue
			}
			require.True(t, d.declarations[0].Exact)
			break
		}
	})
}
