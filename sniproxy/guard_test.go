package sniproxy

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/sniproxy/hostlookup"
)

func prefixes(s ...string) (list []netip.Prefix) {
	for _, p := range s {
		list = append(list, netip.MustParsePrefix(p))
	}
	return list
}

func TestGuard(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("2001:db8::5")}
	none := netip.AddrPort{}
	used := netip.MustParseAddrPort("10.51.100.1:443") // of a balancer, from a PROXY header
	for name, tt := range map[string]struct {
		allow, deny []netip.Prefix
		used        netip.AddrPort
		want        map[string]error
	}{
		"no lists": {nil, nil, none, map[string]error{
			"10.0.0.24:443":             nil,
			"192.0.2.1:80":              ErrForbidden,
			"198.51.100.1:80":           ErrForbidden,
			"203.0.113.1:80":            ErrForbidden,
			"[2001:db8::24]:443":        ErrForbidden,
			"[3fff::1]:443":             ErrForbidden,
			"[2001:2::1]:443":           ErrForbidden,
			"[::ffff:192.0.2.1]:80":     ErrForbidden,
			"[64:ff9b::c612:1]:80":      ErrForbidden, // 198.18.0.1 behind a translator
			"[2002:c000:201::1]:80":     ErrForbidden, // 192.0.2.1 behind 6to4
			"240.0.0.1:80":              ErrForbidden,
			"52.0.0.1:80":               nil,
			"[2a05::24]:443":            nil,
			"[fd00::1]:443":             nil,
			"127.0.0.1:80":              ErrForbidden,
			"127.9.9.9:80":              ErrForbidden,
			"[::1]:80":                  ErrForbidden,
			"[::ffff:127.0.0.1]:80":     ErrForbidden,
			"[::127.0.0.1]:80":          ErrForbidden,
			"[::ffff:0:127.0.0.1]:80":   ErrForbidden,
			"[64:ff9b:1::7f00:1]:80":    ErrForbidden,
			"[64:ff9b:1::a9fe:a9fe]:80": ErrForbidden,
			"[64:ff9b:1::a00:18]:80":    nil,
			"[2002:7f00:1::1]:80":       ErrForbidden,
			"[2002:a9fe:a9fe::1]:80":    ErrForbidden,
			"[2002:a00:18::1]:80":       nil,
			"[2001::80ff:fffe]:80":      ErrForbidden, // Teredo with the client 127.0.0.1
			"[2a05::5efe:7f00:1]:80":    ErrForbidden, // ISATAP
			"[2a05::5efe:a00:5]:80":     ErrForbidden, // own
			"[2a05:64::7f00:1]:80":      ErrForbidden, // by a translator of the site
			"[2a05:64::a00:18]:80":      nil,
			"[fec0::1]:80":              ErrForbidden,
			"100.100.100.200:80":        ErrForbidden,
			"168.63.129.16:80":          ErrForbidden,
			"192.0.0.192:80":            ErrForbidden,
			"192.0.0.8:80":              ErrForbidden,
			"[fd00:ec2::254]:80":        ErrForbidden,
			"[fd20:ce::254]:80":         ErrForbidden,
			"[100::1]:80":               ErrForbidden,
			"198.18.0.1:80":             ErrForbidden,
			"198.19.255.255:80":         ErrForbidden,
			"198.20.0.1:80":             nil,
			"[64:ff9b::7f00:1]:80":      ErrForbidden, // 127.0.0.1 behind a translator
			"[64:ff9b::a00:18]:80":      nil,
			"169.254.169.254:80":        ErrForbidden,
			"[fe80::1]:80":              ErrForbidden,
			"0.0.0.0:80":                ErrForbidden,
			"0.1.2.3:80":                ErrForbidden,
			"[::]:80":                   ErrForbidden,
			"224.0.0.1:80":              ErrForbidden,
			"255.255.255.255:80":        ErrForbidden,
			"[ff02::1]:80":              ErrForbidden,
			"10.0.0.5:80":               ErrForbidden, // of this machine
			"[2001:db8::5]:80":          ErrForbidden,
			"10.0.0.5:443":              ErrLoop,
			"[2001:db8::5]:443":         ErrLoop,
			"127.0.0.1:443":             ErrLoop,
			"[64:ff9b::7f00:1]:443":     ErrLoop,
			"[::127.0.0.1]:443":         ErrLoop,
			"[2002:7f00:1::1]:443":      ErrLoop,
			"127.0.0.1:9801":            ErrLoop, // an admin page
			"127.0.0.2:9801":            ErrLoop,
			"10.0.0.5:9801":             ErrLoop,
			"[::ffff:127.0.0.1]:9801":   ErrLoop,
			"[64:ff9b::7f00:1]:9801":    ErrLoop,
			"[2001:db8::5]:9801":        ErrLoop,
			"10.0.0.6:9801":             nil,
			"10.0.0.5:8443":             ErrForbidden, // this Server listens on another address
			"10.0.0.6:443":              nil,
		}},
		"wide prefixes do not allow special ranges": {prefixes("0.0.0.0/0", "::/0"), nil, none, map[string]error{
			"10.0.0.24:443":  nil,
			"[2a05::24]:443": nil,
			"127.0.0.1:80":   ErrForbidden,
			"[::1]:80":       ErrForbidden,
			"169.254.1.1:80": ErrForbidden,
			"10.0.0.5:80":    ErrForbidden,
			"224.0.0.1:80":   ErrForbidden,
			"192.0.2.1:80":   ErrForbidden,
			"198.18.0.1:80":  ErrForbidden,
		}},
		"laboratory": {prefixes("192.0.2.0/24", "198.18.0.0/15", "2001:db8::/32", "240.0.0.0/4"), nil, none, map[string]error{
			"192.0.2.1:80":       nil,
			"198.18.0.1:80":      nil,
			"[2001:db8::24]:443": nil,
			"240.0.0.1:80":       ErrForbidden, // never allowed
		}},
		"narrow prefixes allow special ranges": {prefixes("127.0.0.0/8", "::1/128", "10.0.0.0/8", "10.0.0.5/32", "169.254.1.0/24", "224.0.0.0/4", "0.0.0.0/8"), nil, none, map[string]error{
			"127.0.0.1:80":   nil,
			"[::1]:80":       nil,
			"10.0.0.5:80":    nil,
			"169.254.1.1:80": nil,
			"169.254.2.1:80": ErrForbidden,
			"10.0.0.24:443":  nil,
			"192.0.2.1:80":   ErrForbidden, // in no allowed network
			"127.0.0.1:443":  ErrLoop,      // never allowed
			"10.0.0.5:443":   ErrLoop,
			"224.0.0.1:80":   ErrForbidden, // never allowed
			"0.0.0.0:80":     ErrForbidden,
		}},
		"metadata only by a narrow prefix": {prefixes("169.254.0.0/16", "100.64.0.0/10", "fd00::/8", "fd20:ce::254/128", "10.0.0.0/8", "64:ff9b:1::/48"), nil, none, map[string]error{
			"169.254.1.1:80":         nil,
			"169.254.169.254:80":     ErrForbidden,
			"100.64.0.1:80":          nil,
			"100.100.100.200:80":     ErrForbidden,
			"[fd00::1]:80":           nil,
			"[fd00:ec2::254]:80":     ErrForbidden,
			"[fd20:ce::254]:80":      nil,
			"[64:ff9b:1::7f00:1]:80": ErrForbidden, // the prefix of the translator does not allow what is behind it
			"[64:ff9b::a00:18]:80":   nil,
			"[64:ff9b::b00:18]:80":   ErrForbidden, // not listed
			"[2002:a00:18::1]:80":    ErrForbidden, // a relay of 6to4 need not deliver it to 10.0.0.24
		}},
		"denied": {nil, prefixes("10.96.0.0/12"), none, map[string]error{
			"10.96.0.10:443":         ErrForbidden,
			"[::ffff:10.96.0.10]:80": ErrForbidden,
			"[64:ff9b::a60:a]:80":    ErrForbidden,
			"10.0.0.24:443":          nil,
		}},
		"NAT64 denied": {nil, prefixes("64:ff9b::/96"), none, map[string]error{
			"[64:ff9b::a00:18]:80": ErrForbidden,
			"10.0.0.24:443":        nil,
		}},
		"behind a balancer": {nil, nil, used, map[string]error{
			"10.51.100.1:443": ErrLoop,
			"10.51.100.1:444": nil,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			g := guard{allow: tt.allow, deny: tt.deny, nat64: prefixes("2a05:64::/96"), localAddrs: func() []netip.Addr { return own }}
			g.addListener(netip.MustParseAddrPort("[::]:443"))
			g.addListener(netip.MustParseAddrPort("127.0.0.1:8443"))
			g.addListener(netip.MustParseAddrPort("[::]:9801"))
			for target, want := range tt.want {
				err := g.check(netip.MustParseAddrPort(target), tt.used)
				if want == nil {
					require.NoError(t, err, target)
				} else {
					require.ErrorIs(t, err, want, target)
				}
			}
		})
	}
}

