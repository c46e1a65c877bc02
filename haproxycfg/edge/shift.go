package edge

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/routes"
)

// Share is the part of the requests of a route that go to one of its clusters. HAProxy divides all
// other requests between the other clusters of the route, by their declared weights. The zero Share
// means that HAProxy divides all requests by the declared weights.
type Share struct {
	// Cluster is the name of the cluster to which the shift moves requests of the route. If it is
	// empty, there is no shift, and the declared weights of the route apply.
	Cluster string
	// Points is the number of requests, out of 10,000, that go to Cluster.
	Points int
}

// Value returns the text that stands for the share in the map ShiftMap: Points, a slash and
// Cluster, such as "2500/east". If Cluster is empty, the text is "0/-".
func (s Share) Value() string {
	if s.Cluster == "" {
		return "0/-" // no cluster has this name
	}
	return strconv.Itoa(s.Points) + "/" + s.Cluster
}

// addParts adds two backends for each cluster of the route r: one with the servers in the cluster,
// and one with all other servers. While a shift moves requests from one cluster to another, HAProxy
// divides the requests between these two. The argument "name" is the name of the backend that
// contains all servers of the route.
func (b *builder) addParts(name string, r *routes.Route) {
	b.shares = append(b.shares, haproxycfg.MapEntry{Key: name, Value: b.edge.Shares[r.Name()].Value()})
	for i, rb := range r.Backends {
		cluster := rb.Cluster
		if i > 0 && r.Backends[i-1].Cluster == cluster { // the backends of a route are sorted by cluster
			continue
		}
		of := func(rb routes.Backend) bool { return rb.Cluster == cluster }
		others := func(rb routes.Backend) bool { return rb.Cluster != cluster }
		b.parts = append(b.parts, haproxycfg.MapEntry{
			Key: name + "/" + cluster, Value: b.addPart(name, r, of) + "/" + b.addPart(name, r, others),
		})
	}
}

// addPart returns the name of a backend with some services of the route r: those for which the
// argument "in", a function, returns true. It adds the backend if it does not exist yet. If all
// these services have the weight 0, as the services of a new cluster usually do, addPart gives them
// equal weights in the backend.
func (b *builder) addPart(main string, r *routes.Route, in func(routes.Backend) bool) string {
	part := *r
	part.Backends = slices.DeleteFunc(slices.Clone(r.Backends), func(rb routes.Backend) bool { return !in(rb) })
	if !slices.ContainsFunc(part.Backends, func(rb routes.Backend) bool { return rb.Weight > 0 }) {
		for i := range part.Backends {
			part.Backends[i].Weight = routes.DefaultWeight
		}
	}
	key := fmt.Sprintf("part %s", appendFamilyKey(nil, &part))
	if name, ok := b.backends[key]; ok {
		return name
	}
	name := b.distinctName(backendName(&part, key), key)
	b.backends[key] = name
	services := make([]*service, len(part.Backends))
	for i, rb := range part.Backends {
		services[i] = b.services[rb.Ref]
	}
	reported := len(b.problems)
	b.addBackend(name, services, &part)
	b.problems = b.problems[:reported] // the backend with all services has reported them
	if last := &b.rendered[len(b.rendered)-1]; last.Limits != (haproxycfg.Limits{}) {
		last.LimitsOf = main
	}
	return name
}

// PartsPerServer returns how many backends contain a server of the route r, besides the backend of
// r itself. If the Shift of r is false, the result is 0. If Shift is true, there are two backends
// for each cluster of r: one with the services of this cluster, and one with all other services. So
// with n clusters, n of these backends contain a given server. But with two clusters, the backend
// of one cluster is also the backend without the other cluster, so the result is 1.
func PartsPerServer(r *routes.Route) int {
	clusters := 0
	for i, rb := range r.Backends {
		if i == 0 || r.Backends[i-1].Cluster != rb.Cluster {
			clusters++
		}
	}
	switch {
	case !r.Shift:
		return 0
	case clusters == 2: // with two clusters, the backend of the one is also the backend without the other
		return 1
	}
	return clusters
}
