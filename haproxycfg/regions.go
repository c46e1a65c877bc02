package haproxycfg

import (
	"net/netip"
	"strconv"
	"strings"
)

// trustedClient is the name of an ACL of HAProxy. The ACL is true if the variable txn.client is an
// address of Frontend.TrustedProxies.
const trustedClient = "trusted-client"

// regionHops is the number of addresses at the end of X-Forwarded-For in which HAProxy looks for
// the address of the client. The proxy in front of HAProxy has added the last address, and each
// earlier proxy has added an earlier address. So a request may pass at most two other trusted
// proxies before the proxy in front of HAProxy.
const regionHops = 3

// appendRegion renders the rules that set the variable txn.region to the region of the client; see
// [Router].
func (f *Frontend) appendRegion(t *text, maps map[string]string) {
	r := f.Router
	if r == nil || r.Regions == "" && r.RegionValues == "" {
		return
	}
	trusts := len(f.TrustedProxies) > 0
	if r.RegionValues != "" && trusts {
		lookUp(t, "region", "req.hdr("+r.RegionHeader+"),lower", "str", maps[r.RegionValues], " if "+trustedProxy)
	}
	if r.RegionHeader != "" && f.Forwarded == ForwardedReplace {
		t.line("http-request del-header " + r.RegionHeader)
		if trusts {
			t.raw(" if !" + trustedProxy)
		}
	}
	if r.Regions == "" {
		return
	}
	t.line("http-request set-var(txn.client) src")
	if trusts {
		for _, network := range f.TrustedProxies {
			t.line("acl " + trustedClient + " var(txn.client) -m ip " + network.String())
		}
		// The last address in X-Forwarded-For is the address from which the trusted proxy got the
		// request. If this address is a trusted proxy too, the address before it is the address from
		// which that proxy got the request.
		for hop := 1; hop <= regionHops; hop++ {
			t.line("http-request set-var(txn.client) req.hdr_ip(X-Forwarded-For,-" + strconv.Itoa(hop) + ") if " + trustedProxy)
			if hop > 1 {
				t.raw(" " + trustedClient)
			}
		}
	}
	lookUp(t, "region", "var(txn.client)", "ip", maps[r.Regions], " if !{ var(txn.region) -m found }")
}

// appendPrefer renders the look-ups in the map Prefer; see [Router]. HAProxy makes up to two look-ups
// for a request.
func (r *Router) appendPrefer(t *text, maps map[string]string) {
	if r.Prefer == "" {
		return
	}
	const unshifted = " if { var(txn.backend) -m found } !{ var(txn.parts) -m found }"
	lookUp(t, "prefer", "var(txn.backend),concat(/,txn.region)", "str", maps[r.Prefer], unshifted)
	if r.Regions != "" || r.RegionValues != "" {
		lookUp(t, "prefer", "var(txn.backend),concat(/)", "str", maps[r.Prefer], unshifted+" { var(txn.region) -m found } !{ var(txn.prefer) -m found }")
	}
	const undecided = " if { var(txn.prefer) -m found } !{ var(txn.part) -m found }"
	for i := range MaxPreferred {
		// If the value names fewer than MaxPreferred backends, the last rounds of this loop have no
		// backend of their own. In these rounds, the third rule tries the last backend again, or none.
		for j, name := range [...]string{"first", "min1"} {
			t.line("http-request set-var(txn." + name + ") 'var(txn.prefer),field(" + strconv.Itoa(2*i+j+1) + ",/)'" + undecided)
		}
		t.line("http-request set-var(txn.part) var(txn.first)" + undecided + " " + enoughServers("txn.first", "txn.min1"))
	}
	t.line("http-request set-var(txn.backend) var(txn.part) if { var(txn.prefer) -m found } { var(txn.part) -m found }")
}

// prefer checks the fields Prefer, Regions, RegionValues and RegionHeader of a router.
func (v *validator) prefer(c *Config, r *Router) {
	if r.Prefer != "" {
		if i, ok := v.routerMap("Prefer", r.Prefer); ok {
			for _, e := range c.Maps[i].Entries {
				v.preferred(e)
			}
		}
	}
	if r.Regions != "" {
		if i, ok := v.routerMap("Regions", r.Regions); ok {
			for _, e := range c.Maps[i].Entries {
				if n, err := netip.ParsePrefix(e.Key); err != nil || n != n.Masked() || n.Addr().Is4In6() {
					v.addf("router: Regions: key %q is not a network such as 192.0.2.0/24", e.Key)
				}
			}
		}
	}
	if (r.RegionHeader == "") != (r.RegionValues == "") {
		v.addf("router: RegionHeader and RegionValues need each other")
	}
	if strings.Trim(r.RegionHeader, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" {
		v.addf("router: RegionHeader: %q is not the name of a header", r.RegionHeader)
	}
	if r.RegionValues != "" {
		v.routerMap("RegionValues", r.RegionValues)
	}
}

// preferred adds a fault if the value of e is not a list of backends and numbers.
func (v *validator) preferred(e MapEntry) {
	fields := strings.Split(e.Value, "/")
	if len(fields)%2 != 0 || len(fields) > 2*MaxPreferred || !strings.Contains(e.Key, "/") {
		v.addf("router: Prefer: %q to %q: want BACKEND/REGION and up to %d pairs BACKEND/MIN", e.Key, e.Value, MaxPreferred)
		return
	}
	for i := 0; i < len(fields); i += 2 {
		if _, ok := v.backends[fields[i]]; !ok {
			v.addf("router: Prefer: key %q: backend %q does not exist", e.Key, fields[i])
		}
		v.mapNumber("router: Prefer", e, fields[i+1])
	}
}
