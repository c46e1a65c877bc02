// Package nodeselect chooses, for each service of a Kubernetes cluster, the nodes to which an
// external load balancer sends the traffic of the service.
//
// A balancer that checks every node for every service spends most of its work on checks. This
// package gives each service a fixed number of nodes, 20 by default. These nodes change only if
// nodes join or leave the cluster, or become unusable:
//
//	objects, problems, err := manifest.ReadDir("manifests/eu-1")
//	…
//	selection := nodeselect.Selector{}.Select(objects, refs, time.Now(), nil)
//	for _, target := range selection.Targets {
//		fmt.Println(target.Ref, target.NodePort, target.Nodes)
//	}
//
// Package nodeselect/manifest reads objects from the output of kubectl. Package nodeselect/live
// follows a live cluster. A program can also get objects from any other client, and pass them to
// [NewObjects].
//
// # Following changes
//
// A [Tracker] does the same as a Selector, for objects that change. A program passes the changed
// objects to Tracker.Update. Update returns the Selection that Select would return for all objects,
// but takes less time. Update also judges all nodes again, because a verdict may depend on the
// time. So a program should also call Update when nothing changes, for example every 30 s.
//
// # Verdicts
//
// A [Predicate] is a function of a node and a time. It judges the node as [Eligible], [Avoid] or
// [Excluded], and states the reason. A program can add its own Predicates.
//
// [DefaultPredicates] exclude nodes that must not get traffic from load balancers, that are deleted
// or that run no kube-proxy. They avoid nodes that are not ready or have no network, that are not
// initialised, or that are about to be removed. They ignore a cordon; [NotCordoned] explains why.
// README.md in this directory lists the labels, taints and conditions of Kubernetes.
//
// No Predicate can make a subset empty. An avoided node stays in a subset that already contains it.
// It enters another subset only if there are too few Eligible nodes. An Excluded node enters a
// subset only if the cluster has no Eligible and no avoided node. A node without a usable address
// never enters a subset. Selection.Findings contains the reason for each node that is not Eligible.
// Selection.Problems contains a warning if subsets contain such nodes.
//
// Selector.Explain says for each node of a cluster why it is in the subset of one service, or is
// not: also for a node that is Eligible but that the hash has not selected.
//
// # Subsets
//
// The subset of a service is the set of nodes that rank best for this service by rendezvous
// hashing. The hash has two inputs: "namespace/name" of the service, and the Identity of the node,
// which is its address by default. So the package keeps the promises of package hashring. All
// processes that see the same nodes choose the same subsets. When nodes change, as few members of
// subsets as possible change. Assume that a cluster has N nodes, and each service has K of them. If
// a node leaves, about K/N of the services get one other node. If a node joins, about K/N of the
// services replace one node by it.
//
// All ports of a service share one subset, because the port is not an input of the hash. So the
// balancer needs to check a node only once for all ports. The cluster is not an input either,
// because clusters do not share nodes.
//
// With Selector.Spread, a subset has the same number of nodes from each zone, as far as possible.
// The zone of a node is in the label topology.kubernetes.io/zone. With Selector.Sticky, a service
// keeps its present nodes even if other nodes rank better. [DiffSubsets] compares two selections,
// so a program can show a change before it applies the change.
//
// A service with externalTrafficPolicy Local drops traffic on nodes without a ready pod.
// Objects.ReadyNodes contains the nodes with a ready pod; live.Watcher can set it. If ReadyNodes
// has nodes for the service, the service gets only nodes from this list. Otherwise a warning states
// that some nodes may drop traffic.
//
// # Contract
//
// All functions are pure: they use no clock, no file and no logger. The results of a Tracker depend
// only on the changes that it has received. The package does not change the objects that a caller
// passes. Any number of goroutines may read its values at the same time.
//
// # What it does not do
//
// It does not decide which nodes may be replaced at the same time; package disruption does. The
// package does not check the health of nodes or pods. Except with Selector.LocalWeights, nodes have
// no weights: the balancer must find out which node is faster.
package nodeselect
