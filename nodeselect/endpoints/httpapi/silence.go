package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptrace"
	"sync"
	"time"
)

// errSilent means that a server accepts no connection, or sends nothing.
var errSilent = errors.New("the server is silent")

// boundSilence returns a context for one request, which ends with errSilent if:
//
//   - the request still has no connection after the time in the argument "limit";
//   - no byte of the answer arrives within wait + limit after net/http has sent the request.
//
// A slow body does not end the context. The caller must call the function "cancel".
func boundSilence(ctx context.Context, wait, limit time.Duration) (bounded context.Context, cancel func()) {
	ctx, cancelCause := context.WithCancelCause(ctx)
	s := &silence{timer: time.AfterFunc(wait+limit, func() {
		cancelCause(fmt.Errorf("%w: no answer within %s", errSilent, wait+limit))
	})}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:              func(string) { s.reset(limit) },
		WroteRequest:         func(httptrace.WroteRequestInfo) { s.reset(wait + limit) },
		GotFirstResponseByte: s.end,
	})
	return ctx, func() { s.end(); cancelCause(nil) }
}

// silence is the timer of boundSilence. mu guards the other fields, because net/http calls the
// functions of a trace from several goroutines.
//
// net/http may call WroteRequest after GotFirstResponseByte. In this case, WroteRequest must not
// start the timer again.
type silence struct {
	mu    sync.Mutex
	timer *time.Timer
	ended bool
}

func (s *silence) reset(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.timer.Reset(d)
	}
}

func (s *silence) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.timer.Stop()
}
