package nodeagent

import (
	"fmt"
	"slices"
	"time"
)

const reasonGone = "node is gone"

// goneNode is what becomes of a node that is not in its cluster any more. It drains, and
// has no share of the load that others could lack, unless most of the cluster is gone
// with it: whoever deletes all nodes by a slip, or restores a store without them, would
// drain every node at once, while all of them serve.
type goneNode struct {
	total    int       // nodes of the cluster when it was last there, 0 if it never was
	since    time.Time // zero while it is there
	believed bool
}

// look takes note of whether the node is there, and returns why it is not believed to be
// gone. drains are those so far.
func (g *goneNode) look(now time.Time, v view, drains []drain, r Rules) (doubt string) {
	if v.node != nil {
		g.since, g.believed = time.Time{}, false
		return ""
	}
	if g.since.IsZero() {
		g.since = now.UTC().Truncate(time.Second)
		// One that drains goes on.
		g.believed = g.total == 0 || slices.ContainsFunc(drains, func(d drain) bool { return d.node == r.Node && d.granted })
	}
	if g.believed {
		return ""
	}
	if !v.counted {
		return "it is not known yet how many others are"
	}
	there := v.nodes
	for _, ask := range v.asks {
		if ask.Outside {
			there--
		}
	}
	share := r.maxDrain()
	gone, limit := g.total-there, limitOf(share, g.total)
	if gone > limit {
		return fmt.Sprintf("%d of %d nodes are gone, no more than %d are believed at once (%s)", gone, g.total, limit, percent(share))
	}
	g.believed = true
	return ""
}
