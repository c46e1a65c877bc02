package nodeselect

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

const (
	kindNodes = iota
	kindServices
	kindSlices
	kinds
)

// inbox is where the sources of a Watcher put what they learn, until it is taken. It
// remembers what it has been given, so that a list is the differences to that, and an
// event that changes nothing is none.
type inbox struct {
	arrived chan struct{} // has an element when there may be something to take

	mu      sync.Mutex
	news    bool // something has changed, and arrived does not have its element yet
	delta   Delta
	failing [kinds]error // by what the API server does not answer

	nodes    *roll[*corev1.Node]
	services *roll[*corev1.Service]
	slices   *roll[*discoveryv1.EndpointSlice] // nil if they are not followed
	pods     pods
}

func newInbox(localEndpoints bool) *inbox {
	in := &inbox{arrived: make(chan struct{}, 1)}
	in.nodes = newRoll("nodes", in, func(name string, n *corev1.Node) {
		set(&in.delta.Nodes, name, n)
		in.news = true
	})
	in.services = newRoll("services", in, func(key string, s *corev1.Service) {
		set(&in.delta.Services, key, s)
		in.news = true
		in.pods.setLocal(key, isLocal(s))
	})
	if localEndpoints {
		in.slices = newRoll("endpointslices", in, in.pods.setSlice)
		in.slices.trusted = true
		in.slices.listedFirst = func() {
			in.delta.ReadyNodes = map[string][]string{} // known, even if there is none
			in.pods.listed()
		}
	}
	in.pods.changed = func(key string, nodes []string) {
		set(&in.delta.ReadyNodes, key, nodes)
		in.news = true
	}
	return in
}

func set[V any](m *map[string]V, key string, v V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[key] = v
}

// put lets f change the inbox. Where that is no news, nobody is woken: a burst is over
// when nothing has changed for a while, and nodes send heartbeats all the time.
func (in *inbox) put(f func(*inbox)) {
	in.mu.Lock()
	f(in)
	news := in.news
	in.news = false
	in.mu.Unlock()
	if !news {
		return
	}
	select {
	case in.arrived <- struct{}{}:
	default:
	}
}

// health gives the function that a source tells how it fares.
func (in *inbox) health(kind int) func(error) {
	return func(err error) { in.put(func(in *inbox) { in.failing[kind], in.news = err, true }) }
}

// take gives what has arrived since the last time. Nothing but err is given until the
// cluster has been seen whole.
func (in *inbox) take() (delta Delta, synced bool, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	var faults faults
	for _, f := range in.failing {
		if f != nil {
			faults = append(faults, f)
		}
	}
	for _, doubt := range []error{in.nodes.doubt, in.services.doubt} {
		if doubt != nil {
			faults = append(faults, doubt)
		}
	}
	if len(faults) > 0 {
		err = fmt.Errorf("nodeselect: %w", faults)
	}
	// Pods are not worth waiting for if that may be for ever.
	if !in.nodes.listed || !in.services.listed || in.slices != nil && !in.slices.listed && in.failing[kindSlices] == nil {
		return Delta{}, false, err
	}
	delta, in.delta = in.delta, Delta{}
	return delta, true, err
}

// believe lets go of what has been missing for long enough.
func (in *inbox) believe(now time.Time) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.nodes.believe(now)
	in.services.believe(now)
}

// faults are errors on one line.
type faults []error

func (f faults) Error() string {
	texts := make([]string, len(f))
	for i := range f {
		texts[i] = f[i].Error()
	}
	return strings.Join(texts, "; ")
}

func (f faults) Unwrap() []error { return f }

// believeAfter is how long what a doubtful list lacks is kept.
const believeAfter = 5 * time.Minute

// roll is the objects of one kind. It is the Sink of a source.
type roll[T rolled] struct {
	resource    string
	in          *inbox
	apply       func(key string, t T) // tells of a change; nil: it is gone
	trusted     bool                  // every list is believed
	listedFirst func()

	known  map[string]T
	listed bool

	// What the last list lacked and was not believed to be gone, since when, and why.
	missing map[string]bool
	since   time.Time
	empty   bool // that list had nothing at all
	doubt   error
}

// rolled is a pointer to an object of the API.
type rolled interface {
	comparable
	GetNamespace() string
	GetName() string
}

func newRoll[T rolled](resource string, in *inbox, apply func(string, T)) *roll[T] {
	return &roll[T]{resource: resource, in: in, apply: apply, known: map[string]T{}}
}

func keyOf(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}

// Replace takes a list.
func (r *roll[T]) Replace(list []T) { r.in.put(func(*inbox) { r.replace(list, time.Now()) }) }

// Set takes an object.
func (r *roll[T]) Set(t T) { r.in.put(func(*inbox) { r.set(t, time.Now()) }) }

// Delete takes word that an object is gone.
func (r *roll[T]) Delete(namespace, name string) {
	r.in.put(func(*inbox) { r.remove(keyOf(namespace, name)) })
}

func (r *roll[T]) replace(list []T, now time.Time) {
	r.in.news = true
	lacking := make(map[string]bool, len(r.known))
	for key := range r.known {
		lacking[key] = true
	}
	for _, t := range list {
		delete(lacking, keyOf(t.GetNamespace(), t.GetName()))
	}
	if 2*len(lacking) > len(r.known) && !r.trusted {
		if r.missing == nil {
			r.since = now
		}
		r.missing, r.empty = lacking, len(list) == 0
		r.doubt = fmt.Errorf("%s: a list lacks %d of %d that were there, which are kept (since %s)",
			r.resource, len(lacking), len(r.known), r.since.UTC().Format(time.RFC3339))
	} else {
		r.settle()
		for key := range lacking {
			r.remove(key)
		}
	}
	for _, t := range list {
		r.update(t)
	}
	if !r.listed {
		r.listed = true
		if r.listedFirst != nil {
			r.listedFirst()
		}
	}
}

func (r *roll[T]) set(t T, now time.Time) {
	if r.empty { // there is something again; what does not come back soon is gone
		r.empty, r.since = false, now
	}
	r.update(t)
	r.found(keyOf(t.GetNamespace(), t.GetName()))
}

// update takes an object that may be as it was.
func (r *roll[T]) update(t T) {
	key := keyOf(t.GetNamespace(), t.GetName())
	if old, ok := r.known[key]; ok && reflect.DeepEqual(old, t) {
		return
	}
	r.known[key] = t
	r.apply(key, t)
}

func (r *roll[T]) remove(key string) {
	var none T
	if _, ok := r.known[key]; ok {
		delete(r.known, key)
		r.apply(key, none)
	}
	r.found(key)
}

// found ends the doubt about an object.
func (r *roll[T]) found(key string) {
	delete(r.missing, key)
	if len(r.missing) == 0 {
		r.settle()
	}
}

func (r *roll[T]) settle() {
	r.in.news = r.in.news || r.doubt != nil
	r.missing, r.empty, r.doubt = nil, false, nil
}

func (r *roll[T]) believe(now time.Time) {
	if r.missing == nil || r.empty || now.Sub(r.since) < believeAfter {
		return
	}
	for _, key := range slices.Collect(maps.Keys(r.missing)) {
		r.remove(key)
	}
}
