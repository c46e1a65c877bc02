// Package nodeselect chooses the nodes of a Kubernetes cluster that a load
// balancer outside of it sends each service's traffic to.
//
// A balancer that checks every node for every service spends most of its work
// on checks. Here each service gets a fixed number of nodes, 20 unless told
// otherwise, that stay the same while the nodes stand:
//
//	objects, problems, err := nodeselect.ReadDir("manifests/eu-1")
//	…
//	selection := nodeselect.Selector{}.Select(objects, refs, time.Now(), nil)
//	for _, target := range selection.Targets {
//		fmt.Println(target.Ref, target.NodePort, target.Nodes)
//	}
//
// and for a cluster that is to be followed:
//
//	watcher := nodeselect.Watcher{Config: config}
//	watcher.SetRefs(refs)
//	err := watcher.Run(ctx, func(s nodeselect.Snapshot) {
//		if s.Err != nil {
//			log.Print(s.Err) // the rest is the last good state, if s.Synced
//		}
//		…
//	})
//
// # Reading
//
// [Parse] reads Nodes and Services from what "kubectl get nodes,services -A -o
// yaml" (or json) prints, [ReadDir] a directory of such files, and [WatchDir]
// reads it again when it changes. What cannot be read is a [Problem] that names
// file, line, object and field; everything else is kept. [Selector.Select] does
// not care where objects come from: [NewObjects] takes those of any client.
//
// # Following
//
// A [Watcher] lists and watches the nodes and services of a live cluster, and gives
// a [Snapshot] after each change that matters: a burst of events is one change, and
// a heartbeat that says nothing new is none. It needs no more than permission to
// list and watch them.
//
// The last good state stays while the API server is away, and Snapshot.Err says so.
// It also stays when the API server, back again, lists nothing, and for five minutes
// when it lists less than half of what was there: an empty store, or a proxy to the
// wrong one, must not take a fleet's servers away at once. See [Watcher.Run].
//
// Behind it is a [Tracker], for those who have objects from elsewhere: it is told
// what changes, and gives the Selection that Select would give from scratch, for
// the work that the change is worth. Nodes are judged anew each time, since time
// passes for all of them; who uses a Tracker has to call Update now and then even if
// nothing happens, as the Watcher does every half minute. A node that has been not
// ready for longer than Ready allows is so noticed at most that much later.
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
// (Watcher.LocalEndpoints); where it does not, or there is none, a warning tells that
// some of its nodes may drop its traffic. Selector.Sticky prefers the nodes that a
// service has already. [Diff] says what a new selection changes, for those who
// want to look before they leap.
//
// # Contract
//
// Everything but ReadDir, WatchDir and Watcher is a pure function of its arguments,
// or in Tracker's case of all that it was given: no clock, no file, no logger.
// Objects given to this package are never changed.
// Values may be used by any number of goroutines as long as nobody writes to
// them.
//
// # What it does not do
//
// It does not plan in which order nodes may be replaced: a plan is made of
// [Pool.Pick] and [Diff]. It does not check nodes or pods itself. Nodes have no
// weights: what one node does more than another is the balancer's to find out. A
// Watcher follows one cluster; for several there is one each, and none waits for
// another.
package nodeselect
