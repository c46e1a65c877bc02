package edge

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/headgate/headgate/haproxycfg/routes"
)

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

// nameOf returns the name of the backend of the route r. Call it once for each key of a backend.
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
