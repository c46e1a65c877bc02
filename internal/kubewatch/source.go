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

// Object is a pointer to an API object, such as *corev1.Node.
type Object interface {
	runtime.Object
	metav1.Object
}

// Source says which objects Run lists and watches. The API server applies the selectors.
type Source[T Object] struct {
	Client    rest.Interface // a client from Clients, for the API group of the resource
	Resource  string         // for example "nodes"
	Namespace string         // "" means all namespaces
	Fields    string         // a field selector; "" means none
	Labels    string         // a label selector; "" means none

	// Transform, if not nil, is called once for each received object. It returns the object that
	// the sink gets instead, or false if the sink gets no object. It may change and return the
	// received object.
	Transform func(T) (T, bool)
}

// Sink receives the objects of a Source and may keep and change them. All calls come from the
// goroutine of Run.
type Sink[T any] interface {
	// Replace receives all objects, in no particular order. Run calls it after each list. Run lists
	// at the start, and whenever it cannot resume a watch.
	Replace([]T)
	// Set receives a new or changed object. If the change is only in parts that Transform removes,
	// the object is equal to the object of the last call.
	Set(T)
	// Delete reports that the API server has deleted an object, or that Transform now drops it. Run
	// also calls Delete for an object that the sink has never received, because Transform has always
	// dropped it.
	Delete(namespace, name string)
}

// Run lists and watches until ctx ends. Before it returns, all its goroutines have ended.
//
// Run calls the function "health", if not nil, with an *Error when a failure of the server begins or
// its reason changes. It calls the function with nil when the sink has received a list, or a watch
// is open. The calls never overlap, but the function must not wait for the sink.
func (s Source[T]) Run(ctx context.Context, sink Sink[T], health func(error)) {
	s.run(ctx, sink, health, silence)
}

func (s Source[T]) run(ctx context.Context, sink Sink[T], report func(error), silence time.Duration) {
	if report == nil {
		report = func(error) {}
	}
	ctx = klog.NewContext(ctx, klog.Logger{}) // makes client-go log nothing
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

// After a failure, Run waits before it tries again: backoffFirst at first, then twice as long after
// each further failure, up to backoffLongest. Jitter makes each pause up to a quarter longer, so
// the longest pause is 5 s.
const (
	backoffFirst   = 200 * time.Millisecond
	backoffLongest = 4 * time.Second
)

// storeAdapter is the store that a Reflector writes to. It stores nothing, and passes objects on to
// the sink.
type storeAdapter[T Object] struct {
	sink      Sink[T]
	transform func(T) (T, bool)
	health    *health
}

// transformed is an object to which Transform has been applied.
type transformed[T Object] struct{ object T }

// GetObjectMeta returns the metadata, for the Reflector.
func (t transformed[T]) GetObjectMeta() metav1.Object { return t.object }

// Transformer makes the Reflector transform each object of a streamed list when the object arrives.
// Otherwise the Reflector would hold all untransformed objects until the list is complete. If
// Transform drops an object, the Reflector gets the key of the object instead.
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

// runClock is a clock whose timers also fire when Run ends. While a Reflector waits before its next
// attempt, the Reflector does not notice that its context has ended. So with the real clock, Run
// could return only after this wait.
type runClock struct {
	clock.RealClock
	afterEnd func(f func()) (stop func() bool) // calls f when Run ends
}

func newClock(ctx context.Context) runClock {
	return runClock{afterEnd: func(f func()) func() bool { return context.AfterFunc(ctx, f) }}
}

// After returns a channel. The channel receives a value after the time d. If Run ends earlier, the
// channel receives the value at the end of Run.
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
