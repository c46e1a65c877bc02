package nodeselect

import (
	"fmt"
	"testing"
	"time"
)

func TestSmoke(t *testing.T) {
	o, p := Parse("x.yaml", []byte(`apiVersion: v1
items:
- apiVersion: v1
  kind: Node
  metadata: {name: a}
  status:
    addresses:
    - {type: InternalIP, address: 10.0.0.1}
- apiVersion: v1
  kind: Service
  metadata: {name: s, namespace: m}
  spec:
    type: NodePort
    ports: [{name: http, port: 80, nodePort: 30080}]
- apiVersion: v1
  kind: Service
  metadata: {name: s2, namespace: m}
  spec:
    ports: [{name: http, port: 80, nodePort: "x"}]
kind: List
`))
	fmt.Println(len(o.Nodes), len(o.Services), p)
	sel := Selector{}.Select(o, []Ref{{"m", "s", "http"}}, time.Time{}, nil)
	fmt.Printf("%+v\n", sel)
}
