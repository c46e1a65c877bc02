package nodeselect

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/internal/specialaddr"
)

// Family says which address to choose if a node has several addresses of the same type.
type Family uint8

const (
	AnyFamily  Family = iota // the first address in the node's list; the cluster's first family decides its family
	PreferIPv4               // an IPv6 address only if there is no IPv4 address
	PreferIPv6               // an IPv4 address only if there is no IPv6 address
)

// AddressPolicy chooses the address of a node to which the balancer sends traffic. The zero value
// chooses the first InternalIP.
//
// In two cases, a Selector uses another address of a node than the policy chooses. The Identity of
// the node stays the same, and so does its rank. The cases are:
//
//   - If several nodes list the same address, this address is virtual. Each of these nodes gets its
//     next address of the same type and family, if it has one.
//   - If a Service has only one IP family, its targets have addresses of this family.
type AddressPolicy struct {
	// Types are the address types to try, in this order. nil means InternalIP only. A type for
	// names, such as Hostname, works only if the value is an IP address.
	Types  []corev1.NodeAddressType
	Family Family
	// Allow lists ranges of special addresses that Choose accepts, because nodes of this cluster
	// really have such addresses. For example, some clouds use the reserved 240.0.0.0/4. Each
	// prefix must lie within one special range; a wider one such as 0.0.0.0/0 allows nothing.
	Allow []netip.Prefix
	// Observe makes Choose accept special addresses that are not in Allow. Choose still ignores
	// unspecified, multicast and broadcast addresses, which no node can have. A Selection has a
	// warning for each node whose address Choose would ignore without Observe.
	Observe bool
}

// Choose returns the address of a node. It uses the first type in Types of which the node has a
// usable address. If the node has usable addresses of this type in both IP families, Family
// decides. An IPv4-mapped IPv6 address becomes IPv4. If the node has no usable address, the error
// lists its addresses, and why special ones are not usable.
//
// A node object with a false address could direct traffic to the balancer itself, or to the
// metadata service of the cloud. So Choose ignores:
//
//   - link-local, reserved and cloud metadata addresses, unless Allow contains them;
//   - an IPv6 address that contains such an IPv4 address or an IPv4 loopback address, unless Allow
//     contains the IPv4 address;
//   - unspecified, multicast and broadcast addresses;
//   - addresses with a zone.
//
// Choose accepts private and loopback addresses. A Selection has a warning for a loopback address,
// unless Allow contains it.
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
			addr, err := p.usable(a.Address)
			if err != nil {
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
	err := fmt.Errorf("no usable address of type %s (the node has %q)", joinTypes(types), has)
	var special *specialError
	for _, a := range node.Status.Addresses {
		if !slices.Contains(types, a.Type) {
			continue
		}
		if _, reason := p.usable(a.Address); errors.As(reason, &special) {
			err = fmt.Errorf("%w: %w", err, reason)
		}
	}
	return netip.Addr{}, err
}

// specialError is the reason why a policy refuses an address in a special range.
type specialError struct {
	addr  netip.Addr // the address of a node, or the IPv4 address inside it
	given string     // the address as the node states it
	specialaddr.Range
}

func (e *specialError) Error() string {
	if e.given != e.addr.String() {
		return fmt.Sprintf("%s leads to %v, which is %v", e.given, e.addr, e.Range)
	}
	return fmt.Sprintf("%v is %v", e.addr, e.Range)
}

var errNoAddress = errors.New("no IP address without a zone")

// usable parses an address. It returns an error if Choose must ignore the address.
func (p AddressPolicy) usable(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" {
		return netip.Addr{}, errNoAddress
	}
	addr = addr.Unmap()
	err = p.refusal(s, addr)
	var special *specialError
	if p.Observe && errors.As(err, &special) && !never(special.Kind) {
		return addr, nil
	}
	return addr, err
}

// Parse parses the address of a pod or of another machine, and returns an IPv4-mapped IPv6 address
// as IPv4. An address that Choose would ignore is an error. A usable but suspicious address has a
// warning. Parse does not use Types and Family.
func (p AddressPolicy) Parse(s string) (addr netip.Addr, warning string, err error) {
	if addr, err = p.usable(s); err != nil {
		if errors.Is(err, errNoAddress) {
			err = fmt.Errorf("%.80q is %w", s, errNotIP)
		}
		return netip.Addr{}, "", err
	}
	return addr, p.warning(addr), nil
}

var errNotIP = errors.New("not an IP address without a zone")

// never(k) is true if no machine can have an address of the kind k.
func never(k specialaddr.Kind) bool {
	return k == specialaddr.Unspecified || k == specialaddr.Multicast || k == specialaddr.Broadcast
}

// refusal returns a *specialError if the policy refuses addr. The argument "given" is the address
// as the node states it.
func (p AddressPolicy) refusal(given string, addr netip.Addr) error {
	var buf [specialaddr.MaxForms]netip.Addr
	for i, form := range specialaddr.AppendForms(buf[:0], addr) {
		r, ok := specialaddr.Find(form)
		if !ok {
			continue
		}
		refuse := never(r.Kind)
		switch r.Kind {
		case specialaddr.LinkLocal, specialaddr.Metadata, specialaddr.Reserved:
			refuse = !p.allows(form, r.Prefix)
		case specialaddr.Loopback: // tests use loopback addresses, but nobody needs one inside an IPv6 address
			refuse = i > 0 && !p.allows(form, r.Prefix)
		}
		if refuse {
			return &specialError{form, given, r}
		}
	}
	return nil
}

// allows reports whether a prefix in Allow contains addr. The prefix must lie within the argument
// "special", which is the special range that contains addr.
func (p AddressPolicy) allows(addr netip.Addr, special netip.Prefix) bool {
	return slices.ContainsFunc(p.Allow, func(a netip.Prefix) bool { return a.Bits() >= special.Bits() && a.Contains(addr) })
}

// warning returns the text of a warning about an address that Choose has accepted, or "" if the
// address needs no warning.
func (p AddressPolicy) warning(addr netip.Addr) string {
	if p.Observe {
		if err := p.refusal(addr.String(), addr); err != nil {
			return err.Error() + "; without observing, it would not be used"
		}
	}
	r, ok := specialaddr.Find(addr)
	if !ok || r.Kind != specialaddr.Loopback || p.allows(addr, r.Prefix) {
		return ""
	}
	return fmt.Sprintf("%v is %v: each balancer connects to itself", addr, r)
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
