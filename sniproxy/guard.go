package sniproxy

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// specialRange is a range of addresses that the Server connects to only if AllowEndpoints has a
// prefix within it.
type specialRange struct {
	name   string
	prefix netip.Prefix
	never  bool // AllowEndpoints cannot allow it
}

// specialRanges protects this machine from a wrong or malicious lookup. RFC 6890 lists such ranges.
// Private ranges are not special: upstreams have such addresses.
var specialRanges = []specialRange{
	{"loopback", netip.MustParsePrefix("127.0.0.0/8"), false},
	{"loopback", netip.MustParsePrefix("::1/128"), false},
	{"link-local", netip.MustParsePrefix("169.254.0.0/16"), false}, // clouds serve credentials here
	{"link-local", netip.MustParsePrefix("fe80::/10"), false},
	{"unspecified", netip.MustParsePrefix("0.0.0.0/8"), true},
	{"unspecified", netip.MustParsePrefix("::/128"), true},
	{"multicast", netip.MustParsePrefix("224.0.0.0/4"), true},
	{"multicast", netip.MustParsePrefix("ff00::/8"), true},
	{"reserved", netip.MustParsePrefix("240.0.0.0/4"), true}, // 255.255.255.255 included
}

// nat64 is the prefix of IPv4 addresses behind a translator (RFC 6052 section 2.1).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// guard checks the addresses that a Server connects to.
type guard struct {
	allow      []netip.Prefix
	deny       []netip.Prefix
	localAddrs func() []netip.Addr // the addresses of this machine, sorted

	listeners atomic.Pointer[[]netip.AddrPort] // of this Server; an unspecified address means all
	mu        sync.Mutex                       // serializes changes of listeners
}

// check returns an error if the Server must not connect to target. proxyDestination is the address
// that the client connected to according to a PROXY header, if there is one: behind a balancer it
// may lead back to this Server. check runs after DNS.
func (g *guard) check(target, proxyDestination netip.AddrPort) error {
	given := target.Addr().Unmap().WithZone("")
	ip := given
	if nat64.Contains(ip) {
		b := ip.As16()
		ip = netip.AddrFrom4([4]byte(b[12:]))
	}
	local := ip.IsLoopback() || g.isLocal(ip)
	if local && g.isListener(ip, target.Port()) ||
		proxyDestination.IsValid() && proxyDestination == netip.AddrPortFrom(ip, target.Port()) {
		return fmt.Errorf("%w: this server listens on %v", ErrLoop, target)
	}
	for _, s := range specialRanges {
		if s.prefix.Contains(ip) && (s.never || !g.allows(ip, s.prefix.Bits())) {
			return fmt.Errorf("%w: %v is %s", ErrForbidden, target, s.name)
		}
	}
	switch {
	case local && !ip.IsLoopback() && !g.allows(ip, ip.BitLen()):
		return fmt.Errorf("%w: %v is an address of this machine", ErrForbidden, target)
	case len(g.allow) > 0 && !g.allows(ip, 0):
		return fmt.Errorf("%w: %v is in no allowed network", ErrForbidden, target)
	}
	for _, p := range g.deny {
		if p.Contains(ip) || p.Contains(given) {
			return fmt.Errorf("%w: %v is in a denied network", ErrForbidden, target)
		}
	}
	return nil
}

// allows reports whether a prefix of at least that many bits contains ip. So 0.0.0.0/0 does not
// allow a special range.
func (g *guard) allows(ip netip.Addr, bits int) bool {
	for _, p := range g.allow {
		if p.Bits() >= bits && p.Contains(ip) {
			return true
		}
	}
	return false
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
		if l.Port() == port && (l.Addr().IsUnspecified() || l.Addr() == ip) {
			return true
		}
	}
	return false
}

// addListener adds the address of a listener. The result removes it.
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

// localAddrsMaxAge is the age at which the list of this machine's addresses is read again. The
// addresses change when a virtual address moves to this machine. Reading them takes about 50 µs.
const localAddrsMaxAge = 10 * time.Second

// localAddrList is the list of this machine's addresses.
type localAddrList struct {
	epoch  time.Time
	list   atomic.Pointer[[]netip.Addr]
	readAt atomic.Int64 // nanoseconds since epoch
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

// refresh reads the list. If that fails, the old list stays.
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
