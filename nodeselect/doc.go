// Package nodeselect chooses, for each service of a Kubernetes cluster, the nodes to which an
// external load balancer sends the traffic of the service.
//
// A balancer that checks every node for every service spends most of its work on checks. This
// package gives each service a fixed number of nodes, 20 by default, which change only if a node
// joins the cluster, leaves it or becomes unusable:
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
// A [Tracker] does the same as a Selector for objects that change: Tracker.Update receives the
// changed objects, and returns the Selection that Select would return for all objects, in less
// time. Call Update also when nothing changes, for example every 30 s, because a verdict may depend
// on the time.
//
// # Verdicts
//
// A [Predicate] is a function that judges a node at a time as [Eligible], [Avoid] or [Excluded],
// and states the reason. A program can add its own.
//
// [DefaultPredicates] exclude nodes that must not get traffic from load balancers, that are deleted
// or that run no kube-proxy. They avoid nodes that are not ready, that are not initialised, that
// have no network, or that will soon be removed. They ignore a cordon; see [NotCordoned]. README.md
// lists the labels, taints and conditions of Kubernetes.
//
// No Predicate can make a subset empty. An avoided node stays in a subset that already contains it,
// and enters another one only if there are too few Eligible nodes. An Excluded node enters a subset
// only if the cluster has no other nodes. A node without a usable address never enters a subset.
//
// Selection.Findings contains the reason for each node that is not Eligible. Selection.Problems
// contains a warning if subsets contain such nodes.
//
// Selector.Explain says for each node of a cluster why it is, or is not, in the subset of one
// service.
//
// # Subsets
//
// The subset of a service is the set of nodes that rank best for it by rendezvous hashing of
// "namespace/name" and the Identity of the node, by default its address. So all processes that see
// the same nodes choose the same subsets; see package hashring. If a node leaves a cluster of N
// nodes, or joins it, most subsets stay the same: with K nodes for each service, about K/N of the
// services exchange one node.
//
// All ports of a service share one subset, so the balancer needs to check a node only once for all
// ports.
//
// With Selector.Spread, a subset has as many nodes from each zone (label
// topology.kubernetes.io/zone) as possible. With Selector.Sticky, a service keeps its present nodes
// even if others rank better. [DiffSubsets] compares two selections.
//
// A service with externalTrafficPolicy Local drops traffic on nodes without a ready pod.
// Objects.ReadyNodes contains the nodes with a ready pod, and live.Watcher can set it. The service
// gets only nodes from this list. If the list is unknown, or names no usable node, the Selection
// has a warning that nodes may drop traffic.
//
// # Contract
//
// All functions are pure: they use no clock, no file and no logger, and do not change the objects
// that a caller passes. The results of a Tracker depend only on the changes that it has received.
// Values are safe for concurrent reads.
//
// # What it does not do
//
// It does not decide which nodes may be replaced at the same time; package disruption does. It does
// not check the health of nodes or pods. Except with Selector.LocalWeights, nodes have no weights:
// the balancer must find out which node is faster.
package nodeselect
