// Package specialaddr finds IP addresses that have a special meaning: loopback, link-local, cloud
// metadata and the other ranges of the IANA registries. It also finds such an IPv4 address inside
// any form of IPv6 address.
//
// The package is for programs that connect to addresses which other people choose. Such a program
// calls [AppendForms] to get all forms of an address, looks up each form with [Find], and decides
// by the [Kind]:
//
//	var buf [specialaddr.MaxForms]netip.Addr
//	for _, form := range specialaddr.AppendForms(buf[:0], addr) {
//		if r, ok := specialaddr.Find(form); ok && r.Kind == specialaddr.Loopback {
//			return fmt.Errorf("%v is %v", addr, r)
//		}
//	}
//
// The ranges are from the documentation of cloud providers, and from the IANA registries of 2025
// (special-purpose IPv4 and IPv6 addresses, IPv6 address space, multicast addresses), without the
// ranges that the registries call globally reachable.
package specialaddr

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// Kind is the special meaning of a range of IP addresses. The zero Kind means no special meaning.
type Kind uint8

// The kinds.
const (
	Loopback      Kind = iota + 1 // this machine
	Unspecified                   // no machine; Linux connects to this machine instead
	LinkLocal                     // one network link; clouds serve credentials here
	Metadata                      // services of a cloud for its virtual machines, such as credentials
	Multicast                     // a group of machines
	Broadcast                     // all machines of a network
	Reserved                      // protocols, routers and future use: no server has such an address
	Documentation                 // examples; nothing has such an address, except in tests
	Benchmark                     // measurements of network devices, and laboratories
	Private                       // networks of one site
)

// String returns the kind in words that follow "is", such as "link-local" or "a private address".
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return ""
}

var kindNames = [...]string{
	Loopback: "loopback", Unspecified: "unspecified", LinkLocal: "link-local", Metadata: "a cloud metadata address",
	Multicast: "multicast", Broadcast: "broadcast", Reserved: "reserved", Documentation: "a documentation address",
	Benchmark: "a benchmarking address", Private: "a private address",
}

// Range is a range of addresses with a special meaning.
type Range struct {
	Prefix netip.Prefix
	Kind   Kind
	Source string // the document that defines the range
}

// String returns the kind and the source, such as "link-local (RFC 3927)".
func (r Range) String() string { return r.Kind.String() + " (" + r.Source + ")" }

