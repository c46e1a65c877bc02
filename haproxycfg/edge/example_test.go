package edge_test

import (
	"fmt"
	"net/netip"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/routes"
)

// Declarations and the places of their services become a configuration.
func Example() {
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
	e := edge.Edge{
		HTTP:   []haproxycfg.Bind{{Address: ":80"}},
		Global: haproxycfg.Global{StateFile: "/var/lib/haproxy/state"},
	}
	config, problems := e.Config(table, []edge.Upstream{{
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
			fmt.Printf("  %s follows %q\n", s.Name(), s.Track)
		}
	}
	// Output:
	// eu-1.media.tracks.http
	//   10.0.0.1:31000-9801 follows "nodes.eu-1/10.0.0.1:9707-9707"
	// nodes.eu-1
	//   10.0.0.1:9707-9707 follows ""
	// not-found
}
