package kubewatch

import (
	"context"
	"errors"
	"net"
	"net/url"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Error says why and since when the objects of a resource cannot be followed.
type Error struct {
	Resource string
	Since    time.Time // when it began; the reason may have been another then
	Err      error     // the reason
}

// Error gives "resource: reason (since time)".
func (e *Error) Error() string {
	return e.Resource + ": " + e.Err.Error() + " (since " + e.Since.UTC().Format(time.RFC3339) + ")"
}

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Err }

// health tells report of the changes between answering and not.
type health struct {
	ctx      context.Context // of the Run that it belongs to; what fails for its end is no error
	resource string
	report   func(error)

	mu      sync.Mutex
	failing *Error
	refused bool // the watch is not permitted: that lists are does not make it well
}

func newHealth(ctx context.Context, resource string, report func(error)) *health {
	return &health{ctx: ctx, resource: resource, report: report}
}

func (h *health) failed(err error) { h.fail(err, false) }

// watchFailed takes the error of a watch. One that has expired is none: it is listed
// again.
func (h *health) watchFailed(err error) {
	if !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
		h.fail(err, apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsMethodNotSupported(err))
	}
}

func (h *health) fail(err error, refused bool) {
	if h.ctx.Err() != nil {
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

func (h *health) listed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.refused {
		h.recover()
	}
}

// watchPermitted says that a watch has been opened. If it is a streamed list, that is
// well only when the list is complete.
func (h *health) watchPermitted(well bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refused = false
	if well {
		h.recover()
	}
}

func (h *health) recover() {
	if h.failing != nil && h.ctx.Err() == nil {
		h.failing = nil
		h.report(nil)
	}
}

// reason drops from an error what differs between two attempts, the query of the
// request and the local port, so that the same failure reads the same.
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
