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
	// listTimeout is the time limit of a list. An API server has the same default, in its flag
	// request-timeout.
	listTimeout = time.Minute
	// silence is the time without an event after which a new watch replaces the old one, and the
	// time limit for the header of a response. An API server sends a bookmark every minute.
	silence = 2 * time.Minute
	// maxAge is the largest age of the last response. If the last response is older than maxAge
	// when a watch ends, the next request is a list and not a watch. The reason is that the server's
	// store may have been restored from a backup: a resumed watch would then receive nothing until
	// the server's version numbers have reached the numbers that they had before.
	maxAge = 10 * time.Minute
)

// listWatch sends the requests of a Reflector. It reports failures of these requests to the field
// "health".
type listWatch struct {
	client                              rest.Interface
	resource, namespace, fields, labels string
	health                              *health
	silence                             time.Duration

	mu           sync.Mutex
	ended        bool
	broken       bool      // the last streamed list ended before it was complete
	lastResponse time.Time // time of the last list, or of the last event of a watch
	running      sync.WaitGroup
}

// begin counts a request, so that l.wait can wait for its end. After a call of l.wait, begin
// returns false, and the caller must not send the request. Such late requests are possible because
// the Reflector lists in a goroutine that may outlive the Reflector.
func (l *listWatch) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	l.running.Add(1)
	return true
}

// wait makes l.begin return false from now on, so that no new request starts. wait returns when all
// running requests have ended.
func (l *listWatch) wait() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.running.Wait()
}

func (l *listWatch) request(options metav1.ListOptions) *rest.Request {
	options.FieldSelector, options.LabelSelector = l.fields, l.labels
	// Do not let client-go retry. The Reflector retries, and so health gets each failure
	// immediately.
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
		l.noteResponse()
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
		return nil, errBroken // makes the Reflector list; otherwise it would try a stream again at once, forever
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
		} // otherwise the Reflector lists at once, as the server may not support streams, and the list reports failures
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

// listInstead converts an error of a streamed list into an error after which the Reflector sends a
// normal list. A server may answer that the resource version has expired or does not exist yet,
// although a streamed list names no version. Without listInstead, the Reflector would then repeat
// the streamed list forever without a pause.
func listInstead(err error) error {
	if utilnet.IsConnectionRefused(err) || apierrors.IsTooManyRequests(err) {
		return err // the Reflector pauses after these errors
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

func (l *listWatch) noteResponse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastResponse = time.Now()
}

func (l *listWatch) tooOld() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.lastResponse) >= maxAge
}

// open sends the request for a watch, and waits for the header of the response.
func (l *listWatch) open(ctx context.Context, options metav1.ListOptions) (watch.Interface, context.CancelCauseFunc, error) {
	var note transportError
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, transportErrorKey{}, &note))
	timer := time.AfterFunc(l.silence, func() { cancel(errSilent) })
	w, err := l.request(options).Watch(ctx)
	timer.Stop()
	if err == nil && reflect.TypeOf(w) == reflect.TypeOf(watch.NewEmptyWatch()) {
		// If the request times out or the connection breaks, client-go returns an empty watch and
		// no error. Turn this into an error, because otherwise it would look like a watch that has
		// ended normally.
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

// List implements cache.ListerWatcher.
func (l *listWatch) List(options metav1.ListOptions) (runtime.Object, error) {
	return l.ListWithContext(context.Background(), options)
}

// Watch implements cache.ListerWatcher.
func (l *listWatch) Watch(options metav1.ListOptions) (watch.Interface, error) {
	return l.WatchWithContext(context.Background(), options)
}

// stream is a watch of an API server. It reports the errors of the watch to listWatch.health. If no
// event arrives for the time listWatch.silence, stream ends the watch.
type stream struct {
	inner      watch.Interface
	events     chan watch.Event
	stopped    chan struct{}
	stop       sync.Once
	incomplete bool // the watch begins with a streamed list, and the end of this list has not arrived yet
	latest     bool // the streamed list is of the latest version, and not of a given version or a later one
}

func (s *stream) ResultChan() <-chan watch.Event { return s.events }

func (s *stream) Stop() {
	s.stop.Do(func() {
		close(s.stopped)
		s.inner.Stop()
	})
}

// forward passes events to the Reflector until the watch ends. When it returns, the goroutine that
// reads from the connection has ended.
func (s *stream) forward(l *listWatch) {
	defer close(s.events)
	timer := time.AfterFunc(l.silence, s.inner.Stop)
	defer timer.Stop()
	for event := range s.inner.ResultChan() {
		timer.Reset(l.silence)
		l.noteResponse()
		select {
		case <-s.stopped:
			continue // the Reflector has stopped the stream, and an error is only the consequence
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
			s.incomplete = false // the Reflector handles the error
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
	case l.tooOld():
		select {
		case s.events <- watch.Event{Type: watch.Error, Object: &apierrors.NewResourceExpired("no response for too long").ErrStatus}:
		case <-s.stopped:
		}
	}
}
