package lab

import (
	"fmt"
	"net/netip"
)

// Network contains the addresses of all machines: a /24 for each cluster. Outside Network, each
// cluster has a /16 for pods and a /16 for services. These networks do not overlap.
var Network = netip.MustParsePrefix("10.64.0.0/16")

// Gateway is the address of the bridge: the address of the lab itself in Network.
var Gateway = netip.MustParseAddr("10.64.0.1")

// The networks have room for this many clusters, nodes of each cluster, pods of each node, and
// machines that belong to no cluster.
const (
	maxClusters = 8
	maxNodes    = 200
	maxPods     = 250
	maxMachines = 200
)

// MachineAddr returns the address of a machine that belongs to no cluster. i is the number of the
// machine among these machines, beginning with 0.
func MachineAddr(i int) (netip.Addr, error) {
	if i < 0 || i >= maxMachines {
		return netip.Addr{}, fmt.Errorf("lab: machine %d: at most %d", i, maxMachines)
	}
	return netip.AddrFrom4([4]byte{10, 64, 0, byte(10 + i)}), nil
}

// ClusterPlan contains the addresses of one cluster.
type ClusterPlan struct {
	index byte
	// Control is the address of the machine with etcd and the API server.
	Control netip.Addr
	// Pods is the network of the cluster's pods. Services is the network of the cluster IPs of its
	// Services.
	Pods, Services netip.Prefix
}

// PlanCluster returns the addresses of cluster i.
func PlanCluster(i int) (ClusterPlan, error) {
	if i < 0 || i >= maxClusters {
		return ClusterPlan{}, fmt.Errorf("lab: cluster %d: at most %d", i, maxClusters)
	}
	c := byte(i)
	return ClusterPlan{
		index:    c,
		Control:  netip.AddrFrom4([4]byte{10, 64, c + 1, 1}),
		Pods:     netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 80 + c, 0, 0}), 16),
		Services: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 96 + c, 0, 0}), 16),
	}, nil
}

// NodePlan contains the addresses of one node.
type NodePlan struct {
	// Addr is the address of the node in Network.
	Addr netip.Addr
	// Pods is the network of the pods on the node. PodGateway is the address of the node in that
	// network.
	Pods       netip.Prefix
	PodGateway netip.Addr
}

// Node returns the addresses of node i in the cluster.
func (c ClusterPlan) Node(i int) (NodePlan, error) {
	if i < 0 || i >= maxNodes {
		return NodePlan{}, fmt.Errorf("lab: node %d: at most %d", i, maxNodes)
	}
	pods := [4]byte{10, 80 + c.index, byte(i + 1), 0}
	gateway := pods
	gateway[3] = 1
	return NodePlan{
		Addr:       netip.AddrFrom4([4]byte{10, 64, c.index + 1, byte(11 + i)}),
		Pods:       netip.PrefixFrom(netip.AddrFrom4(pods), 24),
		PodGateway: netip.AddrFrom4(gateway),
	}, nil
}

// Pod returns the address of pod i on the node.
func (n NodePlan) Pod(i int) (netip.Addr, error) {
	if i < 0 || i >= maxPods {
		return netip.Addr{}, fmt.Errorf("lab: pod %d of a node: at most %d", i, maxPods)
	}
	a := n.Pods.Addr().As4()
	a[3] = byte(2 + i)
	return netip.AddrFrom4(a), nil
}
