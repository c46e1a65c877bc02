package sniproxy

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/internal/specialaddr"
)

// endpointRule states whether a Server connects to addresses of one kind.
type endpointRule uint8

const (
	always    endpointRule = iota
	ifAllowed              // only if AllowEndpoints has a prefix within the range
	never
)

// endpointRules protect this machine and its cloud from a wrong or malicious lookup. They say, for
// each special kind of address, whether the Server may connect to it. The Server may connect to all
// other addresses, even to private ones, because upstreams have private addresses.
//
// Addresses for documentation or for measurements need a prefix in AllowEndpoints, because only an
// upstream in a laboratory has such an address.
var endpointRules = map[specialaddr.Kind]endpointRule{
	specialaddr.Loopback: ifAllowed, specialaddr.LinkLocal: ifAllowed, specialaddr.Metadata: ifAllowed,
	specialaddr.Documentation: ifAllowed, specialaddr.Benchmark: ifAllowed,
	specialaddr.Unspecified: never, specialaddr.Multicast: never, specialaddr.Broadcast: never, specialaddr.Reserved: never,
}

// guard checks the addresses that a Server connects to.
type guard struct {
	allow      []netip.Prefix
	deny       []netip.Prefix
	nat64      []netip.Prefix      // the prefixes of the site's translators; see Server.NAT64Prefixes
	localAddrs func() []netip.Addr // the addresses of this machine, sorted

	listeners atomic.Pointer[[]netip.AddrPort] // the addresses on which this process listens; 0.0.0.0 and :: mean all addresses
	mu        sync.Mutex                       // serializes changes of listeners
}

// check returns an error if the Server must not connect to target, an address of the endpoint after
// DNS. proxyDestination is the destination address in the PROXY header; it is zero without a PROXY
// header. check refuses a target that is equal to proxyDestination, because a balancer with this
// address may lead back here.
//
// If target is an IPv6 address that contains an IPv4 address, check applies the rules to both
// addresses.
func (g *guard) check(target, proxyDestination netip.AddrPort) error {
	var buf [specialaddr.MaxForms]netip.Addr
	forms := specialaddr.AppendForms(buf[:0], target.Addr(), g.nat64...)
	for _, ip := range forms {
		if g.isListener(ip, target.Port()) || proxyDestination.IsValid() && proxyDestination == netip.AddrPortFrom(ip, target.Port()) {
			return fmt.Errorf("%w: this server listens on %v", ErrLoop, target)
		}
	}
	for _, ip := range forms {
		if err := g.checkForm(ip, target); err != nil {
			return err
		}
	}
	if len(g.allow) > 0 && !g.allows(forms[0], 0) && !(g.isTranslated(forms[0]) && g.allows(forms[1], 0)) {
		return fmt.Errorf("%w: %v is in no allowed network", ErrForbidden, target)
	}
	return nil
}

// checkForm checks ip, the address of target or an IPv4 address inside it. It returns an error for
// a denied network, a special range, and an address of this machine. AllowEndpoints can permit
// addresses of this machine and the ranges that endpointRules marks with ifAllowed.
func (g *guard) checkForm(ip netip.Addr, target netip.AddrPort) error {
	if r, ok := specialaddr.Find(ip); ok {
		rule := endpointRules[r.Kind]
		if rule == never || rule == ifAllowed && !g.allows(ip, r.Prefix.Bits()) {
			return fmt.Errorf("%w: %v is %v", ErrForbidden, target, r)
		}
	}
	if !ip.IsLoopback() && g.isLocal(ip) && !g.allows(ip, ip.BitLen()) {
		return fmt.Errorf("%w: %v is an address of this machine", ErrForbidden, target)
	}
	for _, p := range g.deny {
		if p.Contains(ip) {
			return fmt.Errorf("%w: %v is in a denied network", ErrForbidden, target)
		}
	}
	return nil
}

// allows reports whether a prefix of AllowEndpoints contains ip, and has at least the length
// "bits".
//
// For an address of a special range, such as 127.0.0.0/8, bits is the length of the range's prefix,
// here 8. So a shorter prefix, such as 0.0.0.0/0, does not allow the address.
func (g *guard) allows(ip netip.Addr, bits int) bool {
	for _, p := range g.allow {
		if p.Bits() >= bits && p.Contains(ip) {
			return true
		}
	}
	return false
}

// isTranslated reports whether ip has a NAT64 prefix. If so, a translator sends packets for ip to
// the IPv4 address that ip carries.
func (g *guard) isTranslated(ip netip.Addr) bool {
	return specialaddr.NAT64.Contains(ip) || slices.ContainsFunc(g.nat64, func(p netip.Prefix) bool { return p.Contains(ip) })
}

func (g *guard) isLocal(ip netip.Addr) bool {
	_, ok := slices.BinarySearchFunc(g.localAddrs(), ip, netip.Addr.Compare)
	return ok
}

func (g *guard) isListener(ip netip.Addr, port uint16) bool {
	all := g.listeners.Load()
	if all == nil {
		return false
	}
	for _, l := range *all {
		if l.Port() == port && (l.Addr() == ip || l.Addr().IsUnspecified() && (ip.IsLoopback() || g.isLocal(ip))) {
			return true
		}
	}
	return false
}

// addListener adds a listener of the Server to the addresses to which the Server must not connect,
// because it would connect to itself. The returned function removes the listener again.
func (g *guard) addListener(l netip.AddrPort) (remove func()) {
	if !l.IsValid() {
		return func() {}
	}
	change := func(f func([]netip.AddrPort) []netip.AddrPort) {
		g.mu.Lock()
		defer g.mu.Unlock()
		var all []netip.AddrPort
		if old := g.listeners.Load(); old != nil {
			all = slices.Clone(*old)
		}
		all = f(all)
		g.listeners.Store(&all)
	}
	change(func(all []netip.AddrPort) []netip.AddrPort { return append(all, l) })
	return func() {
		change(func(all []netip.AddrPort) []netip.AddrPort {
			i := slices.Index(all, l)
			return slices.Delete(all, i, i+1)
		})
	}
}

// localAddrsMaxAge is how long the guard uses a list of this machine's addresses before it reads
// the list again. The addresses change, for example, when a virtual address moves to this machine.
// Reading them takes about 50 µs.
const localAddrsMaxAge = 10 * time.Second

// localAddrList is the list of all IP addresses of this machine, to which the Server must not
// connect.
type localAddrList struct {
	epoch  time.Time
	list   atomic.Pointer[[]netip.Addr]
	readAt atomic.Int64 // in nanoseconds since the time in epoch
}

func newLocalAddrList() *localAddrList {
	l := &localAddrList{epoch: time.Now()}
	l.refresh()
	return l
}

func (l *localAddrList) get() []netip.Addr {
	readAt := l.readAt.Load()
	if now := int64(time.Since(l.epoch)); now-readAt > int64(localAddrsMaxAge) && l.readAt.CompareAndSwap(readAt, now) {
		l.refresh()
	}
	return *l.list.Load()
}

// refresh reads the addresses of this machine from the system. If it cannot read them, the guard
// continues to use the addresses that refresh read last.
func (l *localAddrList) refresh() {
	var list []netip.Addr
	nets, err := net.InterfaceAddrs()
	if err != nil && l.list.Load() != nil {
		return
	}
	for _, a := range nets {
		if p, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(p.IP); ok {
				list = append(list, ip.Unmap())
			}
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	l.list.Store(&list)
}
