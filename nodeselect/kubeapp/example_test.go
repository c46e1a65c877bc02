package kubeapp_test

import (
	"fmt"

	"github.com/headgate/headgate/nodeselect/kubeapp"
)

func ExampleApp_Objects() {
	app := kubeapp.App{
		Name: "tracks", Namespace: "media", Image: "registry.example.com/tracks:1.4.2",
		Ports: []kubeapp.Port{{Name: "http", Number: 8080, NodePort: 30080}},
	}
	objects, err := app.Objects()
	if err != nil {
		fmt.Println(err)
		return
	}
	text, err := kubeapp.AppendYAML(nil, objects.Service)
	fmt.Printf("%s%v", text, err)
	// Output:
	// ---
	// apiVersion: v1
	// kind: Service
	// metadata:
	//   labels:
	//     app.kubernetes.io/managed-by: headgate-kubeapp
	//     app.kubernetes.io/name: tracks
	//   name: tracks
	//   namespace: media
	// spec:
	//   ports:
	//   - name: http
	//     nodePort: 30080
	//     port: 8080
	//     protocol: TCP
	//     targetPort: http
	//   selector:
	//     app.kubernetes.io/name: tracks
	//   type: NodePort
	// <nil>
}
