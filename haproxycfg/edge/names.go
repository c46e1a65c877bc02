package edge

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"strings"

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

// family is a set of routes that differ only in their hosts, paths and weights. Each ratio of
// weights needs a backend, and HAProxy before 3.4 cannot add a backend at run time. So a family has
// spare backends without servers, which a program fills at run time.
type family struct {
	route    *routes.Route  // one route of the family
	slots    map[string]int // the index of the backend for each ratio of weights, see appendWeights
	names    []string       // the names of the backends
	rendered []bool         // true for the backends that are not spare
}

// canSplit reports whether the route r belongs to a family: a set of routes that may need several
// backends because their weights differ. Two kinds of routes belong to no family: a route with one
// service, and a route with limits, Shift or Prefer, whose backend belongs to this route alone.
func canSplit(r *routes.Route) bool {
	return len(r.Backends) > 1 && !r.Shift && len(r.Prefer) == 0 && r.Limits == (routes.Limits{})
}

// minSlots is the smallest number of backends of a family, so that there are spare backends for a
// second ratio of weights. A spare backend is cheap: it has no servers, so HAProxy makes no checks.
const minSlots = 4

// findFamilies finds the families of the declared routes (see the type family), and assigns a
// backend of its family to each ratio of weights.
func (b *builder) findFamilies(declared []routes.Route) {
	var key []byte
	for i := range declared {
		r := &declared[i]
		if !canSplit(r) {
			continue
		}
		key = appendFamilyKey(key[:0], r)
		f := b.families[string(key)]
		if f == nil {
			if b.families == nil {
				b.families = make(map[string]*family)
			}
			f = &family{route: r, slots: make(map[string]int, 1)}
			b.families[string(key)] = f
		}
		key = appendWeights(key[:0], r)
		if _, ok := f.slots[string(key)]; !ok {
			f.slots[string(key)] = 0
		}
	}
	for _, f := range b.families {
		f.assign()
	}
}

// assign chooses a backend for each ratio of weights in the family. If the family has only one
// ratio, assign chooses the first backend, so the name of the backend stays when the weights
// change. If the family has several ratios, hashes choose the backends, so most ratios keep their
// backends when one ratio changes.
func (f *family) assign() {
	size := minSlots
	for size < 2*len(f.slots) {
		size *= 2
	}
	f.names, f.rendered = make([]string, size), make([]bool, size)
	if len(f.slots) == 1 {
		return // the slot is 0
	}
	hash := func(ratio string) uint64 {
		sum := sha256.Sum256([]byte(ratio))
		return binary.BigEndian.Uint64(sum[:])
	}
	ratios := slices.SortedFunc(maps.Keys(f.slots), func(x, y string) int { return cmp.Compare(hash(x), hash(y)) })
	taken := make([]bool, size)
	for _, ratio := range ratios {
		slot := int(hash(ratio) % uint64(size))
		for taken[slot] {
			slot = (slot + 1) % size
		}
		taken[slot], f.slots[ratio] = true, slot
	}
}

// nameOf returns the name of the backend of the route r. Call it only once for each backend: for one
// of the routes that share the backend.
func (b *builder) nameOf(r *routes.Route) string {
	key := string(appendFamilyKey(nil, r))
	name := b.edge.backendName(r, key)
	f := b.families[key]
	if f == nil || !canSplit(r) {
		return b.distinctName(name, key)
	}
	if f.names[0] == "" {
		for i := range f.names {
			f.names[i] = b.distinctName(slotName(name, i), key+slotName("", i))
		}
	}
	slot := f.slots[string(appendWeights(nil, r))]
	f.rendered[slot] = true
	return f.names[slot]
}

// slotName returns the name of a backend of a family: the name of the family for the slot 0, and
// this name with "-1", "-2" and so on for the other slots.
func slotName(family string, slot int) string {
	if slot == 0 {
		return family
	}
	return family + "-" + strconv.Itoa(slot)
}

// addSpares adds the spare backends of all families: the backends without servers.
func (b *builder) addSpares() {
	for _, f := range b.families {
		for i, name := range f.names {
			if !f.rendered[i] {
				b.addBackend(name, make([]*service, len(f.route.Backends)), f.route)
			}
		}
	}
}

// IsBackendOf reports whether a backend with this name can be the backend of the route r. If r has
// several services, the backend of r may have one of several names: see [Edge.Config].
func (e *Edge) IsBackendOf(r *routes.Route, name string) bool {
	own, _ := e.BackendOf(r)
	rest, ok := strings.CutPrefix(name, own)
	if !ok || rest == "" || !canSplit(r) {
		return ok && rest == ""
	}
	slot, ok := strings.CutPrefix(rest, "-")
	_, err := strconv.ParseUint(slot, 10, 16)
	return ok && err == nil
}
