package live

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// endpointSlices is the label selector for the EndpointSlices of services with a cluster IP. It
// leaves out headless services, because they have no node ports.
const endpointSlices = discoveryv1.LabelServiceName + ",!" + corev1.IsHeadlessService

func isLocal(svc *corev1.Service) bool {
	return svc != nil && svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// pods computes Objects.ReadyNodes from EndpointSlices: for each service with externalTrafficPolicy
// Local, the nodes with a ready pod. The key of a service is "namespace/name".
type pods struct {
	changed func(key string, nodes []string)   // called when the nodes of a service change
	count   bool                               // if true, the list of a service contains the name of a node once for each pod
	listed  bool                               // true once all EndpointSlices are known; pods does not call changed before
	local   map[string][]string                // services with externalTrafficPolicy Local, with the nodes of the last report
	slices  map[string]slicePods               // the pods of each EndpointSlice, by its namespace and name
	family  map[string]discoveryv1.AddressType // the IP family of each service that has only one
	byKey   map[string]map[string]bool         // names of the EndpointSlices of each service
}

// slicePods contains the names of the nodes on which the pods of one EndpointSlice run: the nodes
// with a ready pod, and the nodes with a pod that terminates but still serves.
type slicePods struct {
	service        string // "namespace/name"
	family         discoveryv1.AddressType
	ready, serving []string
}

// setListed notes that all EndpointSlices are known.
func (p *pods) setListed() {
	p.listed = true
	for key := range p.local {
		p.report(key)
	}
}

// setService stores two properties of the service: whether its externalTrafficPolicy is Local, and
// its IP family if it has only one. They decide which pods of the service count. svc is nil if the
// service is deleted.
func (p *pods) setService(key string, svc *corev1.Service) {
	before := p.family[key]
	delete(p.family, key)
	if isLocal(svc) && len(svc.Spec.IPFamilies) == 1 {
		set(&p.family, key, discoveryv1.AddressType(svc.Spec.IPFamilies[0]))
	}
	p.setLocal(key, isLocal(svc))
	if p.family[key] != before {
		p.report(key)
	}
}

// setLocal notes whether a service has externalTrafficPolicy Local.
func (p *pods) setLocal(key string, local bool) {
	_, before := p.local[key]
	switch {
	case local && !before:
		set(&p.local, key, nil)
		p.report(key)
	case !local && before:
		delete(p.local, key)
		if p.listed {
			p.changed(key, nil)
		}
	}
}

// setSlice replaces the EndpointSlice with this name ("namespace/name"). If slice is nil, setSlice
// deletes it.
func (p *pods) setSlice(name string, slice *discoveryv1.EndpointSlice) {
	old, found := p.slices[name]
	if found {
		delete(p.slices, name)
		delete(p.byKey[old.service], name)
		if len(p.byKey[old.service]) == 0 {
			delete(p.byKey, old.service)
		}
	}
	now := slicePods{}
	if slice != nil {
		now = podsOf(slice)
		set(&p.slices, name, now)
		if p.byKey[now.service] == nil {
			set(&p.byKey, now.service, map[string]bool{})
		}
		p.byKey[now.service][name] = true
	}
	if found && old.service != now.service {
		p.report(old.service)
	}
	p.report(now.service)
}

// report calls the function "changed" if the nodes with a ready pod of a service have changed since
// the last call of report. It ignores services without externalTrafficPolicy Local.
func (p *pods) report(key string) {
	before, local := p.local[key]
	if !local || !p.listed {
		return
	}
	nodes := p.nodes(key)
	if !slices.Equal(nodes, before) {
		p.local[key] = nodes
		p.changed(key, nodes)
	}
}

// nodes returns the nodes with a ready pod of a service. If the service has no ready pod, nodes
// returns the nodes with pods that terminate but still serve, because kube-proxy uses these pods.
func (p *pods) nodes(key string) []string {
	var ready, serving []string
	family := p.family[key]
	for name := range p.byKey[key] {
		if of := p.slices[name].family; family != "" && of != "" && of != family {
			continue // kube-proxy uses only the families of the service
		}
		ready = append(ready, p.slices[name].ready...)
		serving = append(serving, p.slices[name].serving...)
	}
	if len(ready) == 0 {
		ready = serving
	}
	slices.Sort(ready)
	if !p.count {
		ready = slices.Compact(ready)
	}
	return slices.Clip(ready)
}

func podsOf(slice *discoveryv1.EndpointSlice) slicePods {
	pods := slicePods{service: keyOf(slice.Namespace, slice.Labels[discoveryv1.LabelServiceName]), family: slice.AddressType}
	if slice.AddressType == discoveryv1.AddressTypeFQDN {
		return pods // kube-proxy ignores names
	}
	for i := range slice.Endpoints {
		switch e := &slice.Endpoints[i]; podStateOf(e) {
		case podReady:
			pods.ready = append(pods.ready, *e.NodeName)
		case podServing:
			pods.serving = append(pods.serving, *e.NodeName)
		}
	}
	return pods
}

// podState is the state of a pod. A greater value is a better state.
type podState uint8

const (
	podUnusable podState = iota // it does not serve, or its node is unknown
	podServing                  // it terminates and still serves
	podReady
)

// podStateOf returns the state of a pod from the conditions of its endpoint. If the condition
// "ready" is missing, the pod is ready: the API defines it so.
func podStateOf(e *discoveryv1.Endpoint) podState {
	c := &e.Conditions
	switch {
	case e.NodeName == nil || *e.NodeName == "":
		return podUnusable
	case c.Ready == nil || *c.Ready:
		return podReady
	case c.Serving != nil && *c.Serving:
		return podServing
	}
	return podUnusable
}

// trimCountedSlice returns a small copy of an EndpointSlice. The copy has one endpoint for each pod
// of the slice that is ready or serves. These endpoints have no addresses.
func trimCountedSlice(slice *discoveryv1.EndpointSlice) (*discoveryv1.EndpointSlice, bool) {
	trimmed := emptySlice(slice)
	for i := range slice.Endpoints {
		if e := &slice.Endpoints[i]; podStateOf(e) > podUnusable {
			trimmed.Endpoints = append(trimmed.Endpoints, endpointOn(*e.NodeName, podStateOf(e)))
		}
	}
	return trimmed, true
}

func emptySlice(slice *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	trimmed := &discoveryv1.EndpointSlice{AddressType: slice.AddressType}
	trimmed.Namespace, trimmed.Name = slice.Namespace, slice.Name
	trimmed.Labels = map[string]string{discoveryv1.LabelServiceName: slice.Labels[discoveryv1.LabelServiceName]}
	return trimmed
}

func endpointOn(node string, state podState) discoveryv1.Endpoint {
	ready, serving := state == podReady, true
	return discoveryv1.Endpoint{
		NodeName:   &node,
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving},
	}
}

