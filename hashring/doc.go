// Package hashring picks stable subsets of nodes by rendezvous hashing.
//
// For example, it picks the 20 of 1,000 nodes that serve each of thousands of services. A [Ring]
// computes the subset from names alone. So all processes that know the same nodes pick the same
// subset, with nothing stored and nothing coordinated:
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
// Every node has a score for every key, and the nodes with the smallest scores win. Nothing else
// matters. Therefore:
//
//   - The order of the nodes that [New] receives does not matter.
//   - Churn is the least possible. When a node leaves, each key that had the node takes one other
//     node, and every other key keeps its subset. When a node joins, it enters the subsets of about
//     k/N of all keys, and displaces one node in each. A node that gets a new name leaves and joins.
//     No other node moves.
//   - Top(key, k) is the beginning of Top(key, k+1): a larger subset contains the smaller one.
//   - Subsets of different keys are independent, whatever the names look like. The load on nodes is
//     as even as with fair draws (binomial distribution). The overlap of two subsets is that of two
//     random subsets (hypergeometric distribution).
//
// So the load is not equal. With 2,000 services on 20 of 1,000 nodes, a node serves 40 services on
// average, with a standard deviation of 6.3. Rings that balance the load better move more nodes than
// necessary when nodes join or leave.
//
// A Ring never changes after New. Any number of goroutines may use it without locks. To add, remove
// or replace nodes, make another Ring. That takes about half a millisecond for 1,000 nodes.
//
// # Weights
//
// A node of weight 2 has twice the chance of a node of weight 1 when one node is picked: with k = 1,
// the shares of [Ring.Top] are exactly proportional to the weights. With a larger k, a subset cannot
// contain a node twice, so shares are nearly proportional only while k/N is small. Only the ratio of
// weights matters. If all weights are equal, the ring picks the same nodes as without weights. When
// the weight of one node changes, only that node moves: into subsets when its weight grows, and out
// of subsets when it shrinks.
//
// A weight is 0, which means 1, or a number from 1e-6 to 1e6. To send a node no traffic, leave it
// out of the ring.
//
// # Zones
//
// [Ring.Spread] takes nodes evenly from all zones. Its comment describes the remainder and the
// churn.
//
// # Score v1
//
// The subsets are a format: programs of different versions on different machines must agree on them.
// So the inputs, constants and order below are frozen. Other implementations can be tested with the
// vectors in testdata/score-v1.json. All integers are unsigned and have 64 bits.
//
//	key    = XXH64(key, seed 0) xor 0x9e3779b97f4a7c15
//	node   = XXH64(node name, seed 0) xor 0xbf58476d1ce4e5b9
//	zone   = XXH64(zone name, seed 0) xor 0x94d049bb133111eb
//	score  = hi xor lo, where hi:lo is the 128-bit product key * node
//	zscore = the same of key * zone
//
// The hash of a string is the hash of its bytes, without case folding or Unicode normalization. If
// all weights are equal, nodes are in the order of (score, name), smallest first, names bytewise.
// Otherwise they are in the order of (cost, score, name):
//
//	q    = score >> 19                      // 45 bits
//	cost = -ln(1 - q / 2^45) / weight       // IEEE 754 binary64
//
// The function exponential in this package computes the logarithm. Its additions, multiplications
// and divisions round in a fixed order on every architecture. For equal weights the cost grows with
// the score, so both orders agree on nodes of the same weight. Zones are in the order of (zscore,
// name).
//
// # If the score changed
//
// Every key would get another subset: hardly any of 20 nodes out of 1,000 would stay. In a fleet of
// load balancers, nearly every server line of every service would change at once. Connections to the
// old nodes would drain, and caches and health states would be lost. While old and new versions run
// at the same time, they would send the same service to different nodes. So the score does not
// change within a major version. Another score would be an explicit choice, with a second
// constructor.
//
// # What it does not do
//
// A Ring does not track health, load or connections. It does not bound the load of a node. It does
// not defend against names that somebody chose to collide: XXH64 is not a cryptographic hash.
package hashring
