// Package hostcluster chooses one cluster for each declared host.
//
// A router that does not decrypt TLS cannot read the path, so it sends all requests for a host to
// one cluster. Chooser chooses the cluster that is first in this order:
//
//  1. the highest number of the host's routes that the cluster serves with a weight above 0;
//  2. the highest sum of the weights of the host's services in the cluster;
//  3. the highest number of the host's routes for which the cluster has a service;
//  4. the first name in alphabetical order.
//
// The weight of a service is its declared weight times its annotated weight. The weight of a
// drained service is 0. If every weight is 0, rule 3 decides, so that the clients of the host still
// receive an answer.
package hostcluster

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
)

// Chooser chooses one cluster for each declared host. The method Choose does not change the
// Chooser.
type Chooser struct {
	// Clusters are the names of all clusters that Choose may choose. Required.
	Clusters []string
	// Services are the nodes and services of each cluster, by the name of the cluster. If a cluster
	// has no entry, Choose assumes that it has every declared service, without annotations.
	Services map[string]nodeselect.Objects
	// Annotations are the names of the annotations for the weight and the drain of a service.
	Annotations nodeselect.Annotations
}

// Choice is the cluster of one host.
type Choice struct {
	Host    string // may be a wildcard
	Cluster string
	// App is the service of the host in the cluster, as "namespace/name". If the host has several
	// services in the cluster, App is a service of the first route that has services there: the
	// service with the highest weight.
	App string
}

// Choose returns the chosen clusters for the hosts of a table, sorted by host. If a host has no
// cluster, problems contains the reason.
func (c Chooser) Choose(table routes.Table) (choices []Choice, problems []routes.Problem) {
	for rest := table.Routes(); len(rest) > 0; {
		n := slices.IndexFunc(rest, func(r routes.Route) bool { return r.Host != rest[0].Host })
		if n < 0 {
			n = len(rest)
		}
		choice, found := c.choose(rest[:n])
		problems = append(problems, found...)
		if choice.Cluster != "" {
			choices = append(choices, choice)
		}
		rest = rest[n:]
	}
	return choices, problems
}

// candidate is a cluster that has a service of a host, or of one route. In a candidate for a host,
// the fields "live", "weight" and "known" are sums over all routes of the host. In a candidate for
// one route, they are the numbers of this route.
type candidate struct {
	cluster string
	live    int // the number of routes with a weight above 0
	weight  int // the sum of the weights
	known   int // the number of routes for which the cluster has a service
	app     string
}

// choose returns the choice for one host. list contains all routes of that host. The Cluster of the
// choice is "" if no cluster has a service of the host.
func (c Chooser) choose(list []routes.Route) (Choice, []routes.Problem) {
	host := list[0].Host
	var problems []routes.Problem
	var candidates []candidate
	for _, route := range list {
		ofRoute, found := c.candidates(route)
		problems = append(problems, found...)
		for _, r := range ofRoute {
			sum, isNew := candidateOf(&candidates, r.cluster)
			sum.live, sum.weight, sum.known = sum.live+r.live, sum.weight+r.weight, sum.known+r.known
			if isNew {
				sum.app = r.app
			}
		}
	}
	if len(candidates) == 0 {
		return Choice{}, append(problems, routes.Problem{Message: host + ": no cluster to choose from has a service of the host, so the host is not found"})
	}
	best := slices.MinFunc(candidates, func(a, b candidate) int {
		return cmp.Or(-cmp.Compare(a.live, b.live), -cmp.Compare(a.weight, b.weight), -cmp.Compare(a.known, b.known), cmp.Compare(a.cluster, b.cluster))
	})
	if best.known < len(list) {
		problems = append(problems, routes.Problem{Message: fmt.Sprintf("%s: cluster %s has %d of the host's %d routes, and no cluster has all; cluster %s has to serve the others too", host, best.cluster, best.known, len(list), best.cluster)})
	}
	return Choice{Host: host, Cluster: best.cluster, App: best.app}, problems
}

// candidates returns the clusters that have a service of the route. The weight of a candidate is
// the sum of the weights of its services.
func (c Chooser) candidates(route routes.Route) (list []candidate, problems []routes.Problem) {
	problem := func(format string, args ...any) {
		problems = append(problems, routes.Problem{
			File: route.Position.File, Line: route.Position.Line,
			Message: route.Host + ": " + fmt.Sprintf(format, args...),
		})
	}
	heaviest := map[string]int{} // the weight of the service that gives the cluster its app
	for _, b := range route.Backends {
		if !slices.Contains(c.Clusters, b.Cluster) {
			problem("there is no address for cluster %s", b.Cluster)
			continue
		}
		weight := b.Weight * nodeselect.DefaultWeightPercent
		if objects, ok := c.Services[b.Cluster]; ok {
			svc := objects.Service(b.Namespace, b.Service)
			if svc == nil {
				problem("cluster %s has no service %s/%s", b.Cluster, b.Namespace, b.Service)
				continue
			}
			percent, err := c.weightPercent(svc)
			if err != nil {
				problem("cluster %s: %v", b.Cluster, err)
			}
			weight = b.Weight * percent
		}
		sum, isNew := candidateOf(&list, b.Cluster)
		sum.known = 1
		if sum.weight += weight; weight > 0 {
			sum.live = 1
		}
		if isNew || weight > heaviest[b.Cluster] {
			heaviest[b.Cluster] = weight
			sum.app = b.Namespace + "/" + b.Service
		}
	}
	return list, problems
}

// weightPercent returns the annotated weight of a service in percent, or 0 if the service is
// drained. If it cannot read an annotation, it ignores the annotation and also returns an error.
func (c Chooser) weightPercent(svc *corev1.Service) (int, error) {
	percent, err := c.Annotations.WeightPercent(svc)
	drained, drainErr := c.Annotations.Drain(svc)
	if drained {
		percent = 0
	}
	return percent, cmp.Or(err, drainErr)
}

// candidateOf returns the candidate for a cluster. If the list contains no candidate for the
// cluster, candidateOf adds one to the list, and isNew is true.
func candidateOf(list *[]candidate, cluster string) (of *candidate, isNew bool) {
	for i := range *list {
		if (*list)[i].cluster == cluster {
			return &(*list)[i], false
		}
	}
	*list = append(*list, candidate{cluster: cluster})
	return &(*list)[len(*list)-1], true
}
