package edge

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

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
	// Until is the time at which the share ends, in whole seconds: from then on, HAProxy uses the
	// declared weights. The zero time means that the share does not end.
	Until time.Time
}

// Value returns the text of the share in the map ShiftMap: Points, Cluster and the end of the share
// in seconds since 1970, such as "2500/east/1790000000". If Until is zero, it is "2500/east". If
// Cluster is empty, it is "0/-".
func (s Share) Value() string {
	if s.Cluster == "" {
		return "0/-" // no cluster has this name
	}
	value := strconv.Itoa(s.Points) + "/" + s.Cluster
	if !s.Until.IsZero() {
		value += "/" + strconv.FormatInt(max(0, s.Until.Unix()), 10)
	}
	return value
}

// Quorum is the share, in percent, of a cluster's servers that HAProxy must be able to use before a
// shift sends requests to the cluster.
const Quorum = 50

// least returns the given percentage of n servers, rounded up to a whole number of servers, and at
// least 1.
func least(n, percent int) int { return max(1, (n*percent+99)/100) }

// addParts adds two backends for each cluster of the route r: one with the servers in the cluster,
// and one with all other servers. A shift divides the requests between these two. name is the
// backend with all servers of the route.
func (b *builder) addParts(name string, r *routes.Route) {
	b.shares = append(b.shares, haproxycfg.MapEntry{Key: name, Value: b.edge.Shares[r.Name()].Value()})
	for i, rb := range r.Backends {
		cluster := rb.Cluster
		if i > 0 && r.Backends[i-1].Cluster == cluster { // the backends of a route are sorted by cluster
			continue
		}
		of := func(rb routes.Backend) bool { return rb.Cluster == cluster }
		others := func(rb routes.Backend) bool { return rb.Cluster != cluster }
		only, onlyServers := b.addPart(name, r, of)
		rest, restServers := b.addPart(name, r, others)
		b.parts = append(b.parts, haproxycfg.MapEntry{
			Key: name + "/" + cluster, Value: fmt.Sprintf("%s/%s/%d/%d", only, rest, least(onlyServers, Quorum), least(restServers, Quorum)),
		})
	}
}

// addPart returns the name of a backend, and the number of its servers that can receive requests.
// The backend has those services of the route r for which the function "in" returns true. addPart
// adds the backend if it does not exist yet. If all these services have the weight 0, as those of a
// new cluster usually do, addPart sets equal weights.
func (b *builder) addPart(main string, r *routes.Route, in func(routes.Backend) bool) (name string, servers int) {
	part := *r
	part.Backends = slices.DeleteFunc(slices.Clone(r.Backends), func(rb routes.Backend) bool { return !in(rb) })
	if !slices.ContainsFunc(part.Backends, func(rb routes.Backend) bool { return rb.Weight > 0 }) {
		for i := range part.Backends {
			part.Backends[i].Weight = routes.DefaultWeight
		}
	}
	key := fmt.Sprintf("part %s", appendFamilyKey(nil, &part))
	if name, ok := b.partNames[key]; ok {
		return name, b.partServers[name]
	}
	name = b.distinctName(b.edge.backendName(&part, key), key)
	services := make([]*service, len(part.Backends))
	for i, rb := range part.Backends {
		services[i] = b.services[rb.Ref]
	}
	reported := len(b.problems)
	b.addBackend(name, services, &part)
	b.problems = b.problems[:reported] // the backend with all services has reported them
	last := &b.rendered[len(b.rendered)-1]
	if last.Limits != (haproxycfg.Limits{}) {
		last.LimitsOf = main
	}
	if b.partNames == nil {
		b.partNames, b.partServers = map[string]string{}, map[string]int{}
	}
	b.partNames[key] = name
	for i := range last.Servers {
		if last.Servers[i].Weight != haproxycfg.NoTraffic {
			servers++
		}
	}
	b.partServers[name] = servers
	return name, servers
}

// Parts are two backends between which a shift divides the requests of a route.
type Parts struct {
	Only, Rest string // the names of the backends: of the cluster, and of all other clusters
	// MinOnly and MinRest are the numbers of servers that HAProxy must be able to use in each of
	// the two backends.
	MinOnly, MinRest int
}

// ParseParts parses a value of PartsMap. ok is false if the text is not such a value.
func ParseParts(text string) (p Parts, ok bool) {
	fields := strings.Split(text, "/")
	if len(fields) != 4 {
		return Parts{}, false
	}
	p.Only, p.Rest = fields[0], fields[1]
	var err1, err2 error
	p.MinOnly, err1 = strconv.Atoi(fields[2])
	p.MinRest, err2 = strconv.Atoi(fields[3])
	return p, err1 == nil && err2 == nil
}

// PartsPerServer returns how many backends contain a server of the route r, besides the backend of
// r itself. With Shift, each cluster has two backends: one with its own services, and one with all
// others. A server is in one of these two. So the result is
//
//   - the number of clusters, with Shift and more than two clusters,
//   - 1, with Shift and two clusters: one cluster has all services that are not in the other, so
//     both clusters share the same two backends,
//   - 1, with Prefer and without Shift,
//   - 0, without Prefer and Shift.
func PartsPerServer(r *routes.Route) int {
	clusters := 0
	for i, rb := range r.Backends {
		if i == 0 || r.Backends[i-1].Cluster != rb.Cluster {
			clusters++
		}
	}
	switch {
	case !r.Shift && len(r.Prefer) > 0:
		return 1
	case !r.Shift:
		return 0
	case clusters == 2: // with two clusters, the backend of the one is also the backend without the other
		return 1
	}
	return clusters
}