// ranges are all special ranges of IP addresses. If several ranges contain an address, the one with
// the longest prefix decides.
var ranges = []Range{
	// The IANA IPv4 Special-Purpose Address Registry.
	row("0.0.0.0/8", Unspecified, "RFC 791 section 3.2"),
	row("10.0.0.0/8", Private, "RFC 1918"),
	row("100.64.0.0/10", Private, "RFC 6598"),
	row("127.0.0.0/8", Loopback, "RFC 1122 section 3.2.1.3"),
	row("169.254.0.0/16", LinkLocal, "RFC 3927"),
	row("172.16.0.0/12", Private, "RFC 1918"),
	row("192.0.0.0/24", Reserved, "RFC 6890 section 2.1"), // protocols, such as 192.0.0.8 of RFC 7600
	row("192.0.2.0/24", Documentation, "RFC 5737"),
	row("192.88.99.0/24", Reserved, "RFC 7526"), // relays of 6to4
	row("192.168.0.0/16", Private, "RFC 1918"),
	row("198.18.0.0/15", Benchmark, "RFC 2544"),
	row("198.51.100.0/24", Documentation, "RFC 5737"),
	row("203.0.113.0/24", Documentation, "RFC 5737"),
	row("240.0.0.0/4", Reserved, "RFC 1112 section 4"),
	row("255.255.255.255/32", Broadcast, "RFC 919 section 7"),
	// The IANA IPv4 Multicast Address Space Registry.
	row("224.0.0.0/4", Multicast, "RFC 5771"),

	// The IANA IPv6 Special-Purpose Address Registry.
	row("::/128", Unspecified, "RFC 4291 section 2.5.2"),
	row("::1/128", Loopback, "RFC 4291 section 2.5.3"),
	row("100::/64", Reserved, "RFC 6666"),       // discarded
	row("100:0:0:1::/64", Reserved, "RFC 9780"), // a dummy
	row("2001::/23", Reserved, "RFC 2928"),      // protocols
	row("2001:2::/48", Benchmark, "RFC 5180"),   // measurements
	row("2001:10::/28", Reserved, "RFC 4843"),   // identifiers of hosts, no addresses
	row("2001:20::/28", Reserved, "RFC 7343"),   // identifiers of hosts, no addresses
	row("2001:30::/28", Reserved, "RFC 9374"),   // identifiers of drones, no addresses
	row("2001:db8::/32", Documentation, "RFC 3849"),
	row("3fff::/20", Documentation, "RFC 9637"),
	row("5f00::/16", Reserved, "RFC 9602"), // segments of a route
	row("fc00::/7", Private, "RFC 4193"),
	row("fe80::/10", LinkLocal, "RFC 4291 section 2.5.6"),
	// The IANA IPv6 Address Space Registry.
	row("200::/7", Reserved, "RFC 4048"),    // NSAP addresses
	row("fec0::/10", LinkLocal, "RFC 3879"), // site-local addresses: some routers treat them like link-local ones
	row("ff00::/8", Multicast, "RFC 4291 section 2.7"),

	// The documentation of cloud providers.
	row("168.63.129.16/32", Metadata, "Azure"),
	row("169.254.0.23/32", Metadata, "Tencent Cloud"),
	row("169.254.10.10/32", Metadata, "Tencent Cloud"),
	row("169.254.42.42/32", Metadata, "Scaleway"),
	row("169.254.169.254/32", Metadata, "most clouds"),
	row("169.254.170.2/32", Metadata, "Amazon ECS"),
	row("169.254.170.23/32", Metadata, "Amazon EKS"),
	row("100.100.100.200/32", Metadata, "Alibaba Cloud"),
	row("192.0.0.192/32", Metadata, "Oracle Cloud"),
	row("fd00:42::42/128", Metadata, "Scaleway"),
	row("fd00:100::100:200/128", Metadata, "Alibaba Cloud"),
	row("fd00:a9fe:a9fe::1/128", Metadata, "Akamai"),
	row("fd00:c1::a9fe:a9fe/128", Metadata, "Oracle Cloud"),
	row("fd00:ec2::/32", Metadata, "Amazon EC2"), // fd00:ec2::254 serves metadata, and fd00:ec2::23 serves credentials of pods
	row("fd20:ce::254/128", Metadata, "Google Cloud"),
	row("fe80::a9fe:a9fe/128", Metadata, "OpenStack"),
}

// ranges4 and ranges6 are the ranges of each family, the longest prefix first.
var ranges4, ranges6 = byFamily(true), byFamily(false)

func row(prefix string, kind Kind, source string) Range {
	return Range{netip.MustParsePrefix(prefix), kind, source}
}

func byFamily(is4 bool) (list []Range) {
	for _, r := range ranges {
		if r.Prefix.Addr().Is4() == is4 {
			list = append(list, r)
		}
	}
	slices.SortStableFunc(list, func(a, b Range) int { return b.Prefix.Bits() - a.Prefix.Bits() })
	return list
}

// ordinary lists exceptions: prefixes within a special range whose addresses are not special. The
// registries of IANA call these prefixes globally reachable, except the prefix of Teredo. A Teredo
// address is special if one of the IPv4 addresses in it is; see AppendForms.
var ordinary = []netip.Prefix{
	netip.MustParsePrefix("192.0.0.9/32"),    // RFC 7723
	netip.MustParsePrefix("192.0.0.10/32"),   // RFC 8155
	netip.MustParsePrefix("2001:1::1/128"),   // RFC 7723
	netip.MustParsePrefix("2001:1::2/128"),   // RFC 8155
	netip.MustParsePrefix("2001:1::3/128"),   // RFC 9665
	netip.MustParsePrefix("2001:3::/32"),     // RFC 7450
	netip.MustParsePrefix("2001:4:112::/48"), // RFC 7535
	teredo,
}

// Find returns the range with the longest prefix that contains addr. It does not look for an IPv4
// address in an IPv6 address: AppendForms does this.
func Find(addr netip.Addr) (Range, bool) {
	list := ranges6
	if addr.Is4() {
		list = ranges4
	}
	for _, r := range list {
		if r.Prefix.Contains(addr) {
			for _, p := range ordinary {
				if p.Contains(addr) {
					return Range{}, false
				}
			}
			return r, true
		}
	}
	return Range{}, false
}

