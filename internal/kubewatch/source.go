package kubewatch

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// Object is a pointer to an object of the API, *corev1.Node for one.
type Object interface {
	runtime.Object
	metav1.Object
}

// Source is one kind of object, as the API server filters it.
type Source[T Object] struct {
	Client    rest.Interface // of the API group, see Clients
	Resource  string         // "nodes"
	Namespace string         // "" is all
	Fields    string         // a field selector, "" for none
	Labels    string         // a label selector, "" for none

	// Transform returns what is kept of an object, and false for one that is not
	// wanted. It is called once with each object that is received, which is its own: it
	// may change it and return it. nil keeps objects as they come.
	Transform func(T) (T, bool)
}

// Sink is where the objects of a Source go. It is called from the goroutine of Run
// alone, and the objects are its own.
type Sink[T any] interface {
	// Replace gives all objects, in no order. It follows each list: the first one, and
	// each that was needed because a watch could not be resumed.
	Replace([]T)
	// Set gives an object that is new or has changed, if only in what Transform drops.
	Set(T)
	// Delete says that an object is gone, or not wanted any more. There may never have
	// been one.
	Delete(namespace, name string)
}

// Run lists and watches until ctx ends. What it started has ended when it returns.
//
// health, if it is not nil, is called with an *Error when the server cannot be reached
// or refuses, again when the reason changes, and with nil when the server answers
// again: a list has been given to the sink, or a watch been opened. Calls come one
// after another but from any goroutine, and so beside those of the sink; health must
// not wait for the sink.
func (s Source[T]) Run(ctx context.Context, sink Sink[T], health func(error)) {
	s.run(ctx, sink, health, silence)
}

func (s Source[T]) run(ctx context.Context, sink Sink[T], report func(error), silence time.Duration) {
	if report == nil {
		report = func(error) {}
	}
	ctx = klog.NewContext(ctx, klog.Logger{}) // silent
	h := newHealth(ctx, s.Resource, report)
	lw := &listWatch{
		health: h, silence: silence,
		client: s.Client, resource: s.Resource, namespace: s.Namespace, fields: s.Fields, labels: s.Labels,
	}
	defer lw.wait()
	var kind T
	reflector := cache.NewReflectorWithOptions(lw, kind, &store[T]{sink: sink, transform: s.Transform, health: h}, cache.ReflectorOptions{
		Logger:          new(klog.Logger),
		Name:            "kubewatch",
		TypeDescription: s.Resource,
		Clock:           newClock(ctx),
		Backoff: &wait.Backoff{
			Duration: backoffFirst,
			Factor:   2,
			Jitter:   0.25, // up to a quarter more
			Steps:    10,
			Cap:      backoffLongest,
		},
	})
	reflector.RunWithContext(ctx)
}

// With jitter, 200 ms to 5 s.
const (
	backoffFirst   = 200 * time.Millisecond
	backoffLongest = 4 * time.Second
)

// store hands what a Reflector gives it on to the sink.
type store[T Object] struct {
	sink      Sink[T]
	transform func(T) (T, bool)
	health    *health
}

// kept is an object that has been transformed.
type kept[T Object] struct{ object T }

// GetObjectMeta lets the Reflector know which object it is.
func (k kept[T]) GetObjectMeta() metav1.Object { return k.object }

// Transformer makes a Reflector transform objects while it collects a streamed list,
// rather than hold on to all of them until the list is complete. An object that is not
// wanted becomes its key.
func (s *store[T]) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) {
		t, ok := obj.(T)
		if !ok {
			return obj, nil
		}
		if k, wanted := s.keep(t); wanted {
			return kept[T]{k}, nil
		}
		return cache.ExplicitKey(cache.MetaObjectToName(t).String()), nil
	}
}

func (s *store[T]) keep(t T) (T, bool) {
	if s.transform == nil {
		return t, true
	}
	return s.transform(t)
}

func (s *store[T]) Replace(objects []any, _ string) error {
	list := make([]T, 0, len(objects))
	for _, obj := range objects {
		switch o := obj.(type) {
		case kept[T]:
			list = append(list, o.object)
		case cache.ExplicitKey:
		case T:
			if k, wanted := s.keep(o); wanted {
				list = append(list, k)
			}
		default:
			err := fmt.Errorf("the list holds a %T", obj)
			s.health.failed(err)
			return err
		}
	}
	s.sink.Replace(list)
	s.health.listed()
	return nil
}

func (s *store[T]) Add(obj any) error { return s.Update(obj) }

func (s *store[T]) Update(obj any) error {
	t := obj.(T) // the Reflector has checked the type
	namespace, name := t.GetNamespace(), t.GetName()
	if k, wanted := s.keep(t); wanted {
		s.sink.Set(k)
	} else {
		s.sink.Delete(namespace, name)
	}
	return nil
}

func (s *store[T]) Delete(obj any) error {
	t := obj.(T)
	s.sink.Delete(t.GetNamespace(), t.GetName())
	return nil
}

func (s *store[T]) Resync() error { return nil }
