package routes

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DefaultTTL is the TTL of DNS records if ZoneOptions.TTL is 0. It is short: after the removal of
// an address, resolvers return the address for only a few minutes.
const DefaultTTL = 5 * time.Minute

// ZoneOptions are the settings of AppendZone.
type ZoneOptions struct {
	// Origin is the domain name of the zone, for example "example.com". AppendZone ignores hosts
	// outside the zone.
	Origin string
	// Addrs are the addresses of the terminators. Every host gets an A or AAAA record for each
	// address.
	Addrs []netip.Addr
	// Target is a DNS name that resolves to Addrs. If Target is not empty, every host gets a CNAME
	// record to Target instead of addresses. Only Origin still needs Addrs, because a zone's origin
	// cannot be an alias (RFC 1034 section 3.6.2).
	Target string
	// TTL is the TTL of the records, in whole seconds; 0 means DefaultTTL.
	TTL time.Duration
}

// AppendZone appends the lines of a zone file (RFC 1035 section 5) for every host of the table at
// or below o.Origin. The lines are sorted by name. Names are absolute, so a line means the same in
// every file that includes it:
//
//	*.shop.example.com.	300	IN	CNAME	edge.example.com.
//	api.example.com.	300	IN	CNAME	edge.example.com.
//
// The lines contain no SOA and no NS record. Write these records into a zone file of your own, and
// add the line "$INCLUDE dns.zone". When the included lines change, raise the serial in your file.
//
// A wildcard of a table covers exactly one label, but in DNS, "*.example.com" also covers
// "a.b.example.com"; the terminators answer 404 for it. A DNS wildcard does not cover a name below
// which another name has records (RFC 4592 section 2.2.2). If a wildcard of the table covers such a
// name, AppendZone writes records for this name.
//
// AppendZone returns an error and dst unchanged if the options are invalid, or if a host of the
// table cannot have records. Such a host is
//
//   - Target itself,
//   - Origin, if there are a Target and no Addrs,
//   - a host with an underscore that would have Addrs. BIND refuses a whole zone in which a name
//     with an underscore has an address, unless "check-names" is off.
//
// ZoneOptions.Publishable leaves out these hosts.
func AppendZone(dst []byte, t Table, o ZoneOptions) ([]byte, error) {
	z, err := o.resolve()
	if err != nil {
		return dst, fmt.Errorf("routes: zone: %w", err)
	}
	sets, err := z.recordSets(t)
	if err != nil {
		return dst, fmt.Errorf("routes: zone: %w", err)
	}
	for _, set := range sets {
		for _, data := range set.data {
			if set.kind == "CNAME" {
				data += "."
			}
			dst = z.record(dst, set.host, set.kind, data)
		}
	}
	return dst, nil
}

// recordSet contains the records of one name and type. Names in the field "data" have no final dot.
type recordSet struct {
	host, kind string
	data       []string
}

// recordSets returns the records of the table's hosts in the zone, sorted by name. For each name, A
// comes before AAAA.
func (z zone) recordSets(t Table) (sets []recordSet, err error) {
	for _, host := range z.hosts(t) {
		switch {
		case z.alias(host) && host == z.target:
			return nil, fmt.Errorf("%s would be an alias of itself", host)
		case z.alias(host):
			sets = append(sets, recordSet{host, "CNAME", []string{z.target}})
			continue
		case len(z.addrs) == 0:
			return nil, fmt.Errorf("%s is the origin, which cannot be an alias: give Addrs too", host)
		case hasUnderscore(host):
			return nil, fmt.Errorf("%s: %s: give Target", host, errUnderscore)
		}
		var v4, v6 []string
		for _, a := range z.addrs {
			if a.Is6() {
				v6 = append(v6, a.String())
			} else {
				v4 = append(v4, a.String())
			}
		}
		if len(v4) > 0 {
			sets = append(sets, recordSet{host, "A", v4})
		}
		if len(v6) > 0 {
			sets = append(sets, recordSet{host, "AAAA", v6})
		}
	}
	return sets, nil
}

// Publishable returns the table without the hosts for which AppendZone would fail, and a problem
// for each of them:
//
//   - the host Target, because Target has records of its own,
//   - the host Origin, if there is a Target and there are no Addrs,
//   - a host with an underscore, if the host would have Addrs.
//
// If there is no such host, or if the options are invalid, it returns t itself.
func (o ZoneOptions) Publishable(t Table) (Table, []Problem) {
	z, err := o.resolve()
	if err != nil {
		return t, nil
	}
	var problems []Problem
	leaveOut := func(host, reason string) {
		var more []Problem
		t, more = t.withoutHost(host, reason)
		problems = append(problems, more...)
	}
	if z.target != "" && len(z.addrs) == 0 {
		leaveOut(z.origin, "it is the origin of the zone, which cannot be an alias and has no addresses, and gets no record there")
	}
	if z.target != "" && z.target != z.origin {
		leaveOut(z.target, "it is the target of the zone, which has records of its own, and gets none there")
	}
	for _, host := range t.Hosts() {
		if z.contains(host) && !z.alias(host) && hasUnderscore(host) {
			leaveOut(host, errUnderscore.Error()+", and it gets no record in the zone")
		}
	}
	return t, problems
}

var errUnderscore = errors.New("name servers accept no address for a name with an underscore")

func hasUnderscore(host string) bool { return strings.Contains(host, "_") }

// zone contains the settings of a ZoneOptions, checked and in normal form.
type zone struct {
	origin, target string
	addrs          []netip.Addr
	ttl            int64 // in seconds
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
	ttl := cmp.Or(o.TTL, DefaultTTL)
	if ttl < 0 || ttl%time.Second != 0 || ttl > math.MaxInt32*time.Second { // RFC 2181 section 8
		return z, fmt.Errorf("the TTL %s is not whole seconds from 1 to %d", ttl, math.MaxInt32)
	}
	z.ttl = int64(ttl / time.Second)
	return z, nil
}

// contains reports whether a host is the origin of the zone or is below it.
func (z zone) contains(host string) bool {
	return host == z.origin || strings.HasSuffix(host, "."+z.origin)
}

// alias reports whether a host of the zone gets a CNAME record. Otherwise it gets addresses.
func (z zone) alias(host string) bool { return z.target != "" && host != z.origin }

// hosts returns the sorted names that need DNS records: the hosts of t in the zone, and some names
// without a route of their own. For example, if "a.b.example.com" has records, the DNS wildcard
// "*.example.com" does not cover "b.example.com" (see AppendZone). So if the table contains
// "a.b.example.com" and "*.example.com", hosts also returns "b.example.com".
func (z zone) hosts(t Table) []string {
	declared := map[string]bool{}
	for _, h := range t.Hosts() {
		if z.contains(h) {
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
			if declared["*."+above] && h != z.target { // the target has records of its own
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
