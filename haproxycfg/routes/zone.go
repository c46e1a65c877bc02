package routes

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DefaultTTL is the TTL of DNS entries where ZoneOptions has none: short
// enough to take an address out of service within minutes.
const DefaultTTL = 5 * time.Minute

// ZoneOptions say which DNS entries AppendZone writes.
type ZoneOptions struct {
	// Origin is the zone, for example "example.com". Hosts outside it are left
	// out.
	Origin string
	// Addrs are the addresses of the terminators: every host gets an A or AAAA
	// record for each.
	Addrs []netip.Addr
	// Target, if not empty, is a name that has those addresses: every host gets
	// a CNAME to it instead, but for the origin itself, which cannot be an
	// alias (RFC 1034 section 3.6.2) and so still needs Addrs.
	Target string
	// TTL is in whole seconds; 0 means DefaultTTL.
	TTL time.Duration
}

// AppendZone appends the zone-file lines (RFC 1035 section 5) of every host of
// the table at or below o.Origin, sorted by name, with absolute names, so that
// they mean the same wherever they are included:
//
//	*.shop.example.com.	300	IN	CNAME	edge.example.com.
//	api.example.com.	300	IN	CNAME	edge.example.com.
//
// There is neither SOA nor NS: keep those in a zone file of your own, with
// "$INCLUDE dns.zone" in it, and raise its serial when this part changes. Equal
// input gives equal bytes.
//
// A wildcard of the DNS covers more than one label, where one of the table
// covers exactly one: names further below resolve, and the terminators answer
// that they are unknown. And a name that merely has names below it is not
// covered by the wildcard (RFC 4592 section 2.2.2); where the table would serve
// it, it gets records of its own.
//
// An error means that the options are unusable, or that a host of the table cannot have the
// records: Target itself, Origin without Addrs, or a host with an underscore that would get Addrs
// (many name servers then refuse the whole zone; BIND calls the check "check-names"). AppendZone
// then returns dst unchanged. ZoneOptions.Publishable removes these hosts from a table.
func AppendZone(dst []byte, t Table, o ZoneOptions) ([]byte, error) {
	z, err := o.resolve()
	if err != nil {
		return dst, fmt.Errorf("routes: zone: %w", err)
	}
	hosts := z.hosts(t)
	out := dst
	for _, host := range hosts {
		if !z.alias(host) {
			if len(z.addrs) == 0 {
				return dst, fmt.Errorf("routes: zone: %s is the origin, which cannot be an alias: give Addrs too", host)
			}
			if hasUnderscore(host) {
				return dst, fmt.Errorf("routes: zone: %s: %s: give Target", host, underscore)
			}
			for _, a := range z.addrs {
				kind := "A"
				if a.Is6() {
					kind = "AAAA"
				}
				out = z.record(out, host, kind, a.String())
			}
			continue
		}
		if host == z.target {
			return dst, fmt.Errorf("routes: zone: %s would be an alias of itself", host)
		}
		out = z.record(out, host, "CNAME", z.target+".")
	}
	return out, nil
}

// zone is ZoneOptions, checked and in normal form.
type zone struct {
	origin, target string
	addrs          []netip.Addr
	ttl            int64 // seconds
}

func (o ZoneOptions) resolve() (z zone, err error) {
	if z.origin, err = normalHost(o.Origin); err != nil {
		return z, fmt.Errorf("origin: %q %w", o.Origin, err)
	}
	if o.Target != "" {
		if z.target, err = normalHost(o.Target); err != nil {
			return z, fmt.Errorf("target: %q %w", o.Target, err)
		}
	}
	if o.Target == "" && len(o.Addrs) == 0 {
		return z, errors.New("neither addresses nor a target name given")
	}
	for _, a := range o.Addrs {
		a = a.Unmap()
		if !a.IsValid() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
			return z, fmt.Errorf("%s is no address to publish", a)
		}
		z.addrs = append(z.addrs, a)
	}
	slices.SortFunc(z.addrs, netip.Addr.Compare)
	z.addrs = slices.Compact(z.addrs)
	ttl := o.TTL
	if ttl == 0 {
		ttl = DefaultTTL
	}
	if ttl < 0 || ttl%time.Second != 0 || ttl > math.MaxInt32*time.Second { // RFC 2181 section 8
		return z, fmt.Errorf("the TTL %s is not whole seconds from 1 to %d", ttl, math.MaxInt32)
	}
	z.ttl = int64(ttl / time.Second)
	return z, nil
}

// within reports whether a host is the origin or below it.
func (z zone) within(host string) bool {
	return host == z.origin || strings.HasSuffix(host, "."+z.origin)
}

// alias reports whether a host gets a CNAME record instead of addresses.
func (z zone) alias(host string) bool { return z.target != "" && host != z.origin }

const underscore = "name servers accept no address for a name with an underscore"

func hasUnderscore(host string) bool { return strings.Contains(host, "_") }

// hosts returns the hosts of t within the zone, and the names between them and
// the origin that only a wildcard of t serves.
func (z zone) hosts(t Table) []string {
	declared := map[string]bool{}
	for _, h := range t.Hosts() {
		if z.within(h) {
			declared[h] = true
		}
	}
	names := make([]string, 0, len(declared))
	for h := range declared {
		names = append(names, h)
		for {
			_, parent, ok := strings.Cut(h, ".")
			if !ok || !strings.HasSuffix(parent, "."+z.origin) {
				break
			}
			h = parent
			_, above, _ := strings.Cut(h, ".")
			if declared["*."+above] && h != z.target { // which has records of its own
				names = append(names, h)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (z zone) record(dst []byte, name, kind, data string) []byte {
	dst = append(append(dst, name...), ".\t"...)
	dst = strconv.AppendInt(dst, z.ttl, 10)
	dst = append(append(dst, "\tIN\t"...), kind...)
	return append(append(append(dst, '\t'), data...), '\n')
}
