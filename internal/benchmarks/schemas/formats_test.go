package schemas

import (
	"errors"
	"reflect"
	"regexp"
	"strings"
	"unicode"

	"github.com/headgate/headgate/haproxycfg/controller/drill"
	"github.com/headgate/headgate/haproxycfg/frontproxy"
	"github.com/headgate/headgate/haproxycfg/frontproxy/policy"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/sniproxy/hostlookup"
)

// format is a kind of file that users write.
type format struct {
	name   string
	schema string // the path of its schema in the repository
	json   bool   // the file is JSON, not YAML
	// parse returns what the parser refuses in a file.
	parse func(data []byte) (faults []string)
	// keys returns the path of each key that the parser reads, such as "routes[].host".
	keys func() []string
	// good are files that the parser accepts. Together they have all keys.
	good []string
	// bad are files that the parser and the schema refuse.
	bad []string
	// beyond are the rules that the schema cannot express.
	beyond []beyond
}

// beyond is a rule of a parser that its schema cannot express.
type beyond struct {
	message *regexp.Regexp // matches the messages of the parser
	reason  string
	example string // a file that only the parser refuses
}

func rule(message, reason, example string) beyond {
	return beyond{regexp.MustCompile(message), reason, example}
}

// route returns a file with one route and these further fields.
func route(fields string) string {
	return "routes: [{host: a.example, backends: [{cluster: c, namespace: n, service: s, port: http}], " + fields + "}]"
}

// backend returns a file with one route and these fields of its backend.
func backend(fields string) string {
	return "routes: [{host: a.example, backends: [{cluster: c, namespace: n, " + fields + "}]}]"
}

// twoClusters returns a file with one route, whose backends are in the clusters b and c, and these
// further fields.
func twoClusters(fields string) string {
	return "routes: [{host: a.example, backends: [{cluster: b, namespace: n, service: s, port: http}, {cluster: c, namespace: n, service: s, port: http}], " + fields + "}]"
}

const (
	spelling = "a schema sees a value, and not how the file spells it"
	compares = "a schema does not compare the values of two fields or entries"
	computes = "a pattern does not compute the length of a time"
	idna     = "a pattern cannot apply IDNA, or add the lengths of labels"
)

