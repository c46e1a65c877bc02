package unevenness

import "math"

// Policy says how kube-proxy on a node chooses a pod of the service for a connection.
type Policy uint8

const (
	// Cluster means that each node chooses among all pods, for each connection.
	Cluster Policy = iota
	// ClientIP means that a node sends all connections of one balancer to the same pod, as with
	// sessionAffinity ClientIP.
	ClientIP
	// Local means that each node chooses among its own pods, as with externalTrafficPolicy Local.
	Local
)

// String returns the name that Kubernetes uses.
func (p Policy) String() string {
	if int(p) < len(policies) {
		return policies[p]
	}
	return "unknown"
}

var policies = [...]string{"Cluster", "ClientIP", "Local"}

// MarshalText returns the same as String.
func (p Policy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// Service describes a service and its load.
type Service struct {
	Policy Policy
	// Pods is the number of ready pods, on all nodes of the cluster.
	Pods int
	// Nodes is the number of nodes to which the balancers send the traffic.
	Nodes int
	// LocalPods has the number of ready pods on each node to which the balancers send the traffic.
	// Estimate reads it only for the Policy Local. A node without pods gets no traffic, because the
	// balancer's health checks of this node fail.
	LocalPods []int
	// Weights are the weights that the balancers give to the nodes, in the order of LocalPods. nil
	// means that all nodes with pods have the same weight.
	Weights []int
	// Balancers is the number of balancers. 0 means 1.
	Balancers int
	// InFlight is the mean number of requests of this service that are in flight from one balancer
	// to one node; see Effective.
	InFlight float64
	// Connections describes how unevenly the connections of clients load the pods. It is the number
	// of connections, all with the same load, that would make the loads of the pods differ as much as
	// the real connections do. 0 means that Estimate computes it from InFlight; see Effective.
	Connections float64
}

// Estimate is an estimate of the load of the pods of a service.
type Estimate struct {
	Policy Policy `json:"policy"`
	Pods   int    `json:"pods"`
	// Connections is the number of effective connections.
	Connections float64 `json:"connections"`
	// P50 and P99 describe the load of the busiest pod, as a multiple of the mean load of all pods.
	// The load of the busiest pod is at most P50 with a probability of 50%, and at most P99 with a
	// probability of 99%.
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	// Idle is the expected number of pods without traffic.
	Idle float64 `json:"idle"`
	// MorePods is how many more pods the service needs so that the busiest pod has at most the
	// target load, a multiple of the present mean, with a probability of 99%. -1 means that more
	// pods do not help: see PodsFor.
	MorePods int `json:"morePods"`
}

// DefaultTarget is the target load for Estimate.MorePods if the caller names none. It is a multiple
// of the present mean load of the pods.
const DefaultTarget = 1.5

// Estimate computes the load of the pods. target is the target load for Estimate.MorePods; 0 or
// less means DefaultTarget.
//
// With the Policy Local, each node of LocalPods with pods gets a load in proportion to its weight,
// and spreads it over its own pods. Pods on other nodes get no load. The result is exact if each
// pod has many connections. MorePods assumes that each new pod starts on a node of LocalPods that
// has too few pods, and that the weights stay the same.
func (s Service) Estimate(target float64) Estimate {
	if !(target > 0) {
		target = DefaultTarget
	}
	balancers := max(s.Balancers, 1)
	e := Estimate{Policy: s.Policy, Pods: s.Pods}
	switch {
	case s.Policy == ClientIP:
		e.Connections = float64(s.Nodes * balancers)
	case s.Connections > 0:
		e.Connections = s.Connections
	default:
		e.Connections = Effective(s.Nodes, balancers, s.InFlight)
	}
	switch {
	case s.Pods <= 0 || s.Nodes <= 0:
		return e
	case s.Policy == Local:
		s.local(&e, target)
		return e
	}
	e.P50, e.P99 = Worst(s.Pods, e.Connections, 0.5), Worst(s.Pods, e.Connections, 0.99)
	e.Idle = Idle(s.Pods, e.Connections)
	e.MorePods = -1
	if n, ok := PodsFor(target, s.Pods, e.Connections, 0.99); ok {
		e.MorePods = n - s.Pods
	}
	return e
}

func (s Service) local(e *Estimate, target float64) {
	reached, weights := 0, 0
	weight := func(i int) int {
		if s.LocalPods[i] <= 0 || i >= len(s.Weights) && s.Weights != nil {
			return 0
		}
		if s.Weights == nil {
			return 1
		}
		return max(s.Weights[i], 0)
	}
	for i, n := range s.LocalPods {
		if w := weight(i); w > 0 {
			weights += w
			reached += n
		}
	}
	e.Idle = float64(max(s.Pods-reached, 0))
	for i, n := range s.LocalPods {
		w := weight(i)
		if w == 0 {
			continue
		}
		node := float64(s.Pods*w) / float64(weights) // the load of the node, as a multiple of the mean load of a pod
		e.P50 = max(e.P50, node/float64(n))
		e.MorePods += max(int(math.Ceil(node/target-1e-9))-n, 0)
	}
	e.P99 = e.P50
}
