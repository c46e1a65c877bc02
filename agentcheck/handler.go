package agentcheck

import (
	"context"
	"net"
)

// Request is one agent check of HAProxy.
type Request struct {
	// Name is the text that HAProxy sent with agent-send, without the line end. It is "" unless
	// Server.ReadName is set. Do not trust Name: any program can send up to MaxName bytes, with any
	// values except CR and LF.
	Name string

	// LocalAddr is the agent's address to which HAProxy connected. RemoteAddr is the address of
	// HAProxy.
	LocalAddr, RemoteAddr net.Addr
}

// Handler decides which answer HAProxy receives. The Server calls ServeAgent from several
// goroutines. ServeAgent should answer without waiting: if no answer arrives within agent-inter,
// HAProxy keeps the last answer. The context ends after Server.Timeout, or when the server closes.
type Handler interface {
	ServeAgent(context.Context, *Request) Reply
}

// HandlerFunc makes a [Handler] of a function.
type HandlerFunc func(context.Context, *Request) Reply

// ServeAgent calls f.
func (f HandlerFunc) ServeAgent(ctx context.Context, q *Request) Reply { return f(ctx, q) }

// ServeAgent returns r. So a Reply is a Handler that always gives the same answer.
func (r Reply) ServeAgent(context.Context, *Request) Reply { return r }

// MostRestrictive returns a Handler that calls all handlers in order and combines their answers
// with [Reply.MostRestrictive]. If there are no handlers, it answers with the zero Reply.
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
