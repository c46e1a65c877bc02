package change

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// These are texts for the fields Effect and Instead of a Finding: what happens to the traffic, and
// what the user should do instead of the change.
const (
	loseEffect = "Load balancers send requests to the node port until somebody has deployed a configuration without it to all of them. These requests fail."

	releaseInstead = "Remove the service from the declarations, or declare another service. When all load balancers have the new configuration, allow the change."
	moveInstead    = "Keep the node port. To use another one, create a second Service with it, and add this Service to the backends of the declarations. " +
		"When all load balancers have the new configuration, remove the first Service from the declarations, and then from the cluster."
	renameInstead = "Keep the port. To use another name, add a second port with this name and another number, and change the declarations. " +
		"When all load balancers have the new configuration, allow the removal of the old port."
	takeInstead = "Choose another node port, or wait until all load balancers have a configuration without the old service."
)

// port is a port of a Service, before or after a change.
type port struct {
	name     string
	number   int32
	protocol corev1.Protocol
	nodePort int32 // 0: none, or the API server chooses it
}

func (p *port) label() string {
	if p.name != "" {
		return p.name
	}
	return strconv.Itoa(int(p.number))
}

func (p *port) isSame(o *port) bool {
	return p.protocol == o.protocol && (p.name == o.name || p.number == o.number)
}

// isNamed reports whether a declaration uses the port. name is the name or number of the port in
// the declaration, or "" for the only port of the Service. Declarations use only TCP ports.
func (p *port) isNamed(name string) bool {
	return p.protocol == corev1.ProtocolTCP && (name == "" || name == p.name || name == strconv.Itoa(int(p.number)))
}

func hasNodePorts(s *corev1.Service) bool {
	return s != nil && (s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer)
}

// portsOf returns the ports of a Service. If the type of the Service has no node ports, the field
// nodePort of each port is 0.
func portsOf(s *corev1.Service) []port {
	if s == nil {
		return nil
	}
	ports := make([]port, len(s.Spec.Ports))
	for i, p := range s.Spec.Ports {
		ports[i] = port{name: p.Name, number: p.Port, protocol: cmp.Or(p.Protocol, corev1.ProtocolTCP)}
		if hasNodePorts(s) {
			ports[i].nodePort = p.NodePort
		}
	}
	return ports
}

// portsAfter returns the ports of a Service after the change. If a new port states no node port,
// the API server keeps the node port of an old port. After a server-side apply, this is the old
// port with the same number. After an update, it is the old port with the same name. portsAfter
// cannot know how the Service will be sent, so it looks for the number first.
func portsAfter(p pair[corev1.Service]) []port {
	ports := portsOf(p.new)
	if !hasNodePorts(p.old) || !hasNodePorts(p.new) {
		return ports
	}
	used := map[int32]bool{}
	for _, x := range ports {
		used[x.nodePort] = true
	}
	before := portsOf(p.old)
	keep := func(same func(a, b *port) bool) {
		for i := range ports {
			for j := range before {
				a, b := &ports[i], &before[j]
				if a.nodePort == 0 && a.protocol == b.protocol && same(a, b) && !used[b.nodePort] {
					a.nodePort = b.nodePort
					used[b.nodePort] = true
				}
			}
		}
	}
	keep(func(a, b *port) bool { return a.number == b.number })
	keep(func(a, b *port) bool { return a.name == b.name })
	return ports
}

func find(ports []port, match func(*port) bool) *port {
	for i := range ports {
		if match(&ports[i]) {
			return &ports[i]
		}
	}
	return nil
}

// usesOf returns the uses of a Service.
func (k *checker) usesOf(s *corev1.Service) []Use { return k.uses[s.Namespace+"/"+s.Name] }

// routesOf returns the declarations that use a port of a Service.
func (k *checker) routesOf(s *corev1.Service, p *port) (routes []string) {
	for _, u := range k.usesOf(s) {
		if p.isNamed(u.Port) {
			routes = append(routes, u.Route)
		}
	}
	return routes
}

