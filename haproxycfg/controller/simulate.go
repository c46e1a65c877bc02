package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"

	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/endpoints"
	"github.com/headgate/headgate/nodeselect/live"
	"github.com/headgate/headgate/nodeselect/manifest"
	"github.com/headgate/headgate/nodeselect/unevenness"
)

// PodSource is a ClusterSource that can also list the pods of the services. Live and Manifests
// implement it.
type PodSource interface {
	// Pods returns the pods of all services.
	Pods(ctx context.Context) (endpoints.Services, error)
}

// Pods implements PodSource. It reads the EndpointSlices in the directory.
func (m Manifests) Pods(context.Context) (endpoints.Services, error) {
	list, _, err := manifest.ReadEndpointSlices(m.Dir) // Read returns the problems too
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("%s has no EndpointSlice", m.Dir)
	}
	return endpoints.Group(list, nodeselect.AddressPolicy{}), err
}

// Pods implements PodSource. The account of the Live needs permission to list and watch
// endpointslices of discovery.k8s.io.
func (l *Live) Pods(ctx context.Context) (services endpoints.Services, err error) {
	config, err := l.Config()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failure := errors.New("no answer")
	err = live.EndpointsWatcher{Config: config}.Run(ctx, func(s live.EndpointsSnapshot) {
		if s.Synced {
			services = s.Services
			cancel()
		}
		failure = cmp.Or(s.Err, failure)
	})
	switch {
	case services != nil:
		return services, nil
	case ctx.Err() == nil:
		return nil, err
	}
	return nil, failure
}

// Simulation has the numbers that Controller.Simulate cannot read from a cluster.
type Simulation struct {
	// Balancers is the number of HAProxy processes that run the configuration. 0 means 1.
	Balancers int
	// InFlight is the mean number of requests of one service that are in flight from one balancer
	// to one node. 0 means that each service has one connection from each balancer to each node.
	InFlight float64
	// Connections is the effective number of connections of each service, from all balancers to all
	// nodes; see package unevenness. 0 means that Simulate computes it from InFlight. Connections
	// has no effect on services with sessionAffinity ClientIP or externalTrafficPolicy Local.
	Connections float64
	// Target is the wanted load of the busiest pod, as a multiple of the present mean load of the
	// pods. 0 means unevenness.DefaultTarget. In the result, Estimate.MorePods (package unevenness)
	// is the number of further pods that the service needs to reach Target.
	Target float64
}

// ServiceLoad tells how unevenly the pods of a service port are loaded.
type ServiceLoad struct {
	routes.Ref
	Nodes int `json:"nodes"`
	unevenness.Estimate
}

// Simulate computes how unevenly HAProxy would load the pods of each service with the configuration
// of a Change, in the order of the Change's report. It reads the pods of all clusters, and changes
// nothing. It returns an error if it cannot read the pods within StartTimeout.
func (c *Controller) Simulate(ctx context.Context, ch *Change, s Simulation) ([]ServiceLoad, error) {
	ctx, cancel := context.WithTimeout(ctx, c.startTimeout())
	defer cancel()
	pods := map[string]endpoints.Services{}
	for _, cluster := range c.Clusters {
		source, ok := cluster.Source.(PodSource)
		if !ok {
			return nil, fmt.Errorf("cluster %s: its source has no pods", cluster.Name)
		}
		var err error
		if pods[cluster.Name], err = source.Pods(ctx); err != nil {
			return nil, fmt.Errorf("cluster %s: pods: %w", cluster.Name, err)
		}
	}
	return s.loads(ch.Report, ch.input.Clusters, pods), nil
}

func (s Simulation) loads(report kube.Report, clusters []kube.Cluster, pods map[string]endpoints.Services) []ServiceLoad {
	objects := map[string]nodeselect.Objects{}
	for _, c := range clusters {
		objects[c.Name] = c.Objects
	}
	loads := make([]ServiceLoad, 0, len(report.Services))
	for i := range report.Services {
		r := &report.Services[i]
		svc := objects[r.Cluster].Service(r.Namespace, r.Service)
		ready := readyPods(pods[r.Cluster], svc, r.Ref)
		in := unevenness.Service{
			Policy: policyOf(svc), Nodes: len(r.Nodes), Balancers: s.Balancers, InFlight: s.InFlight, Connections: s.Connections,
		}
		for _, n := range ready {
			in.Pods += n
		}
		if len(r.NodeWeights) == len(r.Nodes) {
			in.Weights = r.NodeWeights
		}
		for _, node := range r.Nodes {
			in.LocalPods = append(in.LocalPods, ready[node])
		}
		loads = append(loads, ServiceLoad{Ref: r.Ref, Nodes: len(r.Nodes), Estimate: in.Estimate(s.Target)})
	}
	return loads
}

func policyOf(svc *corev1.Service) unevenness.Policy {
	switch {
	case svc == nil:
		return unevenness.Cluster
	case svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal:
		return unevenness.Local
	case svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP:
		return unevenness.ClientIP
	}
	return unevenness.Cluster
}

// readyPods returns the numbers of ready pods of a service port, by node.
func readyPods(services endpoints.Services, svc *corev1.Service, ref routes.Ref) map[string]int {
	port := ref.Port
	if svc != nil { // EndpointSlices have the names of the Service's ports, and not their numbers
		i := slices.IndexFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool {
			return p.Name == port || strconv.Itoa(int(p.Port)) == port
		})
		if i >= 0 {
			port = svc.Spec.Ports[i].Name
		}
	}
	pods, _ := services.Pods(nodeselect.Ref{Namespace: ref.Namespace, Service: ref.Service, Port: port})
	ready := map[string]int{}
	for _, p := range pods {
		if p.Ready {
			ready[p.Node]++
		}
	}
	return ready
}

// WriteLoads writes a table of loads for people.
func WriteLoads(w io.Writer, loads []ServiceLoad) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SERVICE\tPOLICY\tNODES\tPODS\tCONNECTIONS\tP50\tP99\tIDLE PODS\tMORE PODS")
	for _, l := range loads {
		more := strconv.Itoa(l.MorePods)
		if l.MorePods < 0 {
			more = "no help"
		}
		fmt.Fprintf(t, "%v\t%v\t%d\t%d\t%.0f\t%.2f\t%.2f\t%.1f\t%s\n", l.Ref, l.Policy, l.Nodes, l.Pods, l.Connections, l.P50, l.P99, l.Idle, more)
	}
	return t.Flush()
}
