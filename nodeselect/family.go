package nodeselect

import (
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
)

// ipFamily is an IP family: the only family of a service, or the family of the addresses that a
// pool has for its nodes.
type ipFamily uint8

const (
	anyFamily ipFamily = iota
	onlyIPv4
	onlyIPv6
)

func (f ipFamily) String() string { return [...]string{"IP", "IPv4", "IPv6"}[f] }

func familyOfAddr(addr netip.Addr) ipFamily {
	if addr.Is4() {
		return onlyIPv4
	}
	return onlyIPv6
}

// familyOf returns the IP family of a service that has only one family. kube-proxy opens a node
// port only for the families of the service. If the service has two families, or none (as in a
// hand-written manifest), familyOf returns anyFamily.
func familyOf(svc *corev1.Service) ipFamily {
	if svc == nil || len(svc.Spec.IPFamilies) != 1 {
		return anyFamily
	}
	switch svc.Spec.IPFamilies[0] {
	case corev1.IPv4Protocol:
		return onlyIPv4
	case corev1.IPv6Protocol:
		return onlyIPv6
	}
	return anyFamily
}

// findFamily sets p.family to the IP family that the addresses of all members share. If the members
// do not share a family, p.family becomes anyFamily.
//
// It also sets p.ofFamily to two functions, which make the pool for services with only IPv4 and the
// pool for services with only IPv6.
func (p *Pool) findFamily() {
	p.family = anyFamily
	for i := range p.members {
		f := familyOfAddr(p.members[i].Addr)
		if i > 0 && f != p.family {
			p.family = anyFamily
			break
		}
		p.family = f
	}
	p.ofFamily = [2]func() *Pool{
		sync.OnceValue(func() *Pool { return p.convert(onlyIPv4) }),
		sync.OnceValue(func() *Pool { return p.convert(onlyIPv6) }),
	}
}

// withFamily returns a pool with those nodes of p that have an address of the family f. In the new
// pool, each node has this address. The identities of the nodes, and so their ranks, are the same
// as in p.
func (p *Pool) withFamily(f ipFamily) *Pool {
	if f == anyFamily || f == p.family {
		return p
	}
	return p.ofFamily[f-onlyIPv4]()
}

func (p *Pool) convert(f ipFamily) *Pool {
	some := &Pool{size: p.size, spread: p.spread, sticky: p.sticky, allLocal: p.allLocal, index: make(map[string]int32, len(p.members))}
	for _, m := range p.members {
		if familyOfAddr(m.Addr) != f {
			if !m.other.IsValid() {
				continue
			}
			m.Addr, m.other = m.other, m.Addr
		}
		some.members = append(some.members, m)
	}
	some.arrange()
	return some
}
