package explain_test

import (
	"fmt"
	"os"
	"time"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/controller/explain"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/manifest"
)

// Example explains a request from a file of declarations and the manifests of a cluster. Each
// service gets one node.
func Example() {
	table, _ := routes.Parse("routes.yaml", []byte(`
routes:
- host: api.example.com
  path: /tracks
  backends: [{cluster: eu-1, namespace: media, service: tracks, port: http}]
`))
	objects, _ := manifest.Parse("cluster.yaml", []byte(`
apiVersion: v1
kind: Node
metadata: {name: node-a}
status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: node-b, labels: {node.kubernetes.io/exclude-from-external-load-balancers: ""}}
status: {addresses: [{type: InternalIP, address: 10.0.0.2}]}
---
apiVersion: v1
kind: Service
metadata: {namespace: media, name: tracks}
spec: {type: NodePort, ports: [{name: http, port: 80, nodePort: 30080}]}
`))
	builder := kube.Builder{
		Edge:     edge.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}},
		Selector: nodeselect.Selector{Size: 1},
	}
	clusters := []kube.Cluster{{Name: "eu-1", Objects: objects}}
	now := time.Now()
	_, report := builder.Build(table, clusters, now)

	target, err := explain.ParseTarget("api.example.com/tracks/7")
	if err != nil {
		fmt.Println(err)
		return
	}
	e := explain.Explain(explain.Input{
		Time: now, Builder: builder, Table: table, Clusters: clusters, Report: report,
	}, target)
	os.Stdout.Write(e.AppendText(nil))
	// Output:
	// api.example.com/tracks/7
	//   route: api.example.com/tracks, declared at routes.yaml:3, protocol http1
	//   in force: yes
	//   backend: eu-1.media.tracks.http: 1 server, all requests
	//
	// service eu-1/media/tracks:http: declared weight 100, 100% of the requests, node port 30080
	//   nodes in use:
	//     node-a 10.0.0.1: all eligible nodes are used; the service has 1 place
	//       server eu-1.media.tracks.http/10.0.0.1:30080, weight 100
	//         has the health of nodes.eu-1/10.0.0.1:9707-9707
	//   unused nodes:
	//     node-b 10.0.0.2: excluded: label node.kubernetes.io/exclude-from-external-load-balancers=""
}
