package hashring

import (
	"cmp"
	"strings"
)

// Compare says which of two nodes comes first for key: it is negative if a does,
// positive if b does, and 0 if they have one name. It is the order of [Ring.Top]
// and [Ring.Ranked] for every ring that holds both, and that of [Ring.Spread]
// within a zone.
//
// So whoever keeps the subset of a key, and whether it is full, need not ask a
// ring whether a node that joins belongs to it: only if it comes before the last
// one there. Weights must be valid; New checks them.
func Compare(key string, a, b Node) int {
	digest := keyDigest(key)
	x, y := score(digest, nodeDigest(a.Name)), score(digest, nodeDigest(b.Name))
	byScore := cmp.Or(cmp.Compare(x, y), strings.Compare(a.Name, b.Name))
	if v, w := a.weight(), b.weight(); v != w {
		return cmp.Or(cmp.Compare(exponential(x)/v, exponential(y)/w), byScore)
	}
	return byScore
}
