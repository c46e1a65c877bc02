// Package hashring picks stable subsets of nodes by rendezvous hashing.
//
// Thousands of services, each served by twenty of a thousand nodes: which
// twenty? A [Ring] answers from names alone, so that every process that knows
// the same nodes gives the same answer, with nothing stored and nothing
// coordinated:
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
// Every node has a score for every key, and the nodes with the smallest scores
// win. Nothing else enters, hence:
//
//   - The order in which nodes are given to [New] does not matter.
//   - Churn is the least possible. When a node leaves, each key that had it
//     takes one other node and every other key keeps its set. When a node
//     joins, it displaces one node of each key that it enters, about k/N of all
//     keys. A node that is replaced under a new name does both. Nothing else
//     ever moves.
//   - Top(key, k) is the beginning of Top(key, k+1): a larger subset keeps the
//     smaller one.
//   - Subsets of different keys are independent: load on nodes is as even as
//     that of fair draws (binomial), and the overlap of two subsets is that of
//     two random ones (hypergeometric), whatever the names look like.
//
// Load is therefore not equal. With 2,000 services on 20 of 1,000 nodes a node
// holds 40 services on average, with a standard deviation of 6.3. This is the
// price of the least churn; rings that even the load out move nodes that need
// not move.
//
// A Ring never changes after New and may be used by any number of goroutines
// without locks. To add, remove or replace nodes, make another Ring: 1,000
// nodes take about half a millisecond.
//
// # Weights
//
// A node of weight 2 is chosen with twice the chance of a node of weight 1
// wherever one node is picked ([Ring.Top] with k = 1 has shares exactly in
// proportion). With larger k a subset cannot hold a node twice, so shares
// approach proportion as k/N becomes small. Only the ratio of weights matters.
// Where all weights are equal they play no part at all, whether they are all 1
// or all 2: the same nodes are picked. A change of one node's weight moves only
// that node, into subsets when it grows and out of them when it shrinks.
//
// A weight is zero, which stands for 1, or a number from 1e-6 to 1e6. To give a
// node no traffic leave it out of the ring.
//
// # Zones
//
// [Ring.Spread] takes nodes from all zones evenly. See there for how the
// remainder is shared and what bounds churn.
//
// # Score v1
//
// The subsets are a format. Programs of different versions, and on different
// machines, must agree on them, so the inputs, constants and order below are
// frozen, with vectors in testdata/score-v1.json that any other implementation
// can be held against. All integers are 64 bits wide and unsigned.
//
//	key    = XXH64(key, seed 0) xor 0x9e3779b97f4a7c15
//	node   = XXH64(node name, seed 0) xor 0xbf58476d1ce4e5b9
//	zone   = XXH64(zone name, seed 0) xor 0x94d049bb133111eb
//	score  = hi xor lo, where hi:lo is the 128-bit product key * node
//	zscore = the same of key * zone
//
// Strings are hashed as the bytes that they are: no case folding, no Unicode
// normal form. Where all weights are equal, nodes are ordered by (score, name),
// the smallest first, names bytewise. Otherwise by (cost, score, name):
//
//	q    = score >> 19                      // 45 bits
//	cost = -ln(1 - q / 2^45) / weight       // IEEE 754 binary64
//
// where the logarithm is the one of the function exponential in this package,
// whose few additions, multiplications and divisions round in a fixed order on
// every architecture. The cost of equal weights grows with the score, so the two
// orders agree on all nodes of one weight. Zones are ordered by (zscore, name).
//
// # If the score changed
//
// Every key would get another subset: of 20 nodes out of 1,000 hardly any would
// stay. For a fleet of load balancers that means that nearly every server line
// of every service is replaced at once, connections to the old nodes drain,
// caches and health states start anew, and while old and new versions run side
// by side they send the same service to different nodes. Such a change is
// therefore a breaking one, and would come as an explicit choice (a second
// constructor), never as an update of this module.
//
// # What it does not do
//
// It keeps no health, load or connection counts, does not bound the load of a
// node, and does not defend against someone who chooses names in order to
// collide: XXH64 is not a cryptographic hash.
package hashring
