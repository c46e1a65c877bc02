package haproxycfg_test

import (
	"fmt"
	"net/netip"
	"os"

	"github.com/headgate/headgate/haproxycfg"
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
	edge := haproxycfg.Edge{
		HTTP:   []haproxycfg.Bind{{Address: ":80"}},
		Global: haproxycfg.Global{StateFile: "/var/lib/haproxy/state"},
	}
	config, problems := edge.Config(table, []haproxycfg.Upstream{{
		Ref:       routes.Ref{Cluster: "eu-1", Namespace: "media", Service: "tracks", Port: "http"},
		NodePort:  31000,
		AgentPort: 9801,
		Nodes:     []haproxycfg.Node{{Name: "node-1", Addr: netip.MustParseAddr("10.0.0.1")}},
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

// A small configuration, and what becomes of it. Values are quoted as they need.
func ExampleConfig_WriteTo() {
	config := haproxycfg.Config{
		Frontends: []haproxycfg.Frontend{{
			Name:           "public",
			Binds:          []haproxycfg.Bind{{Address: ":80"}},
			Forwarded:      haproxycfg.ForwardedKeep,
			DefaultBackend: "sorry",
		}},
		Backends: []haproxycfg.Backend{{
			Name:   "sorry",
			Answer: &haproxycfg.Answer{Status: 503, Body: "We'll be back soon"},
		}},
	}
	if _, err := config.WriteTo(os.Stdout); err != nil {
		fmt.Println(err)
	}
	// Output:
	// global
	//
	// defaults
	//     mode http
	//     timeout client 60s
	//     timeout client-fin 30s
	//     timeout http-request 10s
	//     timeout http-keep-alive 60s
	//     timeout connect 3s
	//     timeout queue 5s
	//     timeout server 60s
	//     timeout tunnel 1h
	//     timeout check 2s
	//     retries 3
	//     option redispatch 1
	//     retry-on conn-failure empty-response
	//
	// frontend public
	//     bind *:80
	//     http-request disable-l7-retry unless { method GET HEAD OPTIONS }
	//     default_backend sorry
	//
	// backend sorry
	//     http-request return status 503 content-type text/plain string 'We'\''ll be back soon'
}

// Faults are named with their place.
func ExampleConfig_Validate() {
	config := haproxycfg.Config{Backends: []haproxycfg.Backend{{
		Name:    "media.tracks",
		Balance: "static-rr",
		Servers: []haproxycfg.Server{{Addr: netip.MustParseAddrPort("10.0.0.1:31000"), Track: "nodes/n1"}},
	}}}
	fmt.Println(config.Validate())
	// Output:
	// haproxycfg: invalid configuration: backend media.tracks: balance static-rr ignores every weight of an agent but 0% and 100%: use roundrobin
	// haproxycfg: invalid configuration: backend media.tracks: server 10.0.0.1:31000: it tracks "nodes/n1", which is not a checked server
}
