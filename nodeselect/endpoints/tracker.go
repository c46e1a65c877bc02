package endpoints

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/internal/doubt"
)

// Tracker keeps Services up to date while EndpointSlices change. It applies every change at once,
// with one exception: if endpoints are missing in a doubtful list, it keeps them for a time.
//
// The Tracker compares each list of all EndpointSlices with the endpoints that it knows. The list
// is doubtful for one service if more than half of the known endpoints of this service are missing.
// It is doubtful for all services in two cases:
//
//   - more than half of all known endpoints are missing;
//   - the list has no EndpointSlice except the one that each API server creates for itself.
//
// New endpoints offset missing endpoints, because a rollout may have replaced every pod. The first
// list is never doubtful.
//
// A doubtful list may come from an API server that has lost its store, or from the wrong server
// behind a proxy. So the missing endpoints stay until they appear again, until a watch reports the
// deletion of their slice, or until Confirm removes them.
//
// A Tracker uses no clock and no lock: only one goroutine may call it at a time.
type Tracker struct {
	policy   nodeselect.AddressPolicy
	services Services
	shared   bool                // Services has returned the map services, so the Tracker must not change this map
	byName   map[string]string   // the key of the service of each slice, by "namespace/name" of the slice
	changed  map[string]bool     // services that have changed since the last call of Changed
	doubts   map[string]*missing // services with missing endpoints
}

// missing are endpoints of one service that a doubtful list of the API server lacks; see package
// doubt. The Tracker keeps these endpoints until the doubt ends.
type missing struct {
	doubt.Doubt[netip.Addr]
	began time.Time // when the first list that lacks them arrived
}

// NewTracker returns a Tracker without services. The argument "policy" says which addresses of pods
// are usable, as in Group.
func NewTracker(policy nodeselect.AddressPolicy) *Tracker {
	return &Tracker{
		policy: policy, services: Services{}, byName: map[string]string{}, changed: map[string]bool{},
		doubts: map[string]*missing{},
	}
}

// Services returns all services. Neither the caller nor the Tracker may change the map: after a
// change, the Tracker makes a new one.
func (t *Tracker) Services() Services {
	t.shared = true
	return t.services
}

// Changed returns the sorted keys of the services that are new, gone or different since the last
// call.
func (t *Tracker) Changed() []string {
	changed := slices.Sorted(maps.Keys(t.changed))
	clear(t.changed)
	return changed
}

// Err returns nil if the Tracker keeps no missing endpoints, that is, endpoints that a doubtful
// list of the API server lacks (see package doubt). Otherwise the error names a service, the number
// of its missing endpoints, and the time until which they stay.
func (t *Tracker) Err() error {
	keys := slices.Sorted(maps.Keys(t.doubts))
	if len(keys) == 0 {
		return nil
	}
	err := t.doubts[keys[0]].Err("endpoints of " + keys[0])
	if n := len(keys) - 1; n > 0 {
		err = fmt.Errorf("%w; the same for %s", err, count(n, "other service", "other services"))
	}
	return err
}

// Since returns the time since which the Tracker keeps missing endpoints: the arrival of the first
// list that lacked one of them. The zero time means that the Tracker keeps no missing endpoints.
func (t *Tracker) Since() time.Time {
	var oldest time.Time
	for _, d := range t.doubts {
		if oldest.IsZero() || d.began.Before(oldest) {
			oldest = d.began
		}
	}
	return oldest
}

// ownSlice is the EndpointSlice that every API server creates for itself, even if its store is
// empty.
const ownSlice = metav1.NamespaceDefault + "/kubernetes"

func sliceKey(namespace, name string) string { return namespace + "/" + name }

// serviceOf returns the service of a slice, and false if the slice is not of a service.
func serviceOf(s *discoveryv1.EndpointSlice) (nodeselect.Ref, bool) {
	ref := nodeselect.Ref{Namespace: s.Namespace, Service: s.Labels[discoveryv1.LabelServiceName]}
	return ref, ref.Service != ""
}