var formats = []format{
	{
		name:   "routes",
		schema: "haproxycfg/routes/routes.schema.json",
		parse: func(data []byte) (faults []string) {
			_, problems := routes.Parse("f.yaml", data)
			for _, p := range problems {
				faults = append(faults, p.Error())
			}
			return faults
		},
		keys: func() []string {
			return keysOfParser(func(data []byte) []routes.Problem {
				_, problems := routes.Parse("f.yaml", data)
				return problems
			})
		},
		good: []string{`
x-anchors: {}
routes:
- host: "*.example.com"
  path: /tracks
  exact: true
  backends:
  - {cluster: eu-1, namespace: media, service: tracks, port: http, weight: 100}
  - {cluster: eu-2, namespace: media, service: tracks, port: 80, weight: 50}
  check: {path: /healthz, host: tracks.internal, interval: 2s, rise: 2, fall: 3}
  protocol: h2c
  limits: {requests: 400, connections: 300, source: {requests: 50, connections: 20}}
  timeouts: {server: 15s, tunnel: 1h}
  shift: true
  prefer:
  - {region: eu, clusters: [eu-1, eu-2], quorum: 60}
  - {clusters: [eu-2]}
`, `
routes:
- host: api.example.com
  backends: [{cluster: eu-1, namespace: media, service: api, port: http}]
  check: {grpc: true, interval: 500ms}
  protocol: grpc
`},
		bad: []string{
			"[]",
			"{}",
			"routes: {}",
			"routes: [1]",
			"hosts: []",
			"routes: [{}]",
			"routes: [{host: a.example}]",
			"routes: [{host: a.example, backends: []}]",
			"routes: [{host: a.example, backends: [{cluster: c, namespace: n, service: s}]}]",
			"routes: [{host: a.example, backends: [{cluster: c, namespace: n, service: s, port: http, wieght: 1}]}]",
			"routes: [{host: a.example, backends: [{cluster: c, namespace: n, service: s, port: http, weight: 257}]}]",
			"routes: [{host: a.example, backends: [{cluster: c, namespace: n, service: s, port: [http]}]}]",
			"routes: [{host: 'https://a.example', backends: [{cluster: c, namespace: n, service: s, port: http}]}]",
			"routes: [{host: 10.0.0.1, backends: [{cluster: c, namespace: n, service: s, port: http}]}]",
			"routes: [{host: a.example, path: a, backends: [{cluster: c, namespace: n, service: s, port: http}]}]",
			"routes: [{host: a.example, path: '/a?b', backends: [{cluster: c, namespace: n, service: s, port: http}]}]",
			"routes: [{host: a.example, exact: 'true', backends: [{cluster: c, namespace: n, service: s, port: http}]}]",
			"routes: [{host: a.example, protocol: tls, backends: [{cluster: c, namespace: n, service: s, port: http}]}]",
			"routes: [{host: a.example, timeouts: {server: 15}, backends: [{cluster: c, namespace: n, service: s, port: http}]}]",
			twoClusters("prefer: {}"),
			twoClusters("prefer: [{region: eu}]"),
			twoClusters("prefer: [{clusters: []}]"),
			twoClusters("prefer: [{clusters: [b, b]}]"),
			twoClusters("prefer: [{clusters: [b], region: EU}]"),
			twoClusters("prefer: [{clusters: [b], quorum: 0}]"),
			twoClusters("prefer: [{clusters: [b], quorum: 101}]"),
			twoClusters("prefer: [{clusters: [b], region: ''}]"),
			"routes: [{host: a.example, limits: {requests: 0}, backends: [{cluster: c, namespace: n, service: s, port: http}]}]",
			"routes: [{host: a.example, check: {host: a}, backends: [{cluster: c, namespace: n, service: s, port: http}]}]",
			"routes: [{host: a.example, check: {grpc: true}, backends: [{cluster: c, namespace: n, service: s, port: http}]}]",
			"routes: [{host: a.example, protocol: grpc, check: {grpc: true, path: /}, backends: [{cluster: c, namespace: n, service: s, port: http}]}]",
		},
		beyond: []beyond{
			rule(`is not a cluster of the backends of this route`, compares, twoClusters("prefer: [{clusters: [d]}]")),
			rule(`has the same region as prefer\[0\]`, compares, twoClusters("prefer: [{clusters: [c]}, {clusters: [b]}]")),
			rule(`the file is empty`, "other documents of the file may have routes", "# nothing\n---\n"),
			rule(`must be a whole number, not the number`, spelling, route("limits: {requests: 0x10}")),
			rule(`must be the name or the number of a service port, not`, spelling, backend("service: s, port: 0x50")),
			rule(`must be a string, not .* of type`, spelling, backend("service: 2001-01-01, port: http")),
			rule(`must be a number from 1 to 65535, or the name of`, "a pattern does not compare numbers", backend("service: s, port: '65536'")),
			rule(`is not a host name: `, idna, "routes: [{host: ü..example, backends: [{cluster: c, namespace: n, service: s, port: http}]}]"),
			rule(`has a segment that some servers read as`, "a pattern cannot decode a text again and again", route("path: /%252e%252e")),
			rule(`must be whole milliseconds`, computes, route("timeouts: {server: 1.5ms}")),
			rule(`must be at least 100ms`, computes, route("check: {interval: 99ms}")),
			rule(`must be at most .*, the longest that HAProxy counts`, computes, route("timeouts: {server: 25d}")),
			rule(`must be more than nothing`, computes, route("timeouts: {server: 0.0000001ns}")),
			rule(`must be a duration with its unit`, computes, route("timeouts: {server: 99999999999999999999s}")),
			rule(`needs backends in at least two clusters`, compares, route("shift: true")),
			rule(`is declared (alike|differently) at`, compares, "routes: [{host: a.example, backends: [&b {cluster: c, namespace: n, service: s, port: http}]}, {host: A.example, backends: [*b]}]"),
			rule(`is backends\[0\] already`, compares, "routes: [{host: a.example, backends: [{cluster: c, namespace: n, service: s, port: http}, {cluster: c, namespace: n, service: s, port: http, weight: 5}]}]"),
		},
	},
	{
		name:   "regions",
		schema: "haproxycfg/routes/regions.schema.json",
		parse: func(data []byte) (faults []string) {
			for _, p := range problemsOfRegions(data) {
				faults = append(faults, p.Error())
			}
			return faults
		},
		keys: func() []string { return keysOfParser(problemsOfRegions) },
		good: []string{`
x-anchors: {}
header: CloudFront-Viewer-Country
regions:
- name: eu
  networks: [192.0.2.0/24, "2001:db8::/32"]
  values: [DE, FR]
- {name: us}
`, "regions:\n", "regions: []\n"},
		bad: []string{
			"[]",
			"{}",
			"regions: {}",
			"regions: [eu]",
			"region: []",
			"regions: [{}]",
			"regions: [{name: EU}]",
			"regions: [{name: eu, network: []}]",
			"regions: [{name: eu, networks: 192.0.2.0/24}]",
			"regions: [{name: eu, networks: [192.0.2.1]}]",
			"regions: [{name: eu, networks: [1]}]",
			"header: x\nregions: [{name: eu, values: ['a b']}]",
			"header: x_y\nregions: []",
			"header: []\nregions: []",
		},
		beyond: []beyond{
			rule(`must be a string, not .* of type`, spelling, "regions: [{name: 2001-01-01}]"),
			rule(`must be a string, not the number "[.](inf|nan)"`, spelling, "header: x\nregions: [{name: eu, values: [.inf]}]"),
			rule(`is not a network such as`, "a pattern for all forms of IP addresses would be too long", "regions: [{name: eu, networks: [192.0.2.0/33]}]"),
			rule(`has bits after its prefix`, "a pattern does not compute with addresses", "regions: [{name: eu, networks: [192.0.2.1/24]}]"),
			rule(`is an IPv4 network in IPv6 form`, "a pattern does not compute with addresses", "regions: [{name: eu, networks: ['::ffff:192.0.2.0/120']}]"),
			rule(`is a network of the region`, compares, "regions: [{name: eu, networks: [192.0.2.0/24]}, {name: us, networks: [192.0.2.0/24]}]"),
			rule(`is a value of the region`, compares, "header: x\nregions: [{name: eu, values: [DE]}, {name: us, values: [de]}]"),
			rule(`is the region in line`, compares, "regions: [{name: eu}, {name: eu}]"),
			rule(`is missing or wrong, so the values`, compares, "regions: [{name: eu, values: [DE]}]"),
			rule(`has another meaning`, "a pattern for these names in all spellings would be too long", "header: Host\nregions: []"),
		},
	},
	{
		name:   "policy",
		schema: "haproxycfg/frontproxy/policy/policy.schema.json",
		parse: func(data []byte) []string {
			_, err := policy.Parse("f.yaml", data)
			return messages(err)
		},
		keys: func() []string {
			return keysOfType(reflect.TypeFor[frontproxy.Settings](), "", func(f reflect.StructField) string {
				if f.Name == "RetryPercent" {
					return "retryBudget"
				}
				return lowerFirst(f.Name)
			})
		},
		good: []string{`
protocol: grpc
balance: random
connect: 300ms
server: 1m30s
keepAlive: 2m
retries: 1
retryOn: [conn-failure, "503", 504]
retryBudget: 10%
retriesPerSecond: 5
ejectErrors: 4
ejectTime: 12s
healthPath: /healthz
healthHost: web
panicBelow: 50%
overprovision: 120%
noSpill: true
perPod: 32
pending: 100
queueTime: 1s
reuse: safe
poolPurge: 2s
slowStart: 20s
closeOneIn: 100
http2Requests: 5000
limits:
  requests: 400
  connections: 300
  source: {requests: 50, connections: 20}
accessLog: true
traceSample: 0.5%
replaceForwarded: true
grace: 10s
hardStop: 1m
`, "noPool: true\nretries: off\nretryBudget: off\nretriesPerSecond: off\ntraceSample: off\ngrace: off\n", "pending: off\npanicBelow: off\nejectErrors: off\ncloseOneIn: off\nslowStart: 0\n"},
		bad: []string{
			"- 1",
			"retrys: 2",
			"retries: many",
			"retries: -1",
			"retries: '1'",
			"retries: 101",
			"server: 5",
			"server: 0s",
			"server: [5s]",
			"panicBelow: 25",
			"panicBelow: 101%",
			"retryBudget: 0%",
			"overprovision: 99%",
			"traceSample: 0.123%",
			"perPod: 1\npending: 0",
			"healthPath: healthz",
			"healthPath: ''",
			"retryOn: []",
			"retryOn: [all]",
			"retryOn: ['503', '503']",
			"balance: source",
			"noSpill: yes",
			"limits: 5",
			"limits: {source: {reqs: 1}}",
			"limits:",
		},
		beyond: []beyond{
			rule(`must be a whole number from`, spelling, "retries: 0x10"),
			rule(`must be true or false`, spelling, "noSpill: True"),
			rule(`must be a non-empty string`, spelling, "healthPath: /\nhealthHost: 2001-01-01"),
			rule(`each entry must be one of`, spelling, "retryOn: [0x1f6]"),
			rule(`is not whole milliseconds`, computes, "server: 10ns"),
			rule(`is longer than 24 days`, computes, "server: 600h"),
			rule(`is shorter than 30ms`, computes, "ejectTime: 29ms"),
			rule(`must be a time with a unit`, computes, "server: 99999999999999999999s"),
			rule(`must be longer than 0`, computes, "server: 0.0000001ns"),
			rule(`Retries allows no further attempt|RetryPercent sets no limit`, compares, "retries: off\nretryBudget: 5%"),
			rule(`EjectErrors ejects no pods`, compares, "ejectErrors: off\npanicBelow: 5%"),
			rule(`HealthPath is empty`, compares, "healthHost: web"),
			rule(`no request waits, because PerPod is 0`, compares, "pending: 5"),
			rule(`NoPool keeps no idle connections`, compares, "noPool: true\npoolPurge: 1s"),
			rule(`is not longer than Grace`, compares, "grace: 40s"),
			rule(`"503" occurs twice`, compares, "retryOn: [503, '503']"),
		},
	},
	{
		name:   "drill",
		schema: "haproxycfg/controller/drill/policy.schema.json",
		parse: func(data []byte) []string {
			_, err := drill.ParsePolicy("f.yaml", data, drill.DefaultLimits)
			return messages(err)
		},
		keys: func() []string {
			limits := keysOfType(reflect.TypeFor[drill.Limits](), "", func(f reflect.StructField) string { return kebab(f.Name) })
			keys := []string{"all", "drills"}
			for _, key := range limits {
				keys = append(keys, "all."+key, "drills.*."+key)
			}
			return keys
		},
		good: []string{`
all:
  min-servers: 50%
  max-below: 10s
  max-refusals: 0
  max-reloads: off
drills:
  zone eu-1a: {min-servers: 0.5%, max-below: 1m, max-refusals: 1, max-reloads: "20"}
`, "all:\ndrills:\n"},
		bad: []string{
			"[]",
			"every: {}",
			"all: 5",
			"all: {min-server: 50%}",
			"all: {min-servers: 50}",
			"all: {min-servers: 101%}",
			"all: {max-below: 10}",
			"all: {max-refusals: -1}",
			"all: {max-reloads: none}",
			"drills: [zone]",
			"drills: {zone: {max-reloads: 1.5}}",
		},
		beyond: []beyond{
			rule(`must be a whole number, or off`, spelling, "all: {max-reloads: 0x10}"),
			rule(`must be a time with a unit`, computes, "all: {max-below: 9999999999h}"),
		},
	},
	{
		name:   "hosts",
		schema: "sniproxy/hostlookup/hosts.schema.json",
		json:   true,
		parse: func(data []byte) (faults []string) {
			_, problems, err := hostlookup.ParseHosts("f.json", data)
			for _, p := range problems {
				faults = append(faults, p.Error())
			}
			return append(faults, messages(err)...)
		},
		keys: func() []string {
			return keysOfType(reflect.TypeFor[hostlookup.Endpoint](), "[].", func(f reflect.StructField) string {
				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				return name
			})
		},
		good: []string{
			`[{"app": "shop", "host": "*.example.com", "endpoint": "10.0.0.24:8443"}, {"app": null, "host": "api.example.com", "endpoint": "eu-1.example.net", "note": 5}]`,
		},
		bad: []string{
			`{}`,
			`["api.example.com"]`,
			`[{"host": "api.example.com"}]`,
			`[{"endpoint": "10.0.0.1"}]`,
			`[{"Host": "api.example.com", "endpoint": "10.0.0.1"}]`,
			`[{"host": 5, "endpoint": "10.0.0.1"}]`,
			`[{"host": "api.example.com", "endpoint": null}]`,
			`[{"app": 5, "host": "api.example.com", "endpoint": "10.0.0.1"}]`,
			`[{"host": "*", "endpoint": "10.0.0.1"}]`,
			`[{"host": "api.example.com", "endpoint": "http://10.0.0.1"}]`,
			`[{"host": "api.example.com", "endpoint": "0.0.0.0"}]`,
		},
		beyond: []beyond{
			rule(`host: .*: `, idna, `[{"host": "ü..example", "endpoint": "10.0.0.1"}]`),
			rule(`is there already`, compares, `[{"host": "a.example", "endpoint": "10.0.0.1"}, {"host": "A.example", "endpoint": "10.0.0.1"}]`),
			rule(`endpoint: .*: `, "a pattern for all forms of IP addresses would be too long, and IDNA", `[{"host": "a.example", "endpoint": "256.0.0.1"}]`),
		},
	},
}

