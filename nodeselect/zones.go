package nodeselect

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/hashring"
)

// countZones assigns each node without a zone label to one of the zones, by the identity of the
// node, and returns a warning. If these nodes formed a zone of their own, and only one node had no
// label, this node would be in as many subsets as all nodes of another zone together. Without
// Spread, countZones does nothing.
func (p *Pool) countZones() (warning string) {
	if !p.spread {
		return ""
	}
	var zones []hashring.Node
	seen, missing := map[string]bool{"": true}, 0
	for i := range p.members {
		zone := p.members[i].Zone
		if zone == "" {
			missing++
		}
		if !seen[zone] {
			seen[zone] = true
			zones = append(zones, hashring.Node{Name: zone})
		}
	}
	switch {
	case missing == 0:
		return ""
	case len(zones) == 0:
		return fmt.Sprintf("no node has the label %s, so the nodes of a service are not spread over zones", corev1.LabelTopologyZone)
	}
	ring := newRing(zones)
	for i := range p.members {
		if m := &p.members[i]; m.Zone == "" {
			m.zone = ring.Top(m.Identity, 1)[0].Name
		}
	}
	return fmt.Sprintf("%d of %d nodes have no label %s; each of them counts for one of the zones", missing, len(p.members), corev1.LabelTopologyZone)
}
