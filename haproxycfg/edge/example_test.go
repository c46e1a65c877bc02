package edge_test

import (
	"fmt"
	"net/netip"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/routes"
)

// Example declares routes to servers without Kubernetes. HAProxy checks each server itself.
func Example() {
	table, problems := routes.Parse("routes.yaml", []byte(`
routes:
- host: shop.example.com
  backends:
  - {cluster: dc-1, namespace: shop, service: web, port: http}
- host: shop.example.com
  path: /api
  backends:
  - {cluster: dc-1, namespace: shop, service: api, port: http}
  check: {path: /health}
`))
	servers := map[string][]netip.AddrPort{
		"web": {netip.MustParseAddrPort("10.0.0.1:8080"), netip.MustParseAddrPort("10.0.0.2:8080")},
		"api": {netip.MustParseAddrPort("10.0.0.3:9000")},
	}
	var upstreams []edge.Upstream
	for _, ref := range table.Refs() {
		upstreams = append(upstreams, edge.Upstream{Ref: ref, Servers: servers[ref.Service]})
	}
	config, more := edge.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}}.Config(table, upstreams)
	for _, p := range append(problems, more...) {
		fmt.Println(p)
	}

	for _, b := range config.Backends {
		fmt.Printf("%s check=%q\n", b.Name, b.Health.Path)
		for _, s := range b.Servers {
			fmt.Println(" ", s.Name())
		}
	}
	files, err := config.Render("/etc/haproxy")
	fmt.Println(len(files), "files,", err)
	// Output:
	// dc-1.shop.api.http:785995ac09 check="/health"
	//   10.0.0.3:9000
	// dc-1.shop.web.http check=""
	//   10.0.0.1:8080
	//   10.0.0.2:8080
	// not-found check=""
	// 4 files, <nil>
}

// ExampleEdge_Config declares a route to a service in a Kubernetes cluster. The server on a node
// tracks the node.
func ExampleEdge_Config() {
	table, problems := routes.Parse("routes.yaml", []byte(`
routes:
- host: api.example.com
  path: /tracks
  backends:
  - {cluster: eu-1, namespace: media, service: tracks, port: http}
`))
	if len(problems) > 0 {
		fmt.Println(problems)
	}
	settings := edge.Edge{
		HTTP:   []haproxycfg.Bind{{Address: ":80"}},
		Global: haproxycfg.Global{StateFile: "/var/lib/haproxy/state"},
	}
	config, problems := settings.Config(table, []edge.Upstream{{
		Ref:       routes.Ref{Cluster: "eu-1", Namespace: "media", Service: "tracks", Port: "http"},
		NodePort:  31000,
		AgentPort: 9801,
		Nodes:     []edge.Node{{Name: "node-1", Addr: netip.MustParseAddr("10.0.0.1")}},
	}})
	if len(problems) > 0 {
		fmt.Println(problems)
	}
	for _, b := range config.Backends {
		fmt.Println(b.Name)
		for _, s := range b.Servers {
			fmt.Printf("  %s tracks %q\n", s.Name(), s.Track)
		}
	}
	// Output:
	// eu-1.media.tracks.http
	//   10.0.0.1:31000-9801 tracks "nodes.eu-1/10.0.0.1:9707-9707"
	// nodes.eu-1
	//   10.0.0.1:9707-9707 tracks ""
	// not-found
}
