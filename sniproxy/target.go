package sniproxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/headgate/headgate/sniproxy/hostlookup"
)

// target is where an endpoint leads: an address, or a name that has some.
type target struct {
	addr netip.AddrPort
	name string
	port uint16
}

// targetOf reads an endpoint; port is the one that the client used.
func targetOf(ep hostlookup.Endpoint, port uint16) (target, error) {
	// Addresses are the common case, and these take no memory.
	if ip, err := netip.ParseAddr(ep.Addr); err == nil && port != 0 && ip.Zone() == "" {
		return target{addr: netip.AddrPortFrom(ip.Unmap(), port)}, nil
	}
	if ap, err := netip.ParseAddrPort(ep.Addr); err == nil && ap.Port() != 0 && ap.Addr().Zone() == "" {
		return target{addr: netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())}, nil
	}
	s, err := ep.DialAddr(port)
	if err != nil {
		return target{}, err
	}
	host, digits, err := net.SplitHostPort(s)
	if err != nil {
		return target{}, err
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return target{}, err
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return target{addr: netip.AddrPortFrom(ip.Unmap(), uint16(n))}, nil
	}
	return target{name: host, port: uint16(n)}, nil
}

// maxAddrs bounds how many addresses of a name are tried.
const maxAddrs = 8

// resolve asks for the addresses of a target.
func (t target) resolve(ctx context.Context, r Resolver) ([]netip.AddrPort, error) {
	if t.name == "" {
		return []netip.AddrPort{t.addr}, nil
	}
	ips, err := r.LookupNetIP(ctx, "ip", t.name)
	if err != nil {
		return nil, fmt.Errorf("sniproxy: endpoint %q: %w", t.name, err)
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("%w: endpoint %q", ErrNoAddress, t.name)
	}
	addrs := make([]netip.AddrPort, min(len(ips), maxAddrs))
	for i := range addrs {
		addrs[i] = netip.AddrPortFrom(ips[i].Unmap(), t.port)
	}
	return addrs, nil
}

// minAttempt is what an attempt to connect gets at least, where there is time for it: a
// lost SYN is sent again after a second.
const minAttempt = 2 * time.Second

// attempt is how long to try one of n addresses with that much time left.
func attempt(left time.Duration, n int) time.Duration {
	return max(min(left, max(left/time.Duration(n), minAttempt)), time.Millisecond)
}
