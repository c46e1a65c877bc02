package kubewatch

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

const (
	// listTimeout is that of the API server itself (its flag request-timeout).
	listTimeout = time.Minute
	// silence is how long a watch may say nothing, or an answer take to begin. An API
	// server sends a bookmark every minute to whoever allows them.
	silence = 2 * time.Minute
	// unheard is how long after the last word a watch that ends is not resumed, but listed.
	// A server whose store is one of before what was seen last has nothing to say to it
	// until it has come that far again.
	unheard = 10 * time.Minute
)

// listWatch makes the requests of a Reflector and sees how they fare.
type listWatch struct {
	client                              rest.Interface
	resource, namespace, fields, labels string
	health                              *health
	silence                             time.Duration

	mu      sync.Mutex
	ended   bool
	broken  bool      // the last streamed list was not complete
	heard   time.Time // the last list, or event of a watch
	running sync.WaitGroup
}

// begin counts a request in, unless Run has ended: the Reflector lists in a goroutine
// that it does not wait for.
func (l *listWatch) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	l.running.Add(1)
	return true
}

func (l *listWatch) wait() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.running.Wait()
}

func (l *listWatch) request(options metav1.ListOptions) *rest.Request {
	options.FieldSelector, options.LabelSelector = l.fields, l.labels
	// Retries are the Reflector's, so that a failure is known at once.
	return l.client.Get().MaxRetries(0).Namespace(l.namespace).Resource(l.resource).
		VersionedParams(&options, metav1.ParameterCodec)
}

// ListWithContext implements cache.ListerWatcherWithContext.
func (l *listWatch) ListWithContext(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	if !l.begin() {
		return nil, context.Canceled
	}
	defer l.running.Done()
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	list, err := l.request(options).Do(ctx).Get()
	if err != nil {
		l.health.failed(err)
	} else {
		l.hear()
	}
	return list, err
}

// WatchWithContext implements cache.ListerWatcherWithContext.
func (l *listWatch) WatchWithContext(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	if !l.begin() {
		return nil, context.Canceled
	}
	options.Watch = true
	streamed := options.SendInitialEvents != nil
	if streamed && l.wasBroken() {
		l.running.Done()
		return nil, errBroken // so that the Reflector makes a list; it would try again at once, for ever
	}
	latest := streamed && options.ResourceVersion == ""
	inner, cancel, err := l.open(ctx, options)
	if err != nil {
		l.running.Done()
		if latest {
			err = listInstead(err)
		}
		if !streamed || utilnet.IsConnectionRefused(err) || apierrors.IsTooManyRequests(err) {
			l.health.watchFailed(err)
		} // else the Reflector makes a list at once, since the server may have no streamed ones, and that will tell
		return nil, err
	}
	l.health.watchPermitted(!streamed)
	s := &stream{inner: inner, events: make(chan watch.Event), stopped: make(chan struct{}), incomplete: streamed, latest: latest}
	go func() {
		defer l.running.Done()
		defer cancel(nil)
		s.forward(l)
	}()
	return s, nil
}

var (
	errSilent = errors.New("no answer to a watch")
	errBroken = errors.New("a streamed list ended before it was complete")
)

// listInstead makes of the error of a streamed list of what is there now one for which the
// Reflector makes a list. Where a server says that this has expired, or has yet to come,
// it would ask again at once, for ever.
func listInstead(err error) error {
	if utilnet.IsConnectionRefused(err) || apierrors.IsTooManyRequests(err) {
		return err // it waits
	}
	return apierrors.NewInternalError(err)
}

func (l *listWatch) setBroken() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = true
}

func (l *listWatch) wasBroken() (broken bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	broken, l.broken = l.broken, false
	return broken
}

func (l *listWatch) hear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = time.Now()
}

func (l *listWatch) unheard() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.heard) >= unheard
}

// open sends the request and waits for the head of the answer.
func (l *listWatch) open(ctx context.Context, options metav1.ListOptions) (watch.Interface, context.CancelCauseFunc, error) {
	var note transportError
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, transportErrorKey{}, &note))
	timer := time.AfterFunc(l.silence, func() { cancel(errSilent) })
	w, err := l.request(options).Watch(ctx)
	timer.Stop()
	if err == nil && reflect.TypeOf(w) == reflect.TypeOf(watch.NewEmptyWatch()) {
		// client-go says so for time-outs and connections that broke.
		if err = note.err; err == nil {
			err = errors.New("the connection broke or timed out")
		}
	}
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, errSilent) {
			err = fmt.Errorf("%w within %v", errSilent, l.silence)
		}
		cancel(nil)
		return nil, nil, err
	}
	return w, cancel, nil
}

// List and Watch are there because cache.ListerWatcher still asks for them.
func (l *listWatch) List(options metav1.ListOptions) (runtime.Object, error) {
	return l.ListWithContext(context.Background(), options)
}

// Watch implements cache.ListerWatcher.
func (l *listWatch) Watch(options metav1.ListOptions) (watch.Interface, error) {
	return l.WatchWithContext(context.Background(), options)
}

// stream is a watch that ends when it has been silent for too long, and whose errors are
// seen.
type stream struct {
	inner      watch.Interface
	events     chan watch.Event
	stopped    chan struct{}
	stop       sync.Once
	incomplete bool // of the list with which it begins
	latest     bool // that list is of what is there now, not of a version or later
}

func (s *stream) ResultChan() <-chan watch.Event { return s.events }

func (s *stream) Stop() {
	s.stop.Do(func() {
		close(s.stopped)
		s.inner.Stop()
	})
}

// forward passes events on until the stream ends. It ends after the goroutine that reads
// the connection.
func (s *stream) forward(l *listWatch) {
	defer close(s.events)
	timer := time.AfterFunc(l.silence, s.inner.Stop)
	defer timer.Stop()
	for event := range s.inner.ResultChan() {
		timer.Reset(l.silence)
		l.hear()
		select {
		case <-s.stopped:
			continue // nobody listens any more, and an error is our own doing
		default:
		}
		switch {
		case event.Type == watch.Error:
			err := apierrors.FromObject(event.Object)
			l.health.watchFailed(err)
			var status *apierrors.StatusError
			if s.incomplete && s.latest && errors.As(listInstead(err), &status) {
				event.Object = &status.ErrStatus
			}
			s.incomplete = false // the Reflector knows what to do about an error
		case event.Type == watch.Bookmark && s.incomplete:
			o, err := meta.Accessor(event.Object)
			s.incomplete = err == nil && o.GetAnnotations()[metav1.InitialEventsAnnotationKey] != "true"
		}
		select {
		case s.events <- event:
		case <-s.stopped:
		}
	}
	select {
	case <-s.stopped:
		return
	default:
	}
	switch {
	case s.incomplete:
		l.setBroken()
		l.health.failed(errBroken)
	case l.unheard():
		select {
		case s.events <- watch.Event{Type: watch.Error, Object: &apierrors.NewResourceExpired("nothing was heard for too long").ErrStatus}:
		case <-s.stopped:
		}
	}
}

// lengthOf gives how many objects a list holds, and how many the server says are left.
func lengthOf(list runtime.Object) (items, remaining int, err error) {
	accessor, err := meta.ListAccessor(list)
	if err != nil {
		return 0, 0, err
	}
	if n := accessor.GetRemainingItemCount(); n != nil {
		remaining = int(*n)
	}
	return meta.LenList(list), remaining, nil
}
