package controller_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/internal/kubewatch/kubewatchtest"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/endpoints"
)

// simulated is a cluster of 10 nodes with two pods of each service on each node. Each service has 4
// nodes.
func simulated(t testing.TB, services map[string]string) *controller.Controller {
	dir := t.TempDir()
	var text, declared strings.Builder
	for i := range 10 {
		fmt.Fprintf(&text, "{apiVersion: v1, kind: Node, metadata: {name: n%d}, status: {addresses: [{type: InternalIP, address: 10.0.0.%d}]}}\n---\n", i, i+1)
	}
	declared.WriteString("routes:\n")
	port := 30000
	for name, spec := range services {
		port++
		fmt.Fprintf(&text, "{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: %s}, spec: {type: NodePort, %s ports: [{name: http, port: 80, nodePort: %d}]}}\n---\n", name, spec, port)
		fmt.Fprintf(&text, "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {namespace: shop, name: %s-1, labels: {kubernetes.io/service-name: %s}}, addressType: IPv4, ports: [{name: http, port: 8080}], endpoints: [", name, name)
		for i := range 20 {
			fmt.Fprintf(&text, "{addresses: [10.244.%d.%d], nodeName: n%d}, ", i%10, i+1, i%10)
		}
		text.WriteString("]}\n---\n")
		fmt.Fprintf(&declared, "- {host: %s.example.com, backends: [{cluster: c1, namespace: shop, service: %s, port: \"80\"}]}\n", name, name)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "objects.yaml"), []byte(text.String()), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "routes"), []byte(declared.String()), 0o600))
	return &controller.Controller{
		Routes:   &controller.RouteFiles{Names: []string{filepath.Join(dir, "routes")}},
		Clusters: []controller.Cluster{{Name: "c1", Source: controller.Manifests{Dir: dir, LocalEndpoints: true}}},
		Builder: kube.Builder{
			Edge:     edge.Edge{HTTP: []haproxycfg.Bind{{Address: ":8080"}}},
			Selector: nodeselect.Selector{Size: 4},
		},
		Dir:          &deploy.Dir{Path: filepath.Join(dir, "out")},
		StartTimeout: 30 * time.Second,
	}
}

func TestSimulate(t *testing.T) {
	t.Parallel()
	c := simulated(t, map[string]string{
		"web": "", "sticky": "sessionAffinity: ClientIP,", "local": "externalTrafficPolicy: Local,",
	})
	change, err := c.Plan(t.Context(), "test")
	require.NoError(t, err)
	loads, err := c.Simulate(t.Context(), change, controller.Simulation{Balancers: 2, InFlight: 1})
	require.NoError(t, err)
	var table bytes.Buffer
	require.NoError(t, controller.WriteLoads(&table, loads))
	require.Equal(t, strings.Join([]string{
		"SERVICE            POLICY    NODES  PODS  CONNECTIONS  P50   P99   IDLE PODS  MORE PODS",
		"c1/shop/local:80   Local     4      20    17           2.50  2.50  12.0       8",
		"c1/shop/sticky:80  ClientIP  4      20    8            5.00  7.50  13.3       no help",
		"c1/shop/web:80     Cluster   4      20    17           3.53  5.88  8.4        no help",
		"",
	}, "\n"), table.String())

	again, err := c.Simulate(t.Context(), change, controller.Simulation{Balancers: 2, InFlight: 1})
	require.NoError(t, err)
	require.Equal(t, loads, again)
}

