package change_test

import (
	"fmt"

	"github.com/headgate/headgate/nodeselect/kubeapp/change"
)

func ExampleChange_Check() {
	before, _ := change.Parse("cluster.yaml", []byte(`
apiVersion: v1
kind: Service
metadata: {name: tracks, namespace: media}
spec: {type: NodePort, ports: [{name: http, port: 80, nodePort: 30080}]}
`))
	after, _ := change.Parse("new.yaml", []byte(`
apiVersion: v1
kind: Service
metadata: {name: tracks, namespace: media}
spec: {type: NodePort, ports: [{name: http, port: 80, nodePort: 30090}]}
`))
	c := change.Change{Old: before, New: after}
	for _, f := range c.Check() {
		fmt.Println(f.Object, f.Field, f.Change)
		fmt.Println(f.Effect)
	}
	// Output:
	// Service media/tracks spec.ports[http].nodePort 30080 → 30090
	// Load balancers send requests to the node port until somebody has deployed a configuration without it to all of them. These requests fail.
}
