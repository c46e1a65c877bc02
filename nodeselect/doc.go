// Package nodeselect chooses, for each service of a Kubernetes cluster, the nodes to which an
// external load balancer sends the traffic of the service.
//
// A balancer that checks every node for every service spends most of its work on checks. This
// package gives each service a fixed number of nodes, 20 by default. They change only if nodes join
// or leave the cluster, or become unusable:
//
//	objects, problems, err := manifest.ReadDir("manifests/eu-1")
//	…
//	selection := nodeselect.Selector{}.Select(objects, refs, time.Now(), nil)
//	for _, target := range selection.Targets {
//		fmt.Println(target.Ref, target.NodePort, target.Nodes)
//	}
//
// Package nodeselect/manifest reads objects from the output of kubectl. Package nodeselect/live
// follows a live cluster. [NewObjects] accepts the objects of any client.
//
// # Following changes
//
// A [Tracker] is a Selector for objects that change. Each Tracker.Update names the changed objects
// and returns the Selection that Select would return for all objects, in less time. Update also
// judges all nodes again, because a verdict may depend on the time. So a program calls Update now
// and then even without a change: every 30 s, for example, if a node may be avoided 30 s late.
//
// # Verdicts
//
// Predicates judge each node as [Eligible], [Avoid] or [Excluded], and state the reason.
// [DefaultPredicates] consider the label that keeps a node from load balancers, deletion,
// readiness, and the taints of autoscalers that are about to remove a node. They ignore a cordon;
// [NotCordoned] explains why. A [Predicate] is a function of a node and a time, so a program can
// add its own.
//
// A signal never makes a subset empty. A avoided node stays in its subsets, and enters others if
// there are too few Eligible nodes. Excluded nodes are picked if there are no others. Only a node
// without a usable address is never picked. Selection.Findings contains the reason for each node
// that is not Eligible. Selection.Problems contains a warning if such nodes are picked.
//
// # Subsets
//
// The subset of a service is the nodes of best rank by rendezvous hashing. The key is
// "namespace/name" of the service. The name of a node is its Identity, which is its address by
// default. The contract of package hashring follows: all processes that see the same nodes choose
// the same subsets, and a change of the nodes changes as little as possible. With N nodes and K of
// them for each service, a node that leaves changes one place in about K/N of the services, and a
// node that joins takes one place in as many.
//
// All ports of a service share one subset, because the port is not part of the key. So the balancer
// checks a node once for all of them. The cluster is not part of the key either, because clusters
// do not share nodes.
//
// Selector.Spread picks nodes evenly from the zones in the label topology.kubernetes.io/zone.
// Selector.Sticky prefers the present nodes of a service. A service with externalTrafficPolicy
// Local gets only nodes with a ready pod, if Objects.ReadyNodes names such nodes; live.Watcher can
// set it. Otherwise a warning states that some nodes may drop traffic. [DiffSubsets] compares two
// selections, so a program can look at a change before it applies it.
//
// # Contract
//
// All functions are pure: no clock, no file, no logger. The results of a Tracker depend only on the
// changes that it has received. The package does not change the objects that a caller passes. Any
// number of goroutines may read its values at the same time.
//
// # What it does not do
//
// It does not plan the order in which nodes can be replaced; [Pool.Pick] and [DiffSubsets] are the
// parts for such a plan. It does not check nodes or pods itself. Nodes have no weights: the
// balancer has to find out which node is faster.
package nodeselect
