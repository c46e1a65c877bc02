package manifest_test

import (
	"fmt"

	"github.com/headgate/headgate/nodeselect/manifest"
)

func ExampleParse_problems() {
	objects, problems := manifest.Parse("services.yaml", []byte(`apiVersion: v1
kind: Service
metadata: {name: tracks, namespace: media}
spec:
  ports:
  - nodePort: high
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: web}
`))
	for _, p := range problems {
		fmt.Println(p)
	}
	fmt.Println(objects.Services[0].Name)
	// Output:
	// services.yaml:1: Service media/tracks: spec.ports.nodePort: want an integer, got string
	// front
}
