package live

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// believeAfter is how long what a doubtful list lacks is kept.
const believeAfter = 5 * time.Minute

// roll is the objects of one kind. It is the Sink of a source.
type roll[T rolled] struct {
	resource    string
	in          *inbox
	apply       func(key string, t T) // tells of a change; nil: it is gone
	listedFirst func()

	known  map[string]T
	listed bool

	// What the last list lacked and was not believed to be gone, since when, and why.
	missing map[string]bool
	since   time.Time
	empty   bool // that list had nothing at all
	lacks   string
	doubt   error
}

// ofServer is the key of the service, and of its endpoint slice, that every API server
// makes of itself as soon as it runs, however empty its store.
const ofServer = metav1.NamespaceDefault + "/kubernetes"

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
	empty := !slices.ContainsFunc(list, func(t T) bool { return keyOf(t.GetNamespace(), t.GetName()) != ofServer })
	if 2*len(lacking) > len(r.known) || empty && len(lacking) > 0 {
		if r.missing == nil || r.empty && !empty {
			r.since = now
		}
		r.missing, r.empty = lacking, empty
		r.lacks = fmt.Sprintf("%d of %d", len(lacking), len(r.known))
		r.say()
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
	key := keyOf(t.GetNamespace(), t.GetName())
	if r.empty && key != ofServer { // there is something again; what does not come back soon is gone
		r.empty, r.since = false, now
		r.say()
	}
	r.update(t)
	r.found(key)
}

// say puts the doubt into words.
func (r *roll[T]) say() {
	kept := "while there is nothing else (since " + r.since.UTC().Format(time.RFC3339) + ")"
	if !r.empty {
		kept = "until " + r.since.Add(believeAfter).UTC().Format(time.RFC3339)
	}
	r.doubt = fmt.Errorf("%s: a list lacks %s that were there, which are kept %s", r.resource, r.lacks, kept)
	r.in.news = true
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

func (r *roll[T]) doubts() error { return r.doubt }

// answered says that the API server was away: what is missing gets its time anew.
func (r *roll[T]) answered(now time.Time) {
	if r.missing != nil && !r.empty {
		r.since = now
		r.say()
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
