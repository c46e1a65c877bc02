package disruption

import (
	"fmt"
	"math"
)

// DefaultService is the default of Budget.Service.
const DefaultService = 2

// Budget limits which nodes may be away at the same time. With the zero value, at most two members
// of each service may be away. The members of a service are the nodes in the subset of the service.
type Budget struct {
	// Service is how many nodes of each service may be away at the same time. 0 means
	// DefaultService.
	Service int
	// Zone is how many nodes of a service in one zone may be away at the same time. 0 means no
	// limit. All nodes without a zone form one zone.
	Zone int
	// If OneZone is true, all nodes that are away at the same time must be in the same zone. Nodes
	// in no subset do not count.
	OneZone bool
	// Share is the largest share of all nodes that may be away, from 0 to 1. The number of nodes is
	// rounded down, but at least one node may be away. 0 means no limit. A node that is in no
	// subset counts as one of all nodes, but never as away.
	Share float64
	// Last permits that all nodes of a service are away at the same time. If Last is false, at
	// least one node of each service stays, even if the field Service permits more nodes to be
	// away. So if a service has only one node, this node may be away only if Last is true.
	Last bool
}

// Validate returns an error if a field is out of its range.
func (b Budget) Validate() error {
	switch {
	case b.Service < 0:
		return fmt.Errorf("disruption: Budget.Service is %d, and must not be negative", b.Service)
	case b.Zone < 0:
		return fmt.Errorf("disruption: Budget.Zone is %d, and must not be negative", b.Zone)
	case !(b.Share >= 0 && b.Share <= 1): // also refuses NaN
		return fmt.Errorf("disruption: Budget.Share is %v, and must be from 0 to 1", b.Share)
	}
	return nil
}

// service returns how many members of a service may be away at the same time, if the service has
// the given number of members.
func (b Budget) service(members int) int {
	limit := b.Service
	if limit == 0 {
		limit = DefaultService
	}
	if !b.Last {
		limit = min(limit, members-1)
	}
	return limit
}

// nodes returns how many nodes of the cluster may be away at the same time. The argument "all" is
// the number of all nodes of the cluster.
func (b Budget) nodes(all int) int {
	if b.Share == 0 {
		return math.MaxInt
	}
	const rounding = 1e-9 // 0.29 * 100 is less than 29
	return max(1, int(b.Share*float64(all)+rounding))
}