func TestGuardRemovesListeners(t *testing.T) {
	g := guard{localAddrs: func() []netip.Addr { return nil }, allow: prefixes("127.0.0.1/32")}
	target := netip.MustParseAddrPort("127.0.0.1:443")
	first := g.addListener(target)
	second := g.addListener(target) // a second listener with SO_REUSEPORT
	first()
	require.ErrorIs(t, g.check(target, netip.AddrPort{}), ErrLoop)
	second()
	require.NoError(t, g.check(target, netip.AddrPort{}))
	g.addListener(netip.AddrPort{})() // not an IP address
	require.NoError(t, g.check(target, netip.AddrPort{}))
}

func TestLocalAddresses(t *testing.T) {
	o := newLocalAddrList()
	require.Contains(t, o.get(), netip.MustParseAddr("127.0.0.1"))
	o.list.Store(&[]netip.Addr{})
	require.Empty(t, o.get(), "it is believed for a while")
	o.epoch = o.epoch.Add(-2 * localAddrsMaxAge)
	require.Contains(t, o.get(), netip.MustParseAddr("127.0.0.1"))
}

func TestParseEndpoint(t *testing.T) {
	for addr, want := range map[string]target{
		"10.0.0.24":             {addr: netip.MustParseAddrPort("10.0.0.24:8443")},
		"10.0.0.24:80":          {addr: netip.MustParseAddrPort("10.0.0.24:80")},
		"2001:db8::1":           {addr: netip.MustParseAddrPort("[2001:db8::1]:8443")},
		"[2001:db8::1]":         {addr: netip.MustParseAddrPort("[2001:db8::1]:8443")},
		"[2001:db8::1]:80":      {addr: netip.MustParseAddrPort("[2001:db8::1]:80")},
		"::ffff:10.0.0.24":      {addr: netip.MustParseAddrPort("10.0.0.24:8443")},
		"[::ffff:10.0.0.24]:80": {addr: netip.MustParseAddrPort("10.0.0.24:80")},
		"backend.internal":      {name: "backend.internal", port: 8443},
		"backend.internal:80":   {name: "backend.internal", port: 80},
	} {
		got, err := parseEndpoint(hostlookup.Endpoint{Addr: addr}, 8443)
		require.NoError(t, err, addr)
		require.Equal(t, want, got, addr)
	}
	for _, addr := range []string{"", "10.0.0.24:0", "10.0.0.24:http", "fe80::1%eth0", "[fe80::1%eth0]:80", "a b", "a:1:2", "10.0.0.1,10.0.0.2", ":80", "10.0.0.256"} {
		_, err := parseEndpoint(hostlookup.Endpoint{Addr: addr}, 8443)
		require.Error(t, err, addr)
	}
	_, err := parseEndpoint(hostlookup.Endpoint{Addr: "10.0.0.24"}, 0)
	require.Error(t, err, "no port")
}

