package live

import (
	"maps"
	"reflect"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/nodeselect/internal/doubt"
)

// store holds the objects of one kind. It is the kubewatch.Sink of a source, and reports each
// changed object to the queue.
//
// A list is doubtful if it is empty or lacks more than half of the objects in the store. The
// missing objects then stay until the API server reports them again, or until confirmDeletes
// removes them.
type store[T object] struct {
	resource    string
	queue       *queue
	apply       func(key string, t T) // reports a change; t is nil for a deletion
	listedFirst func()                // called after the first list, unless nil

	objects map[string]T
	listed  bool

	doubt doubt.Doubt[string] // has the keys of the missing objects
}

// ownObject is the key of a Service and of an EndpointSlice. Every API server creates these two for
// itself when it starts, even if its store is empty.
const ownObject = metav1.NamespaceDefault + "/kubernetes"

// object is the type of the objects in a store: a pointer to an object of the Kubernetes API.
type object interface {
	comparable
	GetNamespace() string
	GetName() string
}

func newStore[T object](resource string, q *queue, apply func(string, T)) *store[T] {
	return &store[T]{resource: resource, queue: q, apply: apply, objects: map[string]T{}}
}

func keyOf(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}

// Replace applies a complete list.
func (s *store[T]) Replace(list []T) {
	s.queue.edit(func(*queue) { s.replace(list, time.Now()) })
}

// Set applies a new or changed object.
func (s *store[T]) Set(t T) {
	s.queue.edit(func(*queue) { s.set(t, time.Now()) })
}

// Delete applies the deletion of an object.
func (s *store[T]) Delete(namespace, name string) {
	s.queue.edit(func(*queue) { s.remove(keyOf(namespace, name)) })
}

func (s *store[T]) replace(list []T, now time.Time) {
	s.queue.changed = true
	lacking := make(map[string]bool, len(s.objects))
	for key := range s.objects {
		lacking[key] = true
	}
	empty := true
	for _, t := range list {
		key := keyOf(t.GetNamespace(), t.GetName())
		delete(lacking, key)
		empty = empty && key == ownObject
	}
	if doubt.Lossy(len(s.objects), len(lacking), 0) || empty && len(lacking) > 0 {
		s.doubt.Begin(len(s.objects), lacking, empty, now)
	} else {
		s.doubt.Clear()
		for key := range lacking {
			s.remove(key)
		}
	}
	for _, t := range list {
		s.update(t)
	}
	if !s.listed {
		s.listed = true
		if s.listedFirst != nil {
			s.listedFirst()
		}
	}
}

func (s *store[T]) set(t T, now time.Time) {
	key := keyOf(t.GetNamespace(), t.GetName())
	if key != ownObject && s.doubt.Appeared(now) {
		s.queue.changed = true
	}
	s.update(t)
	s.seen(key)
}

// update stores an object. If the object differs from the stored object, update reports it to the
// queue.
func (s *store[T]) update(t T) {
	key := keyOf(t.GetNamespace(), t.GetName())
	if old, ok := s.objects[key]; ok && reflect.DeepEqual(old, t) {
		return
	}
	s.objects[key] = t
	s.apply(key, t)
}

func (s *store[T]) remove(key string) {
	if _, ok := s.objects[key]; ok {
		delete(s.objects, key)
		var deleted T
		s.apply(key, deleted)
	}
	s.seen(key)
}

// The method "seen" notes that the API server has reported an object, so the object is not missing.
func (s *store[T]) seen(key string) {
	if s.doubt.Seen(key) {
		s.queue.changed = true
	}
}

func (s *store[T]) err() error { return s.doubt.Err(s.resource) }

// The method "answered" notes that the API server answers again after a failure. The time after
// which the store removes a missing object (doubt.ConfirmAfter) starts again for every missing
// object.
func (s *store[T]) answered(now time.Time) {
	if s.doubt.Answered(now) {
		s.queue.changed = true
	}
}

// confirmDeletes removes the objects that a doubtful list lacks (see package doubt), if the API
// server has answered for the time doubt.ConfirmAfter without reporting these objects. If the
// doubtful list was empty, this time begins only when the API server has an object again; see
// doubt.Doubt.Confirmed.
func (s *store[T]) confirmDeletes(now time.Time) {
	for _, key := range slices.Collect(maps.Keys(s.doubt.Confirmed(now))) {
		s.remove(key)
	}
}