// trimSlice returns a small copy of an EndpointSlice. The copy has one endpoint for each node. This
// endpoint has the best state among the node's pods.
func trimSlice(slice *discoveryv1.EndpointSlice) (*discoveryv1.EndpointSlice, bool) {
	best := map[string]podState{}
	for i := range slice.Endpoints {
		if e := &slice.Endpoints[i]; podStateOf(e) > podUnusable {
			best[*e.NodeName] = max(best[*e.NodeName], podStateOf(e))
		}
	}
	trimmed := emptySlice(slice)
	trimmed.Endpoints = make([]discoveryv1.Endpoint, 0, len(best))
	for _, name := range slices.Sorted(maps.Keys(best)) {
		trimmed.Endpoints = append(trimmed.Endpoints, endpointOn(name, best[name]))
	}
	return trimmed, true
}

// ReadyNodes returns the nodes with a ready pod of each service, for nodeselect.Objects.ReadyNodes.
// Use it in a program that reads all EndpointSlices without a Watcher. ReadyNodes ignores these
// EndpointSlices:
//
//   - those of headless services;
//   - those with the addressType FQDN;
//   - those with an IP family that their service does not have.
func ReadyNodes(services []*corev1.Service, list []*discoveryv1.EndpointSlice) map[string][]string {
	return readyNodes(services, list, false)
}

// ReadyPods returns the nodes with a ready pod of each service, as ReadyNodes does, but each list
// contains the name of a node once for each ready pod. nodeselect.Selector.LocalWeights needs such
// lists.
func ReadyPods(services []*corev1.Service, list []*discoveryv1.EndpointSlice) map[string][]string {
	return readyNodes(services, list, true)
}

func readyNodes(services []*corev1.Service, list []*discoveryv1.EndpointSlice, count bool) map[string][]string {
	ready := map[string][]string{}
	p := pods{count: count, changed: func(key string, nodes []string) { ready[key] = nodes }}
	for _, s := range services {
		p.setService(keyOf(s.Namespace, s.Name), s)
	}
	for _, s := range list {
		if _, headless := s.Labels[corev1.IsHeadlessService]; !headless {
			p.setSlice(keyOf(s.Namespace, s.Name), s)
		}
	}
	p.setListed()
	return ready
}
