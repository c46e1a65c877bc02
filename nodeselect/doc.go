// Package nodeselect chooses the nodes of a Kubernetes cluster that a load
// balancer outside of it sends each service's traffic to.
package nodeselect