// messages returns the messages of an error that may join several errors.
func messages(err error) []string {
	var joined interface{ Unwrap() []error }
	switch {
	case err == nil:
		return nil
	case errors.As(err, &joined):
		var all []string
		for _, e := range joined.Unwrap() {
			all = append(all, e.Error())
		}
		return all
	}
	return []string{err.Error()}
}

// keysOfType returns the paths of the fields of a struct. The fields of an embedded struct count as
// fields of the outer struct.
func keysOfType(t reflect.Type, at string, name func(reflect.StructField) string) (keys []string) {
	for f := range t.Fields() {
		if f.Tag.Get("json") == "-" {
			continue
		}
		if f.Anonymous {
			keys = append(keys, keysOfType(f.Type, at, name)...)
			continue
		}
		keys = append(keys, at+name(f))
		if f.Type.Kind() == reflect.Struct {
			keys = append(keys, keysOfType(f.Type, at+name(f)+".", name)...)
		}
	}
	return keys
}

func lowerFirst(s string) string {
	if s == "HTTP2Requests" {
		return "http2Requests"
	}
	return strings.ToLower(s[:1]) + s[1:]
}

// kebab returns "MinServers" as "min-servers".
func kebab(s string) string {
	var b strings.Builder
	for i, r := range s {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

func problemsOfRegions(data []byte) []routes.Problem {
	_, problems, _ := routes.ParseRegions("f.yaml", data)
	return problems
}

// keysOfParser finds the keys with the help of error messages of a parser: its message about an
// unknown key lists the known keys, and its message about a wrong value says whether the value must
// be a mapping or a list. The function "parse" returns the problems of a file.
func keysOfParser(parse func(data []byte) []routes.Problem) (keys []string) {
	const unknown = "there-is-no-field-with-such-a-long-name"
	ask := func(path []string, value string) string {
		// {routes: [{backends: [{KEY: VALUE}]}]}
		open, end := "", ""
		for i, p := range path {
			if p == "[]" {
				open, end = open+"[", "]"+end
				continue
			}
			open += "{" + p + ": "
			if i+1 == len(path) {
				open += value
			}
			end = "}" + end
		}
		for _, p := range parse([]byte(open + end)) {
			if p.Field == strings.ReplaceAll(strings.ReplaceAll(strings.Join(path, "."), ".[]", "[]"), "[]", "[0]") {
				return p.Message
			}
		}
		return ""
	}
	var walk func(path []string)
	walk = func(path []string) {
		_, list, ok := strings.Cut(ask(append(path[:len(path):len(path)], unknown), "1"), "known here: ")
		if !ok && len(path) > 0 && path[len(path)-1] == "[]" { // a list of strings
			return
		}
		if !ok {
			panic("the parser lists no keys of " + strings.Join(path, "."))
		}
		for key := range strings.SplitSeq(list, ", ") {
			at := append(path[:len(path):len(path)], key)
			keys = append(keys, strings.ReplaceAll(strings.Join(at, "."), ".[]", "[]"))
			switch message := ask(at, "-1"); {
			case strings.HasPrefix(message, "must be a mapping"):
				walk(at)
			case strings.HasPrefix(message, "must be a list"):
				walk(append(at, "[]"))
			}
		}
	}
	walk(nil)
	return keys
}
