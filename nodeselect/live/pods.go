package live

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// slicesOfServices selects the EndpointSlices of services that have an address:
// headless ones have no node ports.
const slicesOfServices = discoveryv1.LabelServiceName + ",!" + corev1.IsHeadlessService

func isLocal(svc *corev1.Service) bool {
	return svc != nil && svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// pods makes Objects.ReadyNodes of EndpointSlices, for the services that need it.
type pods struct {
	changed func(key string, nodes []string) // tells of a service whose nodes are others now
	known   bool                             // slices have been listed
	local   map[string][]string              // services that need it, and what was told of them
	slices  map[string]podsOf                // by the slice's namespace and name
	byKey   map[string]map[string]bool       // the slices of each service
}

// podsOf is what a slice says.
type podsOf struct {
	service        string // Ref.Key
	ready, serving []string
}

// listed says that all slices are known.
func (p *pods) listed() {
	p.known = true
	for key := range p.local {
		p.tell(key)
	}
}

// setLocal says whether a service needs to know.
func (p *pods) setLocal(key string, local bool) {
	_, was := p.local[key]
	switch {
	case local && !was:
		set(&p.local, key, nil)
		p.tell(key)
	case !local && was:
		delete(p.local, key)
		if p.known {
			p.changed(key, nil)
		}
	}
}

// setSlice takes a slice, or nil if it is gone.
func (p *pods) setSlice(name string, slice *discoveryv1.EndpointSlice) {
	old, had := p.slices[name]
	if had {
		delete(p.slices, name)
		delete(p.byKey[old.service], name)
		if len(p.byKey[old.service]) == 0 {
			delete(p.byKey, old.service)
		}
	}
	now := podsOf{}
	if slice != nil {
		now = readPods(slice)
		set(&p.slices, name, now)
		if p.byKey[now.service] == nil {
			set(&p.byKey, now.service, map[string]bool{})
		}
		p.byKey[now.service][name] = true
	}
	if had && old.service != now.service {
		p.tellLocal(old.service)
	}
	p.tellLocal(now.service)
}

func (p *pods) tellLocal(key string) {
	if _, local := p.local[key]; local {
		p.tell(key)
	}
}

func (p *pods) tell(key string) {
	if !p.known {
		return
	}
	nodes := p.nodes(key)
	if !slices.Equal(nodes, p.local[key]) {
		p.local[key] = nodes
		p.changed(key, nodes)
	}
}

// nodes gives the nodes with pods that are ready. If there are none, those whose pods
// are about to end and still serve: kube-proxy sends traffic to them then.
func (p *pods) nodes(key string) []string {
	var ready, serving []string
	for name := range p.byKey[key] {
		ready = append(ready, p.slices[name].ready...)
		serving = append(serving, p.slices[name].serving...)
	}
	if len(ready) == 0 {
		ready = serving
	}
	slices.Sort(ready)
	return slices.Clip(slices.Compact(ready))
}

func readPods(slice *discoveryv1.EndpointSlice) podsOf {
	pods := podsOf{service: keyOf(slice.Namespace, slice.Labels[discoveryv1.LabelServiceName])}
	for i := range slice.Endpoints {
		switch e := &slice.Endpoints[i]; podState(e) {
		case podReady:
			pods.ready = append(pods.ready, *e.NodeName)
		case podServing:
			pods.serving = append(pods.serving, *e.NodeName)
		}
	}
	return pods
}

const (
	podUseless = iota
	podServing
	podReady
)

// podState reads the conditions of an endpoint. One that is not said to be unready is
// ready, says the type.
func podState(e *discoveryv1.Endpoint) int {
	c := &e.Conditions
	switch {
	case e.NodeName == nil || *e.NodeName == "":
		return podUseless
	case c.Ready == nil || *c.Ready:
		return podReady
	case c.Serving != nil && *c.Serving:
		return podServing
	}
	return podUseless
}

// stripSlice keeps one endpoint for each node, in the best state.
func stripSlice(slice *discoveryv1.EndpointSlice) (*discoveryv1.EndpointSlice, bool) {
	best := map[string]int{}
	for i := range slice.Endpoints {
		if e := &slice.Endpoints[i]; podState(e) > podUseless {
			best[*e.NodeName] = max(best[*e.NodeName], podState(e))
		}
	}
	kept := &discoveryv1.EndpointSlice{}
	kept.Namespace, kept.Name = slice.Namespace, slice.Name
	kept.Labels = map[string]string{discoveryv1.LabelServiceName: slice.Labels[discoveryv1.LabelServiceName]}
	kept.Endpoints = make([]discoveryv1.Endpoint, 0, len(best))
	for _, name := range slices.Sorted(maps.Keys(best)) {
		ready, serving := best[name] == podReady, true
		kept.Endpoints = append(kept.Endpoints, discoveryv1.Endpoint{
			NodeName:   &name,
			Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving},
		})
	}
	return kept, true
}
