package edge

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"

	"github.com/headgate/headgate/haproxycfg/routes"
)

// appendBackendKey appends the key of the backend of the route r. The key encodes everything in r
// that changes the backend. Routes with the same key share a backend. Weights in the same ratio,
// such as 1:2 and 50:100, have the same key.
func appendBackendKey(k []byte, r *routes.Route) []byte {
	k = appendFamilyKey(k, r)
	if len(r.Backends) > 1 {
		k = appendWeights(append(k, "weights"...), r)
	}
	return k
}

// appendWeights appends the weights of the backends of r, divided by their greatest common divisor:
// "1;2;" for the weights 50 and 100. Routes whose weights have the same ratio get the same text.
func appendWeights(k []byte, r *routes.Route) []byte {
	divisor := 0
	for _, b := range r.Backends {
		divisor = gcd(divisor, b.Weight)
	}
	for _, b := range r.Backends {
		k = append(strconv.AppendInt(k, int64(b.Weight/max(divisor, 1)), 10), ';')
	}
	return k
}

// appendFamilyKey appends the key of the family of the route r. The routes of a family differ only in
// their hosts, paths and weights. The key contains everything that determines the settings of the
// backend, and the services.
func appendFamilyKey(k []byte, r *routes.Route) []byte {
	field := func(s string) { // field writes the length of s first, so that different lists of fields give different keys
		k = strconv.AppendInt(k, int64(len(s)), 10)
		k = append(k, ':')
		k = append(k, s...)
	}
	number := func(n int64) {
		k = strconv.AppendInt(k, n, 10)
		k = append(k, ';')
	}
	for _, b := range r.Backends {
		field(b.Cluster)
		field(b.Namespace)
		field(b.Service)
		field(b.Port)
		if len(r.Backends) == 1 {
			number(int64(min(b.Weight, 1)))
		}
	}
	number(int64(r.Timeouts.Server))
	number(int64(r.Timeouts.Tunnel))
	if r.Protocol != routes.HTTP1 {
		field("protocol " + string(r.Protocol))
	}
	if l := r.Limits; l != (routes.Limits{}) {
		// HAProxy counts the requests of a whole backend. So a route with limits needs a backend of
		// its own: the host and path make the key unique.
		field("limits")
		for _, n := range [...]int{l.Requests, l.Connections, l.Source.Requests, l.Source.Connections} {
			number(int64(n))
		}
		field(r.Host)
		field(r.Path)
		field(strconv.FormatBool(r.Exact))
	}
	if r.Shift { // its requests may move to another cluster, so it must not share a backend
		field("shift")
		field(r.Name())
	}
	if len(r.Prefer) > 0 { // its preferences may change at run time, so it must not share a backend
		field("prefer")
		field(r.Name())
	}
	if c := r.Check; c != nil {
		field(c.Path)
		field(c.Host)
		if c.GRPC {
			field("grpc")
		}
		number(int64(c.Interval))
		number(int64(c.Rise))
		number(int64(c.Fall))
	}
	return k
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// backendName returns the name of the backend of r: Edge.Fragment and the parts of the first
// service's reference, separated by ".". If the backend depends on more than this service,
// backendName appends ":" and a hash of key, the result of appendFamilyKey. The key does not
// contain weights, so new weights do not change the name.
//
// In a part that is not a Kubernetes label, "_" replaces each wrong byte. The hash then makes the
// name unique.
func (e *Edge) backendName(r *routes.Route, key string) string {
	first := r.Backends[0]
	n := []byte(e.Fragment)
	most := maxLabel
	if len(e.Fragment) > 1 {
		most = maxFragmentLabel
	}
	exact := true
	for i, part := range [...]string{first.Cluster, first.Namespace, first.Service, first.Port} {
		if i > 0 {
			n = append(n, '.')
		}
		var same bool
		n, same = appendLabel(n, part, most)
		exact = exact && same
	}
	if exact && len(r.Backends) == 1 && first.Weight > 0 && r.Check == nil && r.Timeouts == (routes.Timeouts{}) &&
		r.Protocol == routes.HTTP1 && r.Limits == (routes.Limits{}) && !r.Shift && len(r.Prefer) == 0 {
		return string(n)
	}
	return string(appendHash(n, key))
}

func appendHash(b []byte, s string) []byte {
	sum := sha256.Sum256([]byte(s))
	return hex.AppendEncode(append(b, ':'), sum[:5])
}

// maxLabel is the largest number of bytes of a label in the name of a backend. If Edge.Fragment has
// more than one byte, the largest number is maxFragmentLabel. A Kubernetes label has up to 63
// bytes, and Edge.Fragment up to 32. Four labels of 63 bytes, a hash and a slot of up to five
// digits (see slotName) would make a name longer than haproxycfg.MaxName.
const maxLabel, maxFragmentLabel = 58, 50

// appendLabel appends the first bytes of s, at most "most" of them, with "_" in place of each byte
// that no Kubernetes label contains. It returns true if it has appended s unchanged.
func appendLabel(b []byte, s string, most int) ([]byte, bool) {
	same := s != "" && len(s) <= most
	for i := 0; i < len(s) && i < most; i++ {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-') {
			c, same = '_', false
		}
		b = append(b, c)
	}
	return b, same
}

// nodesBackend returns the name of the backend that contains a cluster's nodes.
func (e *Edge) nodesBackend(cluster string) string {
	b, same := appendLabel([]byte(e.Fragment+"nodes."), cluster, maxLabel)
	if !same {
		b = appendHash(b, cluster)
	}
	return string(b)
}
