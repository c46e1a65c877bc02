package nodeselect

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// portClaims is Annotations.AgentPorts kept up to date: who loses the agent port
// that it asks for. A change of a service looks at the ports it names, no others.
type portClaims struct {
	annotations Annotations
	reserved    []uint16
	nodePorts   map[uint16][]*corev1.Service // services that have the port on nodes, oldest first
	agents      map[uint16][]*corev1.Service // services that ask for it, oldest first
	lost        map[string]Problem           // by Ref.Key
}

func newPortClaims(annotations Annotations, reserved []uint16) *portClaims {
	return &portClaims{
		annotations: annotations, reserved: reserved,
		nodePorts: map[uint16][]*corev1.Service{}, agents: map[uint16][]*corev1.Service{},
		lost: map[string]Problem{},
	}
}

// replace puts a service in the place of its former self; either may be nil. It calls
// changed with the key of each service that wins or loses a port by it, or that loses
// it for another reason than before.
func (c *portClaims) replace(old, svc *corev1.Service, changed func(key string)) {
	var ports []uint16
	if old != nil && hasNodePorts(old) {
		ports = c.move(old, without, ports)
	}
	if svc != nil && hasNodePorts(svc) {
		ports = c.move(svc, with, ports)
	}
	if old != nil {
		if _, ok := c.lost[serviceKey(old)]; ok {
			delete(c.lost, serviceKey(old))
			changed(serviceKey(old))
		}
	}
	for _, port := range ports {
		c.judge(port, changed)
	}
}

// move takes a service into the lists of its ports or out of them, and appends those
// ports to ports.
func (c *portClaims) move(svc *corev1.Service, change func([]*corev1.Service, *corev1.Service) []*corev1.Service, ports []uint16) []uint16 {
	nodePort := func(port int32) {
		if port > 0 && port <= 65535 {
			update(c.nodePorts, uint16(port), svc, change)
			ports = append(ports, uint16(port))
		}
	}
	for i := range svc.Spec.Ports {
		nodePort(svc.Spec.Ports[i].NodePort)
	}
	nodePort(svc.Spec.HealthCheckNodePort)
	if port, _ := c.annotations.AgentPort(svc); port != 0 {
		update(c.agents, port, svc, change)
		ports = append(ports, port)
	}
	return ports
}

func update(lists map[uint16][]*corev1.Service, port uint16, svc *corev1.Service, change func([]*corev1.Service, *corev1.Service) []*corev1.Service) {
	if list := change(lists[port], svc); len(list) > 0 {
		lists[port] = list
	} else {
		delete(lists, port)
	}
}

func with(list []*corev1.Service, svc *corev1.Service) []*corev1.Service {
	i, found := slices.BinarySearchFunc(list, svc, compareAge)
	if found {
		return list // one service may name a port twice
	}
	return slices.Insert(list, i, svc)
}

func without(list []*corev1.Service, svc *corev1.Service) []*corev1.Service {
	if i, found := slices.BinarySearchFunc(list, svc, compareAge); found {
		return slices.Delete(list, i, i+1)
	}
	return list
}

// compareAge is the order in which agent ports are given out.
func compareAge(a, b *corev1.Service) int {
	return cmp.Or(
		a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
		strings.Compare(a.Namespace, b.Namespace),
		strings.Compare(a.Name, b.Name),
	)
}

// judge says anew who has a port.
func (c *portClaims) judge(port uint16, changed func(key string)) {
	taken := ""
	if on := c.nodePorts[port]; len(on) > 0 {
		svc := on[len(on)-1]
		taken = "it is a node port of " + serviceObject(svc)
		if svc.Spec.HealthCheckNodePort == int32(port) {
			taken = "it is the health check node port of " + serviceObject(svc)
		}
	} else if slices.Contains(c.reserved, port) {
		taken = "it is reserved"
	}
	for _, svc := range c.agents[port] {
		key := serviceKey(svc)
		before, had := c.lost[key]
		if taken == "" {
			taken = "it is the agent port of " + serviceObject(svc)
			if had {
				delete(c.lost, key)
				changed(key)
			}
			continue
		}
		problem := annotationProblem(serviceObject(svc), c.annotations.name("agent-port"), fmt.Sprint(port), "the service has no agent, because "+taken)
		if problem != before {
			c.lost[key] = problem
			changed(key)
		}
	}
}

func serviceKey(svc *corev1.Service) string { return svc.Namespace + "/" + svc.Name }
