package kubewatch

import (
	"errors"
	"net"
	"net/url"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Error is the reason why the objects of a resource cannot be listed or watched.
type Error struct {
	Resource string
	Since    time.Time // the start of the failure; its reason may have changed since
	Err      error     // the present reason
}

// Error returns "resource: reason (since time)".
func (e *Error) Error() string {
	return e.Resource + ": " + e.Err.Error() + " (since " + e.Since.UTC().Format(time.RFC3339) + ")"
}

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Err }

// health reports the state of an API server: it calls the function "report" with an error when the
// server stops answering, and with nil when it answers again.
type health struct {
	done     <-chan struct{} // closed when Run ends; failures after that are not reported
	resource string
	report   func(error)

	mu      sync.Mutex
	failing *Error
	refused bool // the server forbids the watch, so a successful list does not end the failure
}

func (h *health) failed(err error) { h.fail(err, false) }

// watchFailed reports the error with which a watch ended. It does not report the end of an expired
// watch, because the Reflector then lists again.
func (h *health) watchFailed(err error) {
	if !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
		h.fail(err, apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsMethodNotSupported(err))
	}
}

func (h *health) ended() bool {
	select {
	case <-h.done:
		return true
	default:
		return false
	}
}

func (h *health) fail(err error, refused bool) {
	if h.ended() {
		return
	}
	err = reason(err)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refused = refused
	now := &Error{Resource: h.resource, Since: time.Now(), Err: err}
	if h.failing != nil {
		if h.failing.Err.Error() == err.Error() {
			return
		}
		now.Since = h.failing.Since
	}
	h.failing = now
	h.report(now)
}

// listed records that the sink has received a list, so the API server answers lists.
func (h *health) listed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.refused {
		h.recover()
	}
}

// watchPermitted notes that the server has accepted a watch. The argument "healthy" says whether
// this proves that the server works. healthy is false for a streamed list, because only the
// complete list is a proof.
func (h *health) watchPermitted(healthy bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refused = false
	if healthy {
		h.recover()
	}
}

func (h *health) recover() {
	if h.failing != nil && !h.ended() {
		h.failing = nil
		h.report(nil)
	}
}

// reason removes the query and the local port from an error, which differ from request to request.
// So its text changes only if its reason changes.
func reason(err error) error {
	var request *url.Error
	if errors.As(err, &request) {
		err = request.Err
	}
	var op *net.OpError
	if errors.As(err, &op) {
		short := *op
		short.Source = nil
		err = &short
	}
	return err
}
