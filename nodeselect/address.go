package nodeselect

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Family says which addresses of a node with several come first.
type Family uint8

const (
	AnyFamily  Family = iota // the first that the node lists: the cluster's first family
	PreferIPv4               // an IPv6 address if there is no other
	PreferIPv6               // an IPv4 address if there is no other
)

// AddressPolicy chooses the address by which a node is reached. The zero value
// takes the first InternalIP.
type AddressPolicy struct {
	// Types are tried in order; nil is InternalIP alone. Types that hold names,
	// Hostname for one, are of use only where the node puts an IP address there.
	Types  []corev1.NodeAddressType
	Family Family
}

// Choose returns the address of a node, or an error that says what it has
// instead. An address type that is earlier in Types wins over the family. An
// IPv4 address mapped into IPv6 is given as IPv4. Addresses nobody can connect to
// from elsewhere as they stand (unspecified, multicast, IPv6 link-local, and any
// with a zone) are passed over.
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
