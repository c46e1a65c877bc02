// Package kubeapp makes the Kubernetes objects of an application: a Namespace, one Service for one
// Deployment, a PodDisruptionBudget and an Ingress.
//
//	app := kubeapp.App{
//		Name: "tracks", Namespace: "media", Image: "registry.example.com/tracks:1.4.2",
//		Ports: []kubeapp.Port{{Name: "http", Number: 8080, NodePort: 30080}},
//	}
//	objects, err := app.Objects()
//	if err != nil {
//		return err // kubeapp: Ports[0].Name: "HTTP": …
//	}
//	text, err := kubeapp.AppendYAML(nil, objects.List()...)
//
// The zero value of each optional field of App has a default that is safe in production:
//
//   - The pods meet the level "restricted" of the Pod Security Standards, and the Namespace enforces
//     this level. The root file system of the container is read-only, and /tmp is an empty volume.
//   - Pods spread over zones and nodes. If there are several replicas, a PodDisruptionBudget lets
//     only one pod go at a time.
//   - A rollout starts a new pod before it ends an old one. A pod that ends accepts connections for
//     10 s more, so that load balancers and kube-proxy notice before the pod refuses connections.
//   - The memory limit is equal to the memory request, and there is no CPU limit.
//   - Pods get no token of the API server.
//   - Ports have names, and a declaration of package haproxycfg/routes can use these names.
//
// A node port is a promise to everybody who configured a load balancer with it; package change
// finds the changes that break it.
//
// All functions are pure: they use no clock, no file and no API server. Equal Apps give equal
// objects and equal bytes. An App is safe for concurrent use.
//
// # What it does not do
//
// The package does not check whether the image exists or whether a node port is free: the API
// server does. It makes no ConfigMap, Secret, ServiceAccount, NetworkPolicy or
// HorizontalPodAutoscaler. Package apply sends the objects to an API server.
package kubeapp
