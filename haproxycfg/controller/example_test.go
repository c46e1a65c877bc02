package controller_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/kube"
)

// Example is a small terminator: it follows a file of routes and a directory of manifests, lets a
// tenth of the servers change at once, and prints each attempt. It ends after the first one.
func Example() {
	dir := exampleInputs()
	defer os.RemoveAll(dir)
	ctx, stop := context.WithCancel(context.Background())
	terminator := &controller.Controller{
		Routes: &controller.RouteFiles{Names: []string{filepath.Join(dir, "routes.yaml")}},
		Clusters: []controller.Cluster{
			{Name: "eu-1", Source: controller.Manifests{Dir: filepath.Join(dir, "eu-1")}},
		},
		Builder: kube.Builder{Edge: edge.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}}},
		Dir:     &deploy.Dir{Path: filepath.Join(dir, "haproxy")}, // without Check and Reload, no HAProxy is needed
		Limit:   controller.MaxShare(0.1),
		Attempted: func(a controller.Attempt) {
			fmt.Println(a.Outcome, a.Err)
			for _, service := range a.Change.Report.Services {
				fmt.Println(service.Service, service.NodePort, service.Nodes)
			}
			stop()
		},
	}
	if err := terminator.Run(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// written <nil>
	// web 30080 [a]
}

// exampleInputs returns a new directory with routes and the manifests of a cluster.
func exampleInputs() string {
	dir, err := os.MkdirTemp("", "terminator-")
	if err != nil {
		panic(err)
	}
	for name, text := range map[string]string{
		"routes.yaml": `routes:
- host: www.example.com
  backends:
  - {cluster: eu-1, namespace: shop, service: web, port: http}
`,
		"eu-1/objects.yaml": `apiVersion: v1
kind: Node
metadata: {name: a}
status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}
---
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: web}
spec: {type: NodePort, ports: [{name: http, port: 80, nodePort: 30080}]}
`,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			panic(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			panic(err)
		}
	}
	return dir
}
