package httpapi

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/endpoints"
)

// Source says whether the source of the pods, such as an API server, answers.
type Source struct {
	// Err says why the source does not answer. nil means that it answers.
	Err error
	// LastContact is the time when the source answered last. It matters only if Err is not nil.
	LastContact time.Time
}

// age returns the age of the pods in seconds, rounded up. It is 0 while the source answers.
func (s Source) age() int64 {
	if s.Err == nil {
		return 0
	}
	return max(int64((time.Since(s.LastContact)+time.Second-1)/time.Second), 1)
}

// snapshot contains the services of one call of Publish, and never changes, except for its caches.
type snapshot struct {
	services map[string]*service // the services by Ref.Key
	source   Source
	changed  chan struct{} // closed when a service changes, appears or disappears

	all func() *view // the pods of all services
}

// service is a service in a snapshot. Consecutive snapshots contain the same *service until the
// service changes.
type service struct {
	*endpoints.Service
	changed chan struct{} // closed when the service has changed

	mu    sync.Mutex
	views map[string]*view // by port
}

// view is the content of an answer to a request: the pods, and the same pods as JSON.
type view struct {
	ref      nodeselect.Ref
	revision string
	body     []byte // JSON array: the zones of one service, or all services
	pods     []endpoints.Pod
}

// next returns a new snapshot with the given services. s is the present snapshot, or nil. The
// result "replaced" contains the entries of s whose services have changed or are gone.
func (s *snapshot) next(services endpoints.Services, source Source) (next *snapshot, replaced []*service) {
	next = &snapshot{services: make(map[string]*service, len(services)), source: source, changed: make(chan struct{})}
	next.all = sync.OnceValue(next.renderAll)
	before := map[string]*service{}
	if s != nil {
		before = s.services
	}
	same := s != nil
	for key, svc := range services {
		old := before[key]
		if old != nil && old.Service == svc {
			next.services[key] = old
			continue
		}
		same = false
		next.services[key] = &service{Service: svc, changed: make(chan struct{}), views: map[string]*view{}}
		if old != nil {
			replaced = append(replaced, old)
		}
	}
	for key, old := range before {
		if services[key] == nil {
			same = false
			replaced = append(replaced, old)
		}
	}
	if same {
		next.changed, next.all = s.changed, s.all
	}
	return next, replaced
}

// find returns the service of ref. If it is unknown, find returns the reason.
func (s *snapshot) find(ref nodeselect.Ref) (svc *service, reason string) {
	svc = s.services[ref.Key()]
	if svc == nil {
		return nil, "unknown service " + ref.Key() + ": it has no EndpointSlice"
	}
	ports := svc.Ports()
	if len(ports) == 0 {
		return svc, "" // the EndpointSlices of a service without pods have no ports
	}
	if ref.Port == "" && len(portNames(ports)) == 1 || slices.ContainsFunc(ports, func(p endpoints.Port) bool { return isPort(p, ref.Port) }) {
		return svc, ""
	}
	names := make([]string, len(ports))
	for i, p := range ports {
		names[i] = p.String()
	}
	if ref.Port == "" {
		return nil, "service " + ref.Key() + " has several ports, and the request names none: " + strings.Join(names, ", ")
	}
	return nil, "service " + ref.Key() + " has no port " + ref.Port + "; it has " + strings.Join(names, ", ")
}

// isPort reports whether name is the name or the decimal number of the port p.
func isPort(p endpoints.Port, name string) bool {
	return name != "" && (p.Name == name || endpoints.Port{Number: p.Number}.String() == name)
}

// portNames returns the names of the ports, each once.
func portNames(ports []endpoints.Port) []string {
	var names []string
	for _, p := range ports {
		names = append(names, p.Name)
	}
	return slices.Compact(names) // they are sorted
}

// view returns the pods of the port of ref. The method "find" must have accepted ref before.
func (s *service) view(ref nodeselect.Ref) *view {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.views[ref.Port]
	if v == nil {
		pods, _ := s.Pods(ref.Port)
		v = newView(ref, pods)
		if len(s.Ports()) > 0 { // otherwise a client could add any number of views
			s.views[ref.Port] = v
		}
	}
	return v
}

// newView renders the answer in JSON for the pods of one service port. The argument "pods" must be
// sorted by address.
func newView(ref nodeselect.Ref, pods []endpoints.Pod) *view {
	zones := []zoneJSON{}
	byZone := endpoints.ByZone(pods)
	for _, name := range slices.Sorted(maps.Keys(byZone)) {
		zone := zoneJSON{Zone: name, Pods: make([]podJSON, len(byZone[name]))}
		for i, p := range byZone[name] {
			zone.Pods[i] = podJSON{
				Address: p.Addr.Addr().String(), Port: p.Addr.Port(), Name: p.Name, Node: p.Node,
				Ready: p.Ready, Serving: p.Serving, Terminating: p.Terminating,
			}
		}
		zones = append(zones, zone)
	}
	v := &view{ref: ref, pods: pods, body: marshal(zones)}
	v.revision = revision(ref.String(), string(v.body))
	return v
}

// inZone returns a view with only those pods of v that are in the given zone.
func (v *view) inZone(zone string) *view {
	var pods []endpoints.Pod
	for _, p := range v.pods {
		if p.Zone == zone {
			pods = append(pods, p)
		}
	}
	return newView(v.ref, pods)
}

// views returns the views of all services, sorted by service and name of the port. A view is the JSON
// answer for one port of one service. A service without ports has one view, for the port "".
func (s *snapshot) views() []*view {
	var views []*view
	for _, key := range slices.Sorted(maps.Keys(s.services)) {
		svc := s.services[key]
		names := portNames(svc.Ports())
		if len(names) == 0 {
			names = []string{""}
		}
		for _, name := range names {
			ref := nodeselect.Ref{Namespace: svc.Namespace, Service: svc.Name, Port: name}
			if name == "" && len(names) > 1 {
				continue // an invalid Service: an unnamed port must be the only one
			}
			views = append(views, svc.view(ref))
		}
	}
	return views
}

// renderAll renders the pods of all services.
func (s *snapshot) renderAll() *view {
	all := &view{}
	list := []podsJSON{}
	parts := []string{}
	for _, v := range s.views() {
		list = append(list, podsJSON{Service: refOf(v.ref), Revision: v.revision, Zones: v.body})
		parts = append(parts, v.ref.String(), v.revision)
	}
	all.body = marshal(list)
	all.revision = revision(parts...)
	return all
}

// revision returns a short hash of all parts. If a part changes, the hash changes.
func revision(parts ...string) string {
	hash := sha256.New()
	for _, part := range parts {
		sum := sha256.Sum256([]byte(part))
		hash.Write(sum[:])
	}
	return hex.EncodeToString(hash.Sum(nil)[:8])
}

func marshal(v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // cannot happen: the values are strings, numbers and JSON
	}
	return body
}
