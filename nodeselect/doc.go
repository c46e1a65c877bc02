// Package nodeselect chooses the nodes of a Kubernetes cluster that a load
// balancer outside of it sends each service's traffic to.
//
// A balancer that checks every node for every service spends most of its work
// on checks. Here each service gets a fixed number of nodes, 20 unless told
// otherwise, that stay the same while the nodes stand:
//
//	objects, problems, err := manifest.ReadDir("manifests/eu-1")
//	…
//	selection := nodeselect.Selector{}.Select(objects, refs, time.Now(), nil)
//	for _, target := range selection.Targets {
//		fmt.Println(target.Ref, target.NodePort, target.Nodes)
//	}
//
// Package nodeselect/manifest reads objects from what kubectl prints. Package nodeselect/live
// follows a live cluster. [NewObjects] accepts the objects of any client.
//
// # Following changes
//
// A [Tracker] is a Selector for objects that change. Each call of Tracker.Update names the changes
// and returns the Selection that Select would return for all objects, at a cost that depends on the
// changes. Nodes are judged again in each Update, because a verdict may depend on the time. A program
// that uses a Tracker therefore calls Update now and then even without a change; the interval is how
// much later than Ready allows a node can be avoided.
//
// # Which nodes
//
// Predicates judge each node: [Eligible], [Avoid] or [Excluded], with the
// reason. [DefaultPredicates] heed the label that keeps nodes from load
// balancers, deletion, readiness, and the taints of autoscalers that are about
// to remove a node. A cordon is not among them, see [NotCordoned]. A
// [Predicate] of one's own is a function of a node and a time.
//
// A signal never empties a subset. Nodes to avoid keep the places they have,
// and fill places that eligible nodes cannot; excluded nodes are used when
// there are no others at all. Only a node that cannot be reached, for want of
// an address, is never used. Whoever is overruled is told so:
// Selection.Findings has the reason for each node that is not eligible,
// Selection.Problems the warning.
//
// # Which of them for a service
//
// The best by rendezvous hashing of "namespace/name" and the node's Identity,
// by default its address (package hashring has the contract). So every process
// that sees the same nodes chooses the same subsets, and a node that comes or
// goes changes no more of them than it must: of N nodes with K for each
// service, one that leaves changes one node of about K/N of the services, and
// one that joins takes one place in as many.
//
// All ports of a service share one subset. The port is not part of the key: a
// node is checked once for all of them, and traffic that belongs together meets
// the same nodes. Nor is the cluster: nodes differ between clusters anyway.
//
// Selector.Spread takes nodes evenly from the zones that the label
// topology.kubernetes.io/zone names. A service with externalTrafficPolicy Local gets
// nodes that have a ready pod of it, where Objects.ReadyNodes says which those are
// (live.Watcher.LocalEndpoints); where it does not, or there is none, a warning tells that
// some of its nodes may drop its traffic. Selector.Sticky prefers the nodes that a
// service has already. [DiffSubsets] says what a new selection changes, for those who
// want to look before they leap.
//
// # Contract
//
// Everything is a pure function of its arguments, or in Tracker's case of all changes that it was
// given: no clock, no file, no logger.
// Objects given to this package are never changed.
// Values may be used by any number of goroutines as long as nobody writes to
// them.
//
// # What it does not do
//
// It does not plan in which order nodes may be replaced: a plan is made of
// [Pool.Pick] and [DiffSubsets]. It does not check nodes or pods itself. Nodes have no
// weights: what one node does more than another is the balancer's to find out.
package nodeselect
