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
	"k8s.io/utils/clock"
)

// Object is a pointer to an object of the API, such as *corev1.Node.
type Object interface {
	runtime.Object
	metav1.Object
}

// Source selects the objects that Run lists and watches. The API server applies the selectors.
type Source[T Object] struct {
	Client    rest.Interface // a client from Clients, for the API group of the resource
	Resource  string         // "nodes"
	Namespace string         // "" means all namespaces
	Fields    string         // a field selector; "" means none
	Labels    string         // a label selector; "" means none

	// Transform returns the object that the sink gets instead of a received one, and false to drop
	// the object. Run calls it once for each received object. Transform may change the object and
	// return it. nil passes objects unchanged.
	Transform func(T) (T, bool)
}

// Sink receives the objects of a Source. All calls come from the goroutine of Run. The sink owns
// the objects.
type Sink[T any] interface {
	// Replace passes all objects, in no particular order. It is called after each list: the first
	// one, and each one after a watch that could not be resumed.
	Replace([]T)
	// Set passes a new or changed object. The change may be in a part that Transform removes.
	Set(T)
	// Delete reports that an object was deleted, or that Transform drops it now. The sink may never
	// have received the object.
	Delete(namespace, name string)
}

// Run lists and watches until ctx ends. All goroutines that it started have ended when it returns.
//
// If health is not nil, Run calls it with an *Error when the server cannot be reached or refuses,
// and again when the reason changes. Run calls it with nil when the server answers again: when the
// sink has received a list, or when a watch is open. Calls of health do not overlap. They come from
// any goroutine, also during calls of the sink, so health must not wait for the sink.
func (s Source[T]) Run(ctx context.Context, sink Sink[T], health func(error)) {
	s.run(ctx, sink, health, silence)
}

func (s Source[T]) run(ctx context.Context, sink Sink[T], report func(error), silence time.Duration) {
	if report == nil {
		report = func(error) {}
	}
	ctx = klog.NewContext(ctx, klog.Logger{}) // silent
	h := &health{done: ctx.Done(), resource: s.Resource, report: report}
	lw := &listWatch{
		health: h, silence: silence,
		client: s.Client, resource: s.Resource, namespace: s.Namespace, fields: s.Fields, labels: s.Labels,
	}
	defer lw.wait()
	var kind T
	reflector := cache.NewReflectorWithOptions(lw, kind, &storeAdapter[T]{sink: sink, transform: s.Transform, health: h}, cache.ReflectorOptions{
		Logger:          new(klog.Logger),
		Name:            "kubewatch",
		TypeDescription: s.Resource,
		Clock:           newClock(ctx),
		Backoff: &wait.Backoff{
			Duration: backoffFirst,
			Factor:   2,
			Jitter:   0.25, // adds up to a quarter
			Steps:    10,
			Cap:      backoffLongest,
		},
	})
	reflector.RunWithContext(ctx)
}

// The back-off is 200 ms to 5 s, with jitter.
const (
	backoffFirst   = 200 * time.Millisecond
	backoffLongest = 4 * time.Second
)

// storeAdapter is the store of a Reflector. It passes objects on to the sink.
type storeAdapter[T Object] struct {
	sink      Sink[T]
	transform func(T) (T, bool)
	health    *health
}

// transformed is an object that Transform has returned.
type transformed[T Object] struct{ object T }

// GetObjectMeta returns the metadata, for the Reflector.
func (t transformed[T]) GetObjectMeta() metav1.Object { return t.object }

// Transformer makes the Reflector transform each object of a streamed list when it arrives. Without
// it, the Reflector would hold all objects untransformed until the list is complete. An object that
// Transform drops is replaced by its key.
func (s *storeAdapter[T]) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) {
		t, ok := obj.(T)
		if !ok {
			return obj, nil
		}
		if small, wanted := s.transformOne(t); wanted {
			return transformed[T]{small}, nil
		}
		return cache.ExplicitKey(cache.MetaObjectToName(t).String()), nil
	}
}

func (s *storeAdapter[T]) transformOne(t T) (T, bool) {
	if s.transform == nil {
		return t, true
	}
	return s.transform(t)
}

func (s *storeAdapter[T]) Replace(objects []any, _ string) error {
	list := make([]T, 0, len(objects))
	for _, obj := range objects {
		switch o := obj.(type) {
		case transformed[T]:
			list = append(list, o.object)
		case cache.ExplicitKey:
		case T:
			if small, wanted := s.transformOne(o); wanted {
				list = append(list, small)
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

func (s *storeAdapter[T]) Add(obj any) error { return s.Update(obj) }

func (s *storeAdapter[T]) Update(obj any) error {
	t := obj.(T) // the Reflector has checked the type
	namespace, name := t.GetNamespace(), t.GetName()
	if small, wanted := s.transformOne(t); wanted {
		s.sink.Set(small)
	} else {
		s.sink.Delete(namespace, name)
	}
	return nil
}

func (s *storeAdapter[T]) Delete(obj any) error {
	t := obj.(T)
	s.sink.Delete(t.GetNamespace(), t.GetName())
	return nil
}

func (s *storeAdapter[T]) Resync() error { return nil }

// runClock is the real clock, except that its timers fire early when Run ends. Otherwise Run would
// end late: a Reflector that waits for its next attempt ignores its context.
type runClock struct {
	clock.RealClock
	afterEnd func(f func()) (stop func() bool) // calls f when Run ends
}

func newClock(ctx context.Context) runClock {
	return runClock{afterEnd: func(f func()) func() bool { return context.AfterFunc(ctx, f) }}
}

// After returns a channel that receives after d, or when Run ends.
func (c runClock) After(d time.Duration) <-chan time.Time {
	fired := make(chan time.Time, 1)
	fire := func() {
		select {
		case fired <- time.Now():
		default:
		}
	}
	stop := c.afterEnd(fire)
	time.AfterFunc(d, func() {
		stop()
		fire()
	})
	return fired
}