// A source of a live cluster returns all pods in one list.
func TestSimulateOfALiveCluster(t *testing.T) {
	t.Parallel()
	server := kubewatchtest.New(t)
	ready := discoveryv1.Endpoint{Addresses: []string{"10.244.0.1"}, NodeName: new("n1")}
	slice := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{ready}}
	slice.Namespace, slice.Name, slice.Labels = "shop", "web-1", map[string]string{discoveryv1.LabelServiceName: "web"}
	slice.Ports = []discoveryv1.EndpointPort{{Port: new(int32(8080))}}
	server.Set(slice)
	source := &controller.Live{Config: func() (*rest.Config, error) { return server.Config(), nil }}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	services, err := source.Pods(ctx)
	require.NoError(t, err)
	pods, problems := services.Pods(nodeselect.Ref{Namespace: "shop", Service: "web"})
	require.Empty(t, problems)
	require.Len(t, pods, 1)
	require.Equal(t, "n1", pods[0].Node)

	server.Forbid("endpointslices", true)
	require.Eventually(t, func() bool { // Pods returns at the end of ctx, and a slow server has not answered by then
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := source.Pods(ctx)
		return err != nil && strings.Contains(err.Error(), "403")
	}, time.Minute, time.Millisecond)
}

func TestSimulateWithoutPods(t *testing.T) {
	t.Parallel()
	c := simulated(t, map[string]string{"web": ""})
	change, err := c.Plan(t.Context(), "test")
	require.NoError(t, err)
	empty := t.TempDir()
	c.Clusters[0].Source = controller.Manifests{Dir: empty}
	_, err = c.Simulate(t.Context(), change, controller.Simulation{})
	require.EqualError(t, err, "cluster c1: pods: "+empty+" has no EndpointSlice")
	c.Clusters[0].Source = struct{ controller.ClusterSource }{}
	_, err = c.Simulate(t.Context(), change, controller.Simulation{})
	require.EqualError(t, err, "cluster c1: its source has no pods")
}

// memory is a cluster in memory, with 20 nodes and 20 pods of each service.
type memory struct {
	controller.ClusterSource
	objects nodeselect.Objects
	pods    endpoints.Services
}

func (m memory) SetRefs([]nodeselect.Ref) {}

func (m memory) Read(context.Context, controller.Start) (controller.ClusterState, error) {
	return controller.ClusterState{Synced: true, Objects: m.objects}, nil
}

func (m memory) Pods(context.Context) (endpoints.Services, error) { return m.pods, nil }

// BenchmarkSimulate computes the loads of 2,000 services with 20 pods each.
func BenchmarkSimulate(b *testing.B) {
	c := simulated(b, nil)
	var nodes []*corev1.Node
	for i := range 20 {
		n := &corev1.Node{}
		n.Name, n.Status.Addresses = fmt.Sprint("n", i), []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("10.0.0.%d", i+1)}}
		nodes = append(nodes, n)
	}
	var services []*corev1.Service
	var list []*discoveryv1.EndpointSlice
	declared := "routes:\n"
	for i := range 2000 {
		svc, slice := &corev1.Service{}, &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4}
		svc.Namespace, svc.Name, svc.Spec.Type = "shop", fmt.Sprint("s", i), corev1.ServiceTypeNodePort
		svc.Spec.Ports = []corev1.ServicePort{{Port: 80, NodePort: int32(30000 + i)}}
		slice.Namespace, slice.Name, slice.Labels = "shop", svc.Name, map[string]string{discoveryv1.LabelServiceName: svc.Name}
		slice.Ports = []discoveryv1.EndpointPort{{Port: new(int32(8080))}}
		for j := range 20 {
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.244.%d.%d", i%250, j+1)}, NodeName: &nodes[j].Name})
		}
		services, list = append(services, svc), append(list, slice)
		declared += fmt.Sprintf("- {host: %s.example.com, backends: [{cluster: c1, namespace: shop, service: %s, port: \"80\"}]}\n", svc.Name, svc.Name)
	}
	c.Clusters[0].Source = memory{objects: nodeselect.NewObjects(nodes, services), pods: endpoints.Group(list, nodeselect.AddressPolicy{})}
	routes := filepath.Join(b.TempDir(), "routes")
	require.NoError(b, os.WriteFile(routes, []byte(declared), 0o600))
	c.Routes = &controller.RouteFiles{Names: []string{routes}}
	change, err := c.Plan(b.Context(), "benchmark")
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		loads, err := c.Simulate(b.Context(), change, controller.Simulation{Balancers: 2, InFlight: 5})
		require.NoError(b, err)
		require.Len(b, loads, 2000)
		require.Equal(b, 20, loads[0].Pods)
	}
}
