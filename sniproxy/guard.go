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

// A special range is closed to endpoints until it is allowed by name.
type specialRange struct {
	name   string
	prefix netip.Prefix
	never  bool // not even then
}

// What an answer from outside must not lead to. RFC 6890 has the registry. Private ranges
// are where upstreams are, so they are open.
var specialRanges = []specialRange{
	{"loopback", netip.MustParsePrefix("127.0.0.0/8"), false},
	{"loopback", netip.MustParsePrefix("::1/128"), false},
	{"link-local", netip.MustParsePrefix("169.254.0.0/16"), false}, // where clouds keep credentials
	{"link-local", netip.MustParsePrefix("fe80::/10"), false},
	{"unspecified", netip.MustParsePrefix("0.0.0.0/8"), true},
	{"unspecified", netip.MustParsePrefix("::/128"), true},
	{"multicast", netip.MustParsePrefix("224.0.0.0/4"), true},
	{"multicast", netip.MustParsePrefix("ff00::/8"), true},
	{"reserved", netip.MustParsePrefix("240.0.0.0/4"), true}, // with 255.255.255.255
}

// nat64 is the prefix behind which a translator reaches IPv4 (RFC 6052 section 2.1).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// guard decides which addresses may be connected to.
type guard struct {
	allow      []netip.Prefix
	deny       []netip.Prefix
	localAddrs func() []netip.Addr // addresses of this machine, sorted

	listeners atomic.Pointer[[]netip.AddrPort] // own ones; unspecified addresses mean all
	mu        sync.Mutex                       // of those who change listeners
}

// check is about addresses, so it comes after DNS. used is the address that the client
// connected to, as far as that is known: behind a balancer it may lead back here too.
func (g *guard) check(target, used netip.AddrPort) error {
	ip := target.Addr().Unmap().WithZone("")
	given := ip
	if nat64.Contains(ip) {
		b := ip.As16()
		ip = netip.AddrFrom4([4]byte(b[12:]))
	}
	own := ip.IsLoopback() || g.isLocal(ip)
	if own && g.isListener(ip, target.Port()) || used.IsValid() && used == netip.AddrPortFrom(ip, target.Port()) {
		return fmt.Errorf("%w: %v is where this server listens", ErrLoop, target)
	}
	for _, s := range specialRanges {
		if s.prefix.Contains(ip) && (s.never || !g.allows(ip, s.prefix.Bits())) {
			return fmt.Errorf("%w: %v is %s", ErrForbidden, target, s.name)
		}
	}
	switch {
	case own && !ip.IsLoopback() && !g.allows(ip, ip.BitLen()):
		return fmt.Errorf("%w: %v is of this machine", ErrForbidden, target)
	case len(g.allow) > 0 && !g.allows(ip, 0):
		return fmt.Errorf("%w: %v is not among those allowed", ErrForbidden, target)
	}
	for _, p := range g.deny {
		if p.Contains(ip) || p.Contains(given) {
			return fmt.Errorf("%w: %v is denied", ErrForbidden, target)
		}
	}
	return nil
}

// allows tells whether a prefix with at least that many bits covers ip: who allows
// 0.0.0.0/0 does not think of loopback.
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

// listen adds an own listener, and the result takes it away.
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

// ownMaxAge is for how long the list of this machine's addresses is believed. They
// change when a virtual address moves here, and asking the kernel takes some 50 µs.
const localAddrsMaxAge = 10 * time.Second

// ownAddrs is that list.
type localAddrList struct {
	epoch time.Time
	list  atomic.Pointer[[]netip.Addr]
	asked atomic.Int64 // since epoch
}

func newLocalAddrList() *localAddrList {
	o := &localAddrList{epoch: time.Now()}
	o.refresh()
	return o
}

func (o *localAddrList) get() []netip.Addr {
	asked := o.asked.Load()
	if now := int64(time.Since(o.epoch)); now-asked > int64(localAddrsMaxAge) && o.asked.CompareAndSwap(asked, now) {
		o.refresh()
	}
	return *o.list.Load()
}

// refresh keeps the old list where there is no new one.
func (o *localAddrList) refresh() {
	var list []netip.Addr
	nets, err := net.InterfaceAddrs()
	if err != nil && o.list.Load() != nil {
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
	o.list.Store(&list)
}
