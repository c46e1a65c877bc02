package kube_test

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
)

// ExampleBudget has four terminators, 1,000 nodes, and 2,000 services on 20 nodes each. 200 of the
// services have an agent that sets their weight. HAProxy makes each check every two seconds.
func ExampleBudget() {
	var nodes []*corev1.Node
	for i := range 1000 {
		nodes = append(nodes, &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("node-%03d", i)},
			Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("10.0.%d.%d", i/250, 1+i%250)},
			}},
		})
	}
	var services []*corev1.Service
	var declared []routes.Route
	for i := range 2000 {
		service := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprintf("service-%04d", i)},
			Spec: corev1.ServiceSpec{
				Type:  corev1.ServiceTypeNodePort,
				Ports: []corev1.ServicePort{{Name: "http", Port: 80, NodePort: int32(30000 + i)}},
			},
		}
		if i%10 == 0 {
			service.Annotations = map[string]string{"headgate.dev/agent-port": fmt.Sprint(20000 + i)}
		}
		services = append(services, service)
		declared = append(declared, routes.Route{
			Host: service.Name + ".example.com", Path: "/",
			Backends: []routes.Backend{{Ref: routes.Ref{Cluster: "eu-1", Namespace: "shop", Service: service.Name, Port: "http"}, Weight: 100}},
		})
	}
	clusters := []kube.Cluster{{Name: "eu-1", Objects: nodeselect.NewObjects(nodes, services)}}

	table, _ := routes.New(declared...)
	_, report := kube.Builder{Terminators: 4}.Build(table, clusters, time.Now())
	fmt.Print(report.Budget)
	// Output:
	// checks/s             health      agent      total
	// as built               2000      10000      12000
	// without subsets        2000     402000     404000
	// without track         80000      80000     160000
	// without either      4000000    4000000    8000000
}
