package nodeselect

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Family says which address to choose if a node has several addresses of the same type.
type Family uint8

const (
	AnyFamily  Family = iota // the first address in the node's list, which is of the cluster's first family
	PreferIPv4               // an IPv6 address only if there is no IPv4 address
	PreferIPv6               // an IPv4 address only if there is no IPv6 address
)

// AddressPolicy chooses the address of a node to which the balancer sends traffic. The zero value
// chooses the first InternalIP.
type AddressPolicy struct {
	// Types are the address types to try, in this order. nil means InternalIP only. A type for
	// names, such as Hostname, works only if the value is an IP address.
	Types  []corev1.NodeAddressType
	Family Family
}

// Choose returns the address of a node. If the node has no usable address, the error lists the
// addresses that the node has. Choose takes the first of Types for which the node has an address,
// and applies the Family only within this type. It returns an IPv4-mapped IPv6 address as IPv4. It
// ignores addresses that another machine cannot connect to: unspecified, multicast, IPv6
// link-local, and addresses with a zone.
func (p AddressPolicy) Choose(node *corev1.Node) (netip.Addr, error) {
	types := p.Types
	if len(types) == 0 {
		types = []corev1.NodeAddressType{corev1.NodeInternalIP}
	}
	for _, t := range types {
		var first netip.Addr
		for i := range node.Status.Addresses {
			a := &node.Status.Addresses[i]
			if a.Type != t {
				continue
			}
			addr, ok := usable(a.Address)
			if !ok {
				continue
			}
			if p.Family == AnyFamily || (p.Family == PreferIPv4) == addr.Is4() {
				return addr, nil
			}
			if !first.IsValid() {
				first = addr
			}
		}
		if first.IsValid() {
			return first, nil
		}
	}
	var has []string
	for _, a := range node.Status.Addresses {
		if slices.Contains(types, a.Type) {
			has = append(has, string(a.Type)+" "+a.Address)
		}
	}
	if has == nil {
		for _, a := range node.Status.Addresses {
			has = append(has, string(a.Type))
		}
	}
	return netip.Addr{}, fmt.Errorf("no usable address of type %s (the node has %q)", joinTypes(types), has)
}

func usable(s string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" {
		return netip.Addr{}, false
	}
	addr = addr.Unmap()
	if addr.IsUnspecified() || addr.IsMulticast() || addr.Is6() && addr.IsLinkLocalUnicast() {
		return netip.Addr{}, false
	}
	return addr, true
}

func joinTypes(types []corev1.NodeAddressType) string {
	s := ""
	for i, t := range types {
		if i > 0 {
			s += " or "
		}
		s += string(t)
	}
	return s
}