// Replace applies a list of all EndpointSlices.
func (t *Tracker) Replace(list []*discoveryv1.EndpointSlice, now time.Time) {
	fresh := Group(list, t.policy)
	clear(t.byName)
	empty := true
	for _, s := range list {
		empty = empty && sliceKey(s.Namespace, s.Name) == ownSlice
		if ref, ok := serviceOf(s); ok {
			t.byName[sliceKey(s.Namespace, s.Name)] = ref.Key()
		}
	}
	losses := make(map[string]loss, len(t.services))
	var known, lacks, gains int
	for key, svc := range t.services {
		l := lossOf(svc, fresh[key])
		losses[key] = l
		known, lacks, gains = known+l.known, lacks+len(l.lacking), gains+l.gains
	}
	doubtAll := empty || doubt.Lossy(known, lacks, gains)
	for key, old := range t.services {
		l := losses[key]
		if len(l.lacking) > 0 && (doubtAll || doubt.Lossy(l.known, len(l.lacking), l.gains)) {
			if fresh[key] == nil {
				fresh[key] = newService(old.Namespace, old.Name, t.policy)
			}
			fresh[key].kept = restrict(old.all(), l.lacking)
			t.begin(key, l, empty, now)
		} else {
			delete(t.doubts, key)
		}
		switch svc := fresh[key]; {
		case svc == nil:
			t.changed[key] = true
		case svc.equal(old):
			fresh[key] = old
		default:
			t.changed[key] = true
		}
	}
	for key := range fresh {
		if t.services[key] == nil {
			t.changed[key] = true
		}
	}
	t.services, t.shared = fresh, false
}

// loss describes which endpoints of a service are missing in a new list from the API server.
type loss struct {
	known   int                 // number of endpoints before the list, with the missing ones
	lacking map[netip.Addr]bool // the endpoints that the list lacks
	gains   int                 // number of endpoints that only the list has
}

func lossOf(before, after *Service) loss {
	had, has := before.addresses(), after.addresses()
	l := loss{known: len(had)}
	for addr := range had {
		if !has[addr] {
			if l.lacking == nil {
				l.lacking = map[netip.Addr]bool{}
			}
			l.lacking[addr] = true
		}
	}
	l.gains = len(has) - (len(had) - len(l.lacking))
	return l
}

func (t *Tracker) begin(key string, l loss, empty bool, now time.Time) {
	if t.doubts[key] == nil {
		t.doubts[key] = &missing{began: now}
	}
	t.doubts[key].Begin(l.known, l.lacking, empty, now)
}

// Set adds or replaces an EndpointSlice after a watch has reported it as new or changed.
func (t *Tracker) Set(added *discoveryv1.EndpointSlice, now time.Time) {
	name := sliceKey(added.Namespace, added.Name)
	if name != ownSlice {
		for _, d := range t.doubts {
			d.Appeared(now)
		}
	}
	ref, ok := serviceOf(added)
	if before, found := t.byName[name]; found && (!ok || before != ref.Key()) {
		t.remove(before, added.Namespace, added.Name)
	}
	if !ok {
		return
	}
	key, parsed := ref.Key(), parseSlice(added, t.policy)
	t.byName[name] = key
	svc := newService(added.Namespace, ref.Service, t.policy)
	if old := t.services[key]; old != nil {
		if i, found := slices.BinarySearchFunc(old.slices, parsed.name, compareSlice); found && old.slices[i].equal(parsed) {
			return
		}
		svc = old.clone()
	}
	svc.put(parsed)
	t.settle(key, svc, parsed.endpoints)
	t.store(key, svc)
}

// Delete removes an EndpointSlice after a watch has reported its deletion.
func (t *Tracker) Delete(namespace, name string) {
	if key, found := t.byName[sliceKey(namespace, name)]; found {
		t.remove(key, namespace, name)
		return
	}
	for key := range t.doubts { // the slice may be missing in the list that is in doubt
		if t.services[key].Namespace == namespace {
			t.remove(key, namespace, name)
		}
	}
}

// remove removes an EndpointSlice from a service. If the Tracker has kept missing endpoints of this
// slice because of a doubtful list, remove removes them too.
func (t *Tracker) remove(key, namespace, name string) {
	old := t.services[key]
	delete(t.byName, sliceKey(namespace, name))
	svc := old.clone()
	named := func(s *slice) bool { return s.name == name }
	svc.slices = slices.DeleteFunc(svc.slices, named)
	for _, s := range old.kept {
		if named(s) {
			t.settle(key, svc, s.endpoints)
		}
	}
	if !svc.equal(old) {
		t.store(key, svc)
	}
}

