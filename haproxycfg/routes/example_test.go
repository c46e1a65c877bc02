package routes_test

import (
	"fmt"
	"net/netip"
	"os"

	"github.com/headgate/headgate/haproxycfg/routes"
)

// ExampleParse shows a problem: it names the file, line and field of a bad route. Parse keeps the
// other routes.
func ExampleParse() {
	table, problems := routes.Parse("edge.yaml", []byte(`
routes:
- host: API.example.com
  path: /tracks/
  backends:
  - {cluster: eu-1, namespace: media, service: tracks, port: http}
  - {cluster: eu-2, namespace: media, service: tracks, port: http, weight: 50}
- host: www.example.com
  backends:
  - {cluster: eu-1, namespace: web, service: site, prot: http}
`))
	for _, p := range problems {
		fmt.Println(p)
	}
	for _, r := range table.Routes() {
		fmt.Println(r.Host, r.Path, r.Backends)
	}
	// Output:
	// edge.yaml:10: routes[1].backends[0].prot: unknown field, did you mean port?
	// edge.yaml:10: routes[1].backends[0].port: is missing
	// api.example.com /tracks [eu-1/media/tracks:http weight 100 eu-2/media/tracks:http weight 50]
}

// ExampleMerge merges two files that declare the same host and path. Merge keeps the route of the
// first file.
func ExampleMerge() {
	a, _ := routes.Parse("a.yaml", []byte("routes:\n- {host: example.com, backends: [{cluster: eu-1, namespace: web, service: site, port: 80}]}\n"))
	b, _ := routes.Parse("b.yaml", []byte("routes:\n- {host: example.com, backends: [{cluster: us-1, namespace: web, service: site, port: 80}]}\n"))
	table, problems := routes.Merge(a, b)
	fmt.Println(table.Refs())
	fmt.Println(problems[0])
	// Output:
	// [eu-1/web/site:80]
	// b.yaml:2: routes: example.com/ is declared differently at a.yaml:2, which stands; this one is left out
}

func ExampleTable_Match() {
	backend := func(service string) []routes.Backend {
		return []routes.Backend{{Ref: routes.Ref{Cluster: "eu-1", Namespace: "web", Service: service, Port: "http"}, Weight: 100}}
	}
	table, _ := routes.New(
		routes.Route{Host: "*.example.com", Backends: backend("site")},
		routes.Route{Host: "api.example.com", Path: "/v1", Backends: backend("api")},
	)
	for _, request := range [][2]string{
		{"www.example.com", "/v1/users"},
		{"API.example.com.:443", "/v1/users"},
		{"api.example.com", "/v10"},
	} {
		r, ok := table.Match(request[0], request[1])
		fmt.Println(ok, r.Host+r.Path, r.Backends)
	}
	// Output:
	// true *.example.com/ [eu-1/web/site:http weight 100]
	// true api.example.com/v1 [eu-1/web/api:http weight 100]
	// false  []
}

func ExampleAppendZone() {
	table, _ := routes.Parse("edge.yaml", []byte(`
routes:
- {host: "*.example.com", backends: [{cluster: eu-1, namespace: web, service: site, port: 80}]}
- {host: example.com, backends: [{cluster: eu-1, namespace: web, service: site, port: 80}]}
- {host: example.org, backends: [{cluster: eu-1, namespace: web, service: site, port: 80}]}
`))
	zone, err := routes.AppendZone(nil, table, routes.ZoneOptions{
		Origin: "example.com",
		Addrs:  []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
		Target: "edge.example.net",
	})
	if err != nil {
		fmt.Println(err)
	}
	os.Stdout.Write(zone)
	// Output:
	// *.example.com.	300	IN	CNAME	edge.example.net.
	// example.com.	300	IN	A	192.0.2.1
	// example.com.	300	IN	AAAA	2001:db8::1
}

func ExampleAppendCDN() {
	table, _ := routes.Parse("edge.yaml", []byte(`
routes:
- {host: api.example.com, backends: [{cluster: eu-1, namespace: web, service: api, port: 80}]}
- {host: api.example.com, path: /status, exact: true, backends: [{cluster: eu-1, namespace: web, service: up, port: 80}]}
`))
	cdn, err := routes.AppendCDN(nil, table, routes.CDNOptions{Origin: "edge.example.net"})
	if err != nil {
		fmt.Println(err)
	}
	os.Stdout.Write(cdn)
	// Output:
	// {
	//   "distributions": [
	//     {
	//       "host": "api.example.com",
	//       "origin": "edge.example.net",
	//       "behaviours": [
	//         {
	//           "path": "/status",
	//           "exact": true,
	//           "patterns": [
	//             "/status"
	//           ]
	//         },
	//         {
	//           "path": "/",
	//           "exact": false,
	//           "patterns": [
	//             "/*"
	//           ]
	//         }
	//       ]
	//     }
	//   ]
	// }
}

// ExampleAppendYAML writes a file in normal form, as a formatter would.
func ExampleAppendYAML() {
	table, _ := routes.Parse("edge.yaml", []byte(`
routes:
- host: Bücher.example:443
  path: /neu/
  timeouts: {tunnel: 60m}
  backends: [{service: shop, namespace: web, cluster: eu-1, port: http, weight: 100}]
`))
	os.Stdout.Write(routes.AppendYAML(nil, table))
	// Output:
	// routes:
	// - host: xn--bcher-kva.example
	//   path: /neu
	//   backends:
	//   - {cluster: eu-1, namespace: web, service: shop, port: http}
	//   timeouts:
	//     tunnel: 1h
}