// service compares one Service before and after the change, and adds a Finding for each harmful
// difference.
func (k *checker) service(p pair[corev1.Service]) {
	if p.old == nil || p.old == p.new {
		return
	}
	switch published := k.published(p.old); {
	case p.new == nil:
		k.deleted(p)
		return
	case len(published) > 0 && !hasNodePorts(p.new):
		k.typeChanged(p, published)
	default:
		after := portsAfter(p)
		for i := range published {
			k.nodePort(p, &published[i], after)
		}
		k.names(p, published, after)
	}
	if hasNodePorts(p.old) && hasNodePorts(p.new) && !isLocal(p.old) && isLocal(p.new) {
		var routes []string
		for _, u := range k.usesOf(p.old) {
			routes = append(routes, u.Route)
		}
		k.add(p, Finding{
			Kind: ExternalTrafficPolicy, Field: "spec.externalTrafficPolicy", Change: "Cluster → Local", Routes: routes, Allow: []string{string(ExternalTrafficPolicy)},
			Effect:  "A node without a ready pod of the service drops its connections. Load balancers that do not follow EndpointSlices send requests to such nodes.",
			Instead: "Keep the policy Cluster. Or let all load balancers use only nodes with ready pods: the terminator does this with -local-endpoints.",
		})
	}
}

