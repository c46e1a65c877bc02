package main

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/sniproxy/hostlookup"
)

// declared chooses a cluster for each host of the declarations.
//
// Bytes that are passed on unread go to one place for each host, whatever their path
// will be. So a host's cluster is the one that serves the most of its routes with a
// weight above 0; among those that serve as many, the one with the most weight; then the
// first by name. The weight of a service is that of its declaration times that of its
// annotation, and 0 while it is drained. Where all weights are 0 the host stays with the
// cluster that has the services: drained everywhere is better than unknown.
type declared struct {
	table       routes.Table
	endpoints   map[string]string             // of each cluster
	clusters    map[string]nodeselect.Objects // those whose services are looked at; others are believed to have them
	annotations nodeselect.Annotations
}

// candidate is a cluster for a host.
type candidate struct {
	name                string
	live, weight, known int // routes with weight, the sum of their weights, routes
	app                 string
}

// hosts returns the endpoints by host, and what is wrong, in sentences.
func (d declared) hosts() (map[string]hostlookup.Endpoint, []string) {
	hosts := map[string]hostlookup.Endpoint{}
	var problems []string
	for rest := d.table.Routes(); len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].Host == rest[0].Host {
			n++
		}
		ep, found := d.host(rest[:n])
		problems = append(problems, found...)
		if ep.Addr != "" {
			hosts[ep.Host] = ep
		}
		rest = rest[n:]
	}
	return hosts, problems
}

func (d declared) host(list []routes.Route) (hostlookup.Endpoint, []string) {
	host := list[0].Host
	var problems []string
	var candidates []*candidate
	for _, route := range list {
		for _, c := range d.candidates(route, &problems) {
			i := slices.IndexFunc(candidates, func(o *candidate) bool { return o.name == c.name })
			if i < 0 {
				candidates = append(candidates, &c)
				continue
			}
			o := candidates[i]
			o.live, o.weight, o.known = o.live+c.live, o.weight+c.weight, o.known+c.known
		}
	}
	if len(candidates) == 0 {
		return hostlookup.Endpoint{}, append(problems, host+": no cluster with an endpoint has a service of it, it is not found")
	}
	best := slices.MinFunc(candidates, func(a, b *candidate) int {
		return cmp.Or(-cmp.Compare(a.live, b.live), -cmp.Compare(a.weight, b.weight), -cmp.Compare(a.known, b.known), cmp.Compare(a.name, b.name))
	})
	if best.known < len(list) {
		problems = append(problems, fmt.Sprintf("%s: cluster %s has %d of its %d routes, and none has all: the rest must be served from there", host, best.name, best.known, len(list)))
	}
	return hostlookup.Endpoint{App: best.app, Host: host, Addr: d.endpoints[best.name]}, problems
}

// candidates are the clusters that have a service of one route.
func (d declared) candidates(route routes.Route, problems *[]string) []candidate {
	var list []candidate
	top := map[string]int{} // weight of the service that the cluster's app is named by
	for _, b := range route.Backends {
		if _, ok := d.endpoints[b.Cluster]; !ok {
			*problems = append(*problems, fmt.Sprintf("%s: %s: cluster %s has no -endpoint", route.Position, route.Host, b.Cluster))
			continue
		}
		weight, err := d.weight(b)
		if err != nil {
			*problems = append(*problems, fmt.Sprintf("%s: %s: %v", route.Position, route.Host, err))
			if weight < 0 {
				continue
			}
		}
		i := slices.IndexFunc(list, func(c candidate) bool { return c.name == b.Cluster })
		if i < 0 {
			list = append(list, candidate{name: b.Cluster, known: 1})
			i = len(list) - 1
		}
		c := &list[i]
		if c.weight += weight; weight > 0 {
			c.live = 1
		}
		if was, ok := top[b.Cluster]; !ok || weight > was {
			top[b.Cluster] = weight
			c.app = b.Namespace + "/" + b.Service
		}
	}
	return list
}

// weight is negative if the cluster does not have the service. Any other error is of an
// annotation that cannot be read, and is not followed.
func (d declared) weight(b routes.Backend) (int, error) {
	objects, watched := d.clusters[b.Cluster]
	if !watched {
		return b.Weight * nodeselect.DefaultWeightPercent, nil
	}
	svc := objects.Service(b.Namespace, b.Service)
	if svc == nil {
		return -1, fmt.Errorf("cluster %s has no service %s/%s", b.Cluster, b.Namespace, b.Service)
	}
	percent, err := d.annotations.WeightPercent(svc)
	drained, drainErr := d.annotations.Drain(svc)
	if drained {
		percent = 0
	}
	if err = cmp.Or(err, drainErr); err != nil {
		err = fmt.Errorf("cluster %s: %w", b.Cluster, err)
	}
	return b.Weight * percent, err
}
