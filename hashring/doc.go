// Package hashring picks stable subsets of nodes by rendezvous hashing.
//
// For example, each of thousands of services needs 20 of 1,000 nodes. A [Ring] computes these 20
// only from the names of the service and of the nodes. So all processes that know the same nodes
// pick the same subset, without storing anything or communicating:
//
//	ring, err := hashring.New(
//		hashring.Node{Name: "10.0.0.1"},
//		hashring.Node{Name: "10.0.0.2"},
//		hashring.Node{Name: "10.0.0.3"},
//	)
//	…
//	nodes := ring.Top("media/tracks", 2) // two nodes, best first
//
// # Contract
//
// Every node has a score for every key. The subset of a key is the k nodes with the smallest
// scores. (With weights, it is the k nodes with the lowest costs, see below.) Nothing else affects
// the subset. Therefore:
//
//   - The order of the nodes that [New] receives does not matter.
//   - As few nodes as possible move. When a node leaves the ring, each subset that contains it gets
//     one other node, and all other subsets stay the same. When a node joins, so that there are N
//     nodes, it replaces one node in the subsets of about k/N of all keys. A change of a node's
//     name counts as one node that leaves and one that joins.
//   - Top(key, k) is the beginning of Top(key, k+1): a larger subset contains the smaller one.
//   - Subsets of different keys are independent, even if the keys are similar. So they behave like
//     random subsets: the number of subsets that contain a node has a binomial distribution, and the
//     number of nodes that two subsets share has a hypergeometric distribution.
//
// So the nodes do not all serve the same number of keys. If 2,000 services use 20 of 1,000 nodes
// each, a node serves 40 services on average, with a standard deviation of 6.3. Other kinds of
// rings balance the load better, but move more nodes than necessary.
//
// A Ring never changes after [New], and is safe for concurrent use. To change the nodes, make
// another Ring, which takes about half a millisecond for 1,000 nodes.
//
// # Weights
//
// The share of a node is the share of all keys whose subset contains it. If k is 1, the shares are
// exactly proportional to the weights. If k is larger, but much smaller than the number of nodes,
// they are nearly proportional, because no subset can contain a node twice.
//
// Only the ratio of weights matters. Equal weights pick the same nodes as no weights. A node whose
// weight grows replaces one node in some subsets, and a node whose weight shrinks leaves some
// subsets. All other nodes keep their places.
//
// A weight is 0, which means 1, or a number from 1e-6 to 1e6. To send a node no traffic, leave it
// out of the ring.
//
// # Zones
//
// [Ring.Spread] picks equally many nodes from each zone, if possible. Its comment describes which
// zones contribute one node more, and what changes when nodes join or leave.
//
// # Score v1
//
// Programs of different versions, on different machines, must compute the same subsets. So the
// inputs, constants and order below never change. To test another implementation, use the vectors
// in testdata/score-v1.json. All integers are unsigned and have 64 bits.
//
//	key    = XXH64(key, seed 0) xor 0x9e3779b97f4a7c15
//	node   = XXH64(node name, seed 0) xor 0xbf58476d1ce4e5b9
//	zone   = XXH64(zone name, seed 0) xor 0x94d049bb133111eb
//	score  = hi xor lo, where hi:lo is the 128-bit product key * node
//	zscore = hi xor lo, where hi:lo is the 128-bit product key * zone
//
// The hash of a string is the hash of its bytes, without case folding or Unicode normalization. If
// all weights are equal, the order of the nodes is: by score, then by the bytes of the name. If
// weights differ, the order is: by cost, then by score, then by name. The smallest value comes
// first.
//
//	q    = score >> 19                      // 45 bits
//	cost = -ln(1 - q / 2^45) / weight       // IEEE 754 binary64
//
// The function exponential in this package computes -ln(1 - q / 2^45). Its additions,
// multiplications and divisions round in a fixed order on every architecture. For nodes of the same
// weight, the cost grows with the score, so the order by cost and the order by score agree. The
// order of the zones is: by zscore, then by name.
//
// # If the score changed
//
// The score does not change within a major version. A program would have to choose another score
// explicitly, with a second constructor.
//
// With another score, hardly any of the 20 nodes of a subset stays. Nearly every server of every
// service of a fleet would change at the same time: connections would drain, and caches and health
// states would be lost. Old and new versions would send the same service to different nodes.
//
// # What it does not do
//
// A Ring does not track health, load or connections, and does not limit the load of a node. It does
// not protect against names with equal hashes, which an attacker can find, because XXH64 is not a
// cryptographic hash.
package hashring