func isLocal(s *corev1.Service) bool {
	return s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// published returns the ports of a Service whose node ports are published, so that load balancers
// may use them. The package documentation says which node ports count as published.
func (k *checker) published(s *corev1.Service) []port {
	if !hasNodePorts(s) || s.Spec.Type != corev1.ServiceTypeNodePort && len(k.usesOf(s)) == 0 {
		return nil
	}
	return slices.DeleteFunc(portsOf(s), func(p port) bool { return p.nodePort == 0 })
}

func (k *checker) deleted(p pair[corev1.Service]) {
	f := Finding{Kind: ServiceDeleted, Field: "metadata.name", Change: "the Service is deleted", Effect: loseEffect, Instead: releaseInstead}
	for _, u := range k.usesOf(p.old) {
		f.Routes = append(f.Routes, u.Route)
	}
	published := k.published(p.old)
	f.Allow = numbers(published)
	switch {
	case len(published) > 0:
		f.Change += ", with " + listOf("node port", f.Allow)
	case len(f.Routes) > 0:
		f.Allow = []string{string(ServiceDeleted)}
		f.Effect = "The declarations name a Service that does not exist, so their routes lose a backend."
	default:
		return
	}
	k.add(p, f)
}

func (k *checker) typeChanged(p pair[corev1.Service], published []port) {
	f := Finding{Kind: TypeChanged, Field: "spec.type", Effect: loseEffect, Instead: releaseInstead, Allow: numbers(published)}
	f.Change = fmt.Sprintf("%s → %s drops %s", p.old.Spec.Type, cmp.Or(p.new.Spec.Type, corev1.ServiceTypeClusterIP), listOf("node port", f.Allow))
	for i := range published {
		f.Routes = append(f.Routes, k.routesOf(p.old, &published[i])...)
	}
	k.add(p, f)
}

func numbers(ports []port) (words []string) {
	for _, p := range ports {
		words = append(words, strconv.Itoa(int(p.nodePort)))
	}
	return words
}

// listOf returns a list such as "node ports 30080, 30081".
func listOf(what string, words []string) string {
	if len(words) > 1 {
		what += "s"
	}
	return what + " " + strings.Join(words, ", ")
}

// nodePort adds a Finding if the change affects the node port of a published port.
func (k *checker) nodePort(p pair[corev1.Service], old *port, after []port) {
	number := strconv.Itoa(int(old.nodePort))
	f := Finding{
		Field: "spec.ports[" + old.label() + "].nodePort", Routes: k.routesOf(p.old, old), Allow: []string{number},
		Effect: loseEffect, Instead: moveInstead,
	}
	holder := find(after, func(x *port) bool { return x.nodePort == old.nodePort && x.protocol == old.protocol })
	same := find(after, old.isSame)
	switch {
	case holder != nil && holder.isSame(old):
		return
	case holder != nil:
		f.Kind, f.Change = NodePortTaken, fmt.Sprintf("port %s of the same Service gets %s", holder.label(), number)
		f.Effect = "Requests for port " + old.label() + " reach port " + holder.label() + "."
	case same != nil && same.nodePort != 0:
		f.Kind, f.Change = NodePortChanged, fmt.Sprintf("%s → %d", number, same.nodePort)
	case same != nil:
		f.Kind, f.Change = NodePortChanged, number+" → a number that the API server chooses"
	default:
		f.Kind, f.Change, f.Instead = NodePortDropped, number+" is dropped", releaseInstead
	}
	k.add(p, f)
}

// The method "names" adds findings about ports that declarations use by a name or number, if no
// port has this name or number after the change. There is one exception: if the port is removed and
// also loses its published node port, the method nodePort has already added a finding.
func (k *checker) names(p pair[corev1.Service], published, after []port) {
	for _, u := range k.usesOf(p.old) {
		named := func(x *port) bool { return x.isNamed(u.Port) }
		old := find(portsOf(p.old), named)
		if old == nil || find(after, named) != nil {
			continue
		}
		f := Finding{
			Field: "spec.ports[" + old.label() + "]", Routes: []string{u.Route}, Allow: []string{cmp.Or(u.Port, old.label())},
			Effect: "The declaration names a port that does not exist, so its route loses this backend with the next configuration.", Instead: renameInstead,
		}
		renamed := find(after, old.isSame)
		switch {
		case renamed == nil && find(published, old.isSame) != nil:
			continue // the node port is dropped
		case renamed == nil:
			f.Kind, f.Change = PortRemoved, "port "+old.label()+" is removed"
		case renamed.name != old.name:
			f.Kind, f.Change = PortRenamed, fmt.Sprintf("the name %q → %q", old.name, renamed.name)
		default:
			f.Kind, f.Change = PortRenamed, fmt.Sprintf("the number %d → %d", old.number, renamed.number)
		}
		k.add(p, f)
	}
}

// claim is a node port that a Service has.
type claim struct {
	service pair[corev1.Service]
	port    port
}

func nameOf(p pair[corev1.Service]) string {
	s := cmp.Or(p.new, p.old)
	return s.Namespace + "/" + s.Name
}

// taken adds a Finding for each node port that the change gives to a Service, if another Service
// has the same node port before or after the change.
func (k *checker) taken() {
	type key struct {
		number   int32
		protocol corev1.Protocol
	}
	before, after := map[key]claim{}, map[key][]claim{}
	for _, p := range k.services {
		old, now := portsOf(p.old), portsAfter(p)
		if hasNodePorts(p.old) && p.old.Spec.HealthCheckNodePort != 0 {
			health := port{name: "health check", protocol: corev1.ProtocolTCP, nodePort: p.old.Spec.HealthCheckNodePort}
			old = append(old, health)
			if hasNodePorts(p.new) && isLocal(p.new) {
				now = append(now, health)
			}
		}
		for _, x := range old {
			before[key{x.nodePort, x.protocol}] = claim{p, x}
		}
		for _, x := range now {
			after[key{x.nodePort, x.protocol}] = append(after[key{x.nodePort, x.protocol}], claim{p, x})
		}
	}
	for key, claims := range after {
		if key.number == 0 {
			continue
		}
		for _, c := range claims {
			if c.service.old == c.service.new {
				continue
			}
			owner, had := before[key]
			other := slices.IndexFunc(claims, func(o claim) bool { return nameOf(o.service) != nameOf(c.service) })
			f := Finding{Kind: NodePortTaken, Field: "spec.ports[" + c.port.label() + "].nodePort", Instead: takeInstead}
			switch {
			case had && nameOf(owner.service) == nameOf(c.service):
				continue // it keeps its own node port
			case other >= 0:
				f.Change = fmt.Sprintf("%d belongs to Service %s", key.number, nameOf(claims[other].service))
				f.Effect = "The API server refuses the Service, because a node port belongs to one Service."
			case had:
				f.Change = fmt.Sprintf("%d belonged to Service %s until now", key.number, nameOf(owner.service))
				f.Effect = fmt.Sprintf("Load balancers that still have the old configuration send the requests for Service %s to this Service.", nameOf(owner.service))
				f.Routes = k.routesOf(owner.service.old, &owner.port)
				f.Allow = []string{strconv.Itoa(int(key.number))}
			default:
				continue
			}
			k.add(c.service, f)
		}
	}
}
