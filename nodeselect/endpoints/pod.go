package endpoints

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// Pod is an endpoint of a service port. Two Pods can be compared with ==.
type Pod struct {
	Addr netip.AddrPort // address of the pod, and the port on which the pod listens
	Name string         // name of the Pod object, without the namespace; "" if unknown
	Node string         // name of the node on which the pod runs; "" if unknown
	Zone string         // zone of the node; "" if unknown

	// Ready means that the pod may get requests, according to its EndpointSlice. If a service has
	// publishNotReadyAddresses, all its pods are Ready, even if they terminate.
	Ready bool
	// Serving means that the pod passes its readiness check. A pod that terminates may still serve.
	Serving bool
	// Terminating means that the pod has been deleted and is about to stop.
	Terminating bool
}

// AcceptsRequests reports whether the pod should get new requests: it is Ready and does not
// terminate. If no pod of a service accepts requests, see InService.
func (p Pod) AcceptsRequests() bool { return p.Ready && !p.Terminating }

// InService returns the pods that get the new requests of a service, in the order of the argument.
// These are the pods that accept requests. If there are none, these are the pods that still serve
// while they terminate. kube-proxy does the same (KEP-1669).
//
// Pass the pods of all zones to InService. A terminating pod then gets requests only if no pod of
// any zone accepts requests.
func InService(pods []Pod) []Pod {
	var accepting, terminating []Pod
	for _, p := range pods {
		switch {
		case p.AcceptsRequests():
			accepting = append(accepting, p)
		case p.Terminating && p.Serving:
			terminating = append(terminating, p)
		}
	}
	if len(accepting) > 0 {
		return accepting
	}
	return terminating
}

// ByZone groups pods by zone. The key "" has the pods whose zone is unknown. The pods of a zone
// keep their order.
func ByZone(pods []Pod) map[string][]Pod {
	zones := map[string][]Pod{}
	for _, p := range pods {
		zones[p.Zone] = append(zones[p.Zone], p)
	}
	return zones
}

// condition has the three conditions of an endpoint as bits.
type condition uint8

const (
	ready condition = 1 << iota
	serving
	terminating
)

// rank returns a number for a condition: the better a pod in this condition can serve requests, the
// greater is the number. As in kube-proxy, ready pods come first, and pods that still serve while
// they terminate come next.
func (c condition) rank() int {
	rank := 0
	for _, better := range []bool{c&ready != 0, c&serving != 0, c&terminating == 0} {
		rank *= 2
		if better {
			rank++
		}
	}
	return rank
}

// candidate is what one EndpointSlice states about a pod.
type candidate struct {
	addr       netip.AddrPort
	name       string
	node, zone string
	condition  condition
	version    string // resource version of the slice; "" if unknown
}

func (c *candidate) pod() Pod {
	return Pod{
		Addr: c.addr, Name: c.name, Node: c.node, Zone: c.zone,
		Ready: c.condition&ready != 0, Serving: c.condition&serving != 0, Terminating: c.condition&terminating != 0,
	}
}

// compareCandidates orders candidates by address, and then by name. A candidate is what one
// EndpointSlice states about a pod.
//
// Candidates with the same address and name describe the same pod. The candidate from the newest
// slice comes first. If the slices are equally new, the candidate with the best condition comes
// first.
func compareCandidates(a, b candidate) int {
	if c := cmp.Or(a.addr.Compare(b.addr), strings.Compare(a.name, b.name)); c != 0 {
		return c
	}
	if c := cmp.Or(compareVersions(b.version, a.version), cmp.Compare(b.condition.rank(), a.condition.rank())); c != 0 {
		return c
	}
	// Compare the remaining fields too, so that the order never depends on which slice has arrived
	// first.
	return cmp.Or(strings.Compare(b.zone, a.zone), strings.Compare(b.node, a.node))
}

// better reports whether the candidate a has precedence over the candidate b. A candidate is what
// one EndpointSlice states about a pod. a and b have the same address and different names. The
// better condition decides, then the newer EndpointSlice, and then the greater name. So a candidate
// without a name loses.
func better(a, b *candidate) bool {
	return cmp.Or(
		cmp.Compare(a.condition.rank(), b.condition.rank()),
		compareVersions(a.version, b.version),
		strings.Compare(a.name, b.name), // prefers a known name
	) > 0
}

// compareVersions compares two resource versions, as the function cmp.Compare does for numbers.
// Each version must be well-formed or empty; an empty one is the smallest.
func compareVersions(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

// choose returns one Pod for each address, sorted by address. If a pod has addresses of both
// families, choose leaves out the addresses that are not of the preferred family. choose also
// changes the order of the elements of candidates.
func choose(candidates []candidate, preferIPv6 bool) []Pod {
	slices.SortFunc(candidates, compareCandidates)
	candidates = slices.CompactFunc(candidates, func(a, b candidate) bool { return a.addr == b.addr && a.name == b.name })
	best := candidates[:0]
	for _, c := range candidates {
		switch last := len(best) - 1; {
		case last < 0 || best[last].addr != c.addr:
			best = append(best, c)
		case better(&c, &best[last]):
			best[last] = c
		}
	}
	best = oneFamily(best, preferIPv6)
	pods := make([]Pod, len(best))
	for i := range best {
		pods[i] = best[i].pod()
	}
	return pods
}

// oneFamily removes the addresses of the family that is not preferred, if their pod also has an
// address of the preferred family. It keeps a candidate without a name, which may belong to any
// pod.
func oneFamily(candidates []candidate, preferIPv6 bool) []candidate {
	preferred := func(c candidate) bool { return c.addr.Addr().Is6() == preferIPv6 }
	if !slices.ContainsFunc(candidates, preferred) || !slices.ContainsFunc(candidates, func(c candidate) bool { return !preferred(c) }) {
		return candidates
	}
	names := make(map[string]bool, len(candidates))
	for _, c := range candidates {
		if preferred(c) {
			names[c.name] = true
		}
	}
	return slices.DeleteFunc(candidates, func(c candidate) bool { return !preferred(c) && c.name != "" && names[c.name] })
}
