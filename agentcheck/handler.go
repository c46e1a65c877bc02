package agentcheck

import (
	"context"
	"net"
)

// Request is one agent check of HAProxy.
type Request struct {
	// Name is the text of HAProxy's agent-send without its line end. It is "" unless
	// Server.ReadName is set. It is untrusted input: up to MaxName bytes of any value except CR and
	// LF.
	Name string

	// LocalAddr is the address that HAProxy connected to, RemoteAddr the address of HAProxy.
	LocalAddr, RemoteAddr net.Addr
}

// Handler decides on the answer to HAProxy. The Server calls ServeAgent from several goroutines at
// the same time. ServeAgent should answer at once, from memory: after agent-inter HAProxy stops
// waiting and keeps the last answer. The context ends after Server.Timeout, or when the server
// closes.
type Handler interface {
	ServeAgent(context.Context, *Request) Reply
}

// HandlerFunc makes a [Handler] of a function.
type HandlerFunc func(context.Context, *Request) Reply

// ServeAgent calls f.
func (f HandlerFunc) ServeAgent(ctx context.Context, q *Request) Reply { return f(ctx, q) }

// ServeAgent returns r: a Reply is a Handler with a constant answer.
func (r Reply) ServeAgent(context.Context, *Request) Reply { return r }

// MostRestrictive returns a Handler that calls all handlers in order and combines their answers
// with [Reply.MostRestrictive]. Without handlers it answers the zero Reply.
func MostRestrictive(handlers ...Handler) Handler {
	if len(handlers) == 1 {
		return handlers[0]
	}
	return combined(append([]Handler(nil), handlers...))
}

type combined []Handler

func (c combined) ServeAgent(ctx context.Context, q *Request) Reply {
	var r Reply
	for _, h := range c {
		r = r.MostRestrictive(h.ServeAgent(ctx, q))
	}
	return r
}
