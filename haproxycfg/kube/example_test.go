package kube_test

import (
	"fmt"
	"time"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect/manifest"
)

func ExampleBuilder_Build() {
	table, _ := routes.Parse("routes.yaml", []byte(`
routes:
- host: api.example.com
  path: /tracks
  backends:
  - {cluster: eu-1, namespace: media, service: tracks, port: http}
`))
	objects, _ := manifest.Parse("cluster.yaml", []byte(`
apiVersion: v1
kind: Node
metadata: {name: node-a}
status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}
---
apiVersion: v1
kind: Service
metadata: {namespace: media, name: tracks}
spec: {type: NodePort, ports: [{name: http, port: 80, nodePort: 30080}]}
`))
	builder := kube.Builder{Edge: edge.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}}}
	config, report := builder.Build(table, []kube.Cluster{{Name: "eu-1", Objects: objects}}, time.Now())
	for _, s := range report.Services {
		fmt.Println(s.Ref, "on", s.Nodes)
	}
	for _, b := range config.Backends {
		for _, s := range b.Servers {
			fmt.Println(b.Name, s.Addr, s.Track)
		}
	}
	// Output:
	// eu-1/media/tracks:http on [node-a]
	// eu-1.media.tracks.http 10.0.0.1:30080 nodes.eu-1/10.0.0.1:9707-9707
	// nodes.eu-1 10.0.0.1:9707
}