// settle removes the endpoints in "known" from the missing endpoints of the service, and from
// svc.kept. These endpoints were missing in a doubtful list, but their state is known now: an
// EndpointSlice contains them again, or their EndpointSlice has been deleted.
func (t *Tracker) settle(key string, svc *Service, known []endpoint) {
	d := t.doubts[key]
	if d == nil {
		return
	}
	for i := range known {
		d.Seen(known[i].addr)
	}
	svc.kept = restrict(svc.kept, d.Missing())
	if d.Missing() == nil {
		delete(t.doubts, key)
	}
}

// store makes svc the new state of a service.
func (t *Tracker) store(key string, svc *Service) {
	if t.shared {
		t.services, t.shared = maps.Clone(t.services), false
	}
	t.changed[key] = true
	if len(svc.slices)+len(svc.kept) == 0 {
		delete(t.services, key)
		return
	}
	t.services[key] = svc
}

// Answered tells the Tracker that the API server answers again after a failure. Confirm removes an
// endpoint only after the API server has answered for five minutes without reporting it. These five
// minutes begin again at the time "now".
func (t *Tracker) Answered(now time.Time) {
	for _, d := range t.doubts {
		d.Answered(now)
	}
}

// Confirm removes endpoints that were missing in a doubtful list, after the API server has answered
// for five minutes without reporting them. Call Confirm while the API server answers, for example
// every 30 s. After a list without any EndpointSlice, the five minutes begin when the API server
// has a slice again.
func (t *Tracker) Confirm(now time.Time) {
	for key, d := range t.doubts {
		if d.Confirmed(now) == nil {
			continue
		}
		svc := t.services[key].clone()
		svc.kept = nil
		delete(t.doubts, key)
		t.store(key, svc)
	}
}

// addresses returns the addresses of a service's endpoints. s may be nil.
func (s *Service) addresses() map[netip.Addr]bool {
	if s == nil {
		return nil
	}
	addresses := map[netip.Addr]bool{}
	for _, slice := range s.all() {
		for i := range slice.endpoints {
			addresses[slice.endpoints[i].addr] = true
		}
	}
	return addresses
}

// restrict returns a copy of each slice with only those endpoints whose address is a key of the
// given map. If a slice has no such endpoint, restrict leaves it out.
func restrict(list []*slice, to map[netip.Addr]bool) []*slice {
	var restricted []*slice
	for _, s := range list {
		c := &slice{namespace: s.namespace, name: s.name, version: s.version, ports: s.ports}
		for _, e := range s.endpoints {
			if to[e.addr] {
				c.endpoints = append(c.endpoints, e)
			}
		}
		if c.endpoints != nil {
			restricted = append(restricted, c)
		}
	}
	return restricted
}

// TrimSlice returns an EndpointSlice that has only the fields that this package reads, for a cache.
// The result shares memory with s.
func TrimSlice(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	trimmed := &discoveryv1.EndpointSlice{AddressType: s.AddressType, Ports: s.Ports}
	trimmed.Namespace, trimmed.Name, trimmed.ResourceVersion = s.Namespace, s.Name, s.ResourceVersion
	if name := s.Labels[discoveryv1.LabelServiceName]; name != "" {
		trimmed.Labels = map[string]string{discoveryv1.LabelServiceName: name}
	}
	trimmed.Endpoints = make([]discoveryv1.Endpoint, len(s.Endpoints))
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		trimmed.Endpoints[i] = discoveryv1.Endpoint{
			Addresses: e.Addresses[:min(len(e.Addresses), 1)], Conditions: e.Conditions,
			NodeName: internPointer(e.NodeName), Zone: internPointer(e.Zone),
		}
		if e.TargetRef != nil {
			trimmed.Endpoints[i].TargetRef = &corev1.ObjectReference{
				Kind: e.TargetRef.Kind, Namespace: intern(e.TargetRef.Namespace), Name: e.TargetRef.Name,
			}
		}
	}
	return trimmed
}

func internPointer(s *string) *string {
	if s == nil {
		return nil
	}
	return new(intern(*s))
}
