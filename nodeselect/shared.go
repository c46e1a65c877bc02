package nodeselect

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// internalIP is the default of AddressPolicy.Types.
var internalIP = [...]corev1.NodeAddressType{corev1.NodeInternalIP}

// alternatives returns two lists of usable addresses of a node. addr is the address that Choose
// returns for the node. The list "same" has the addresses with the family and type of addr, in the
// order of the Node object; Choose prefers the first. The list "other" has the addresses of the
// other family, in the order of Types.
func (p AddressPolicy) alternatives(node *corev1.Node, addr netip.Addr) (same, other []netip.Addr) {
	types := p.Types
	if len(types) == 0 {
		types = internalIP[:]
	}
	candidates := 0
	for i := range node.Status.Addresses {
		if slices.Contains(types, node.Status.Addresses[i].Type) {
			candidates++
		}
	}
	if candidates < 2 { // true for most nodes
		return nil, nil
	}
	for _, t := range types {
		found := len(same) > 0
		for i := range node.Status.Addresses {
			a := &node.Status.Addresses[i]
			if a.Type != t {
				continue
			}
			next, err := p.usable(a.Address)
			switch {
			case err != nil:
			case next.Is4() != addr.Is4():
				other = appendNew(other, next)
			case !found:
				same = appendNew(same, next)
			}
		}
	}
	return same, other
}

func appendNew(list []netip.Addr, addr netip.Addr) []netip.Addr {
	if slices.Contains(list, addr) {
		return list
	}
	return append(list, addr)
}

// separate gives each candidate an address of its own, if possible. It returns the candidates whose
// address or warning it has changed.
//
// If several nodes list an address, such as a virtual address, each of these nodes gets its first
// address of the same family that no other node lists. If a node has no such address, it keeps the
// shared address: the other Node object may belong to a machine that is gone.
func (s Selector) separate(candidates []*candidate) (changed []*candidate) {
	if !slices.ContainsFunc(candidates, func(c *candidate) bool { return c.addrs != nil || c.others != nil }) {
		return nil
	}
	nodes := make(map[netip.Addr]int, len(candidates)) // how many nodes list an address
	for _, c := range candidates {
		switch {
		case c.unreachable != "":
		case c.addrs == nil && c.others == nil:
			nodes[c.Addr]++
			if c.other.IsValid() {
				nodes[c.other]++
			}
		default:
			for _, addr := range c.addrs {
				nodes[addr]++
			}
			for _, addr := range c.others {
				nodes[addr]++
			}
		}
	}
	own := func(list []netip.Addr) netip.Addr {
		if i := slices.IndexFunc(list, func(addr netip.Addr) bool { return nodes[addr] == 1 }); i > 0 {
			return list[i]
		}
		return list[0]
	}
	for _, c := range candidates {
		if c.addrs == nil && c.others == nil {
			continue
		}
		before := *c
		if len(c.addrs) > 0 {
			s.setAddr(c, own(c.addrs))
			c.shared = ""
			if first := c.addrs[0]; first != c.Addr {
				c.shared = fmt.Sprintf("%v is an address of several nodes, so it is not used; %v is", first, c.Addr)
			}
		}
		if len(c.others) > 0 {
			c.other = own(c.others)
		}
		if !c.same(&before) {
			changed = append(changed, c)
		}
	}
	return changed
}