type resolverFunc func(context.Context, string, string) ([]netip.Addr, error)

func (f resolverFunc) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	return f(ctx, network, host)
}

func TestResolve(t *testing.T) {
	var answer []netip.Addr
	var fail error
	r := resolverFunc(func(_ context.Context, network, host string) ([]netip.Addr, error) {
		require.Equal(t, "ip", network)
		require.Equal(t, "backend.internal", host)
		return answer, fail
	})
	name := target{name: "backend.internal", port: 80}

	answer = []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.1"), netip.MustParseAddr("2001:db8::1")}
	got, err := name.resolve(t.Context(), r)
	require.NoError(t, err)
	require.Equal(t, []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("[2001:db8::1]:80")}, got)

	for ip := netip.MustParseAddr("10.0.0.1"); len(answer) < 100; ip = ip.Next() {
		answer = append(answer, ip)
	}
	got, err = name.resolve(t.Context(), r)
	require.NoError(t, err)
	require.Len(t, got, maxTriedAddrs)

	answer = nil
	_, err = name.resolve(t.Context(), r)
	require.ErrorIs(t, err, ErrNoAddress)

	fail = errors.New("no such host")
	_, err = name.resolve(t.Context(), r)
	require.ErrorIs(t, err, fail)
	require.ErrorContains(t, err, "backend.internal")
}

func TestAttemptTimeout(t *testing.T) {
	for _, tt := range []struct {
		left time.Duration
		n    int
		want time.Duration
	}{
		{10 * time.Second, 1, 10 * time.Second},
		{10 * time.Second, 2, 5 * time.Second},
		{10 * time.Second, 8, minAttemptTimeout},
		{time.Second, 3, time.Second},
		{0, 3, time.Millisecond},
		{-time.Second, 1, time.Millisecond},
	} {
		require.Equal(t, tt.want, attemptTimeout(tt.left, tt.n))
	}
}