// MaxForms is the largest number of addresses that AppendForms appends if the caller passes no
// prefixes. Each prefix adds at most one address.
const MaxForms = 8

// NAT64 is the prefix that every NAT64 translator may use (RFC 6052 section 2.1). The last 4 bytes
// of an IPv6 address with this prefix are an IPv4 address. Packets to the IPv6 address arrive at
// this IPv4 address.
var NAT64 = netip.MustParsePrefix("64:ff9b::/96")

// These prefixes, and NAT64, contain the IPv6 addresses that embed an IPv4 address.
var (
	compatible = netip.MustParsePrefix("::/96")           // RFC 4291 section 2.5.5.1
	translated = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 2765 section 2.1
	localNAT64 = netip.MustParsePrefix("64:ff9b:1::/48")  // RFC 8215
	teredo     = netip.MustParsePrefix("2001::/32")       // RFC 4380 section 4
	sixToFour  = netip.MustParsePrefix("2002::/16")       // RFC 3056 section 2
)

// AppendForms appends every address at which packets for addr may arrive: addr without its zone,
// and each IPv4 address inside addr. For an IPv4-mapped address, it appends only the IPv4 address.
// prefixes are the further NAT64 prefixes of the site, besides 64:ff9b::/96 and 64:ff9b:1::/48. Each
// of them has 32, 40, 48, 56, 64 or 96 bits (RFC 6052).
func AppendForms(dst []netip.Addr, addr netip.Addr, prefixes ...netip.Prefix) []netip.Addr {
	addr = addr.Unmap().WithZone("")
	dst = append(dst, addr)
	if !addr.Is6() {
		return dst
	}
	b := addr.As16()
	last := netip.AddrFrom4([4]byte(b[12:]))
	switch {
	case compatible.Contains(addr):
		if !addr.IsUnspecified() && !addr.IsLoopback() {
			dst = append(dst, last)
		}
	case translated.Contains(addr), NAT64.Contains(addr):
		dst = append(dst, last)
	case localNAT64.Contains(addr):
		dst = appendLocalNAT64(dst, b)
	case teredo.Contains(addr): // the server of the tunnel, and the inverted address of its client
		server, client := [4]byte(b[4:8]), [4]byte{}
		binary.BigEndian.PutUint32(client[:], ^binary.BigEndian.Uint32(b[12:]))
		dst = append(dst, netip.AddrFrom4(server), netip.AddrFrom4(client))
	case sixToFour.Contains(addr):
		dst = append(dst, netip.AddrFrom4([4]byte(b[2:6])))
	}
	if id := binary.BigEndian.Uint32(b[8:12]); id == 0x00005efe || id == 0x02005efe { // ISATAP: RFC 5214 section 6.1
		dst = append(dst, last)
	}
	for _, p := range prefixes {
		if p.Contains(addr) {
			dst = append(dst, embedded(b, p.Bits()))
		}
	}
	return dst
}

// appendLocalNAT64 appends the IPv4 addresses in an address b within 64:ff9b:1::/48. It tries all
// four lengths of a NAT64 prefix, 48, 56, 64 and 96 bits. A wrong length usually gives an address
// in 0.0.0.0/8, which it leaves out. If there is no other address, it appends 0.0.0.0.
func appendLocalNAT64(dst []netip.Addr, b [16]byte) []netip.Addr {
	known := len(dst)
	for _, bits := range []int{48, 56, 64, 96} {
		if a := embedded(b, bits); a.As4()[0] != 0 {
			dst = append(dst, a)
		}
	}
	if len(dst) == known {
		dst = append(dst, netip.IPv4Unspecified())
	}
	return dst
}

// embedded returns the IPv4 address in the NAT64 address b. The NAT64 prefix has the given number
// of bits, and the IPv4 address follows it. Byte 8 of b is always 0 and not a part of the IPv4
// address (RFC 6052 section 2.2).
func embedded(b [16]byte, bits int) netip.Addr {
	var a [4]byte
	for i, at := 0, bits/8; i < 4; at++ {
		if at == 8 {
			continue
		}
		a[i] = b[at]
		i++
	}
	return netip.AddrFrom4(a)
}
