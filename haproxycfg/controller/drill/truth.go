package drill

import (
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/agentcheck/nodeagent"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
)

// truth decides which servers can serve in a World; see "When a server serves" in the package
// documentation.
type truth struct {
	checked     map[routes.Ref]bool // services whose routes all declare a check
	health      edge.NodeHealth
	maxDrain    float64
	annotations nodeselect.Annotations

	clusters map[string]*Cluster
	drains   map[string]map[string]bool // the nodes that drain, by cluster
	ports    map[routes.Ref]uint16      // the node ports that the method port has found so far
}

func (t *truth) set(w World) {
	t.clusters, t.drains, t.ports = map[string]*Cluster{}, map[string]map[string]bool{}, map[routes.Ref]uint16{}
	for i := range w.Clusters {
		c := &w.Clusters[i]
		t.clusters[c.Name] = c
		t.drains[c.Name] = t.draining(c)
	}
}

// draining returns the nodes that drain. If the agents are gone, it returns no nodes. This is a
// simplification, because HAProxy keeps the last answers of agents that are gone. It has no effect
// on the standard drills: none of them cordons nodes while the agents are gone.
func (t *truth) draining(c *Cluster) map[string]bool {
	drains := map[string]bool{}
	if t.health == edge.KubeProxyOnly || c.NoAgents {
		return drains
	}
	signals := nodeagent.DefaultSignals(t.annotations)
	nodes := nodeselect.Objects{Nodes: c.Objects.Nodes}
	for _, n := range c.Objects.Nodes {
		if !slices.ContainsFunc(signals, func(s nodeagent.Signal) bool { _, ok := s.Request(n); return ok }) {
			continue
		}
		rules := nodeagent.Rules{Node: n.Name, Signals: signals, MaxDrain: t.maxDrain, Annotations: t.annotations}
		if state, err := rules.State(nodes); err == nil && state.Drain.Effective {
			drains[n.Name] = true
		}
	}
	return drains
}

// serving returns how many of the servers of a service are serving, and how many are draining.
func (t *truth) serving(s *kube.ServiceReport) (serving, draining int) {
	c := t.clusters[s.Cluster]
	if c == nil || s.NodePort != t.port(s.Ref) || t.health == edge.NodeAgent && c.NoAgents && !t.checked[s.Ref] {
		return 0, 0
	}
	var ready []string
	local := false
	if svc := c.Objects.Service(s.Namespace, s.Service); svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		ready, local = c.Objects.ReadyNodes[s.Namespace+"/"+s.Service], c.Objects.ReadyNodes != nil
	}
	for _, node := range s.Nodes {
		switch {
		case c.Down[node]:
		case local && !slices.Contains(ready, node):
		case t.drains[s.Cluster][node]:
			draining++
		default:
			serving++
		}
	}
	return serving, draining
}

// port returns the node port of a service, or 0 if the service does not exist.
func (t *truth) port(ref routes.Ref) uint16 {
	if port, ok := t.ports[ref]; ok {
		return port
	}
	var port uint16
	if svc := t.clusters[ref.Cluster].Objects.Service(ref.Namespace, ref.Service); svc != nil {
		for _, p := range svc.Spec.Ports {
			if p.Name == ref.Port || strconv.Itoa(int(p.Port)) == ref.Port || ref.Port == "" && len(svc.Spec.Ports) == 1 {
				port = uint16(p.NodePort)
				break
			}
		}
	}
	t.ports[ref] = port
	return port
}
