package agentcheck

import (
	"context"
	"net"
)

// Request is one question of HAProxy.
type Request struct {
	// Name is the text of HAProxy's agent-send without its line end, "" if the server does not
	// read one. It comes from the network: at most MaxName bytes of anything but CR and LF.
	Name string

	// LocalAddr is where HAProxy connected to, RemoteAddr where it came from.
	LocalAddr, RemoteAddr net.Addr
}

// Handler decides on the answer to HAProxy. ServeAgent is called from several goroutines at
// once. It should answer at once, from memory: HAProxy waits for no longer than its agent-inter,
// and then keeps the last answer. The context ends when that time is over or the server closes.
type Handler interface {
	ServeAgent(context.Context, *Request) Reply
}

// HandlerFunc is a function as a [Handler].
type HandlerFunc func(context.Context, *Request) Reply

// ServeAgent calls f.
func (f HandlerFunc) ServeAgent(ctx context.Context, q *Request) Reply { return f(ctx, q) }

// ServeAgent returns r: a Reply is the Handler that always gives it.
func (r Reply) ServeAgent(context.Context, *Request) Reply { return r }

// Worst asks all handlers, in order, and combines their answers with [Reply.Worst]. Without
// handlers it answers the zero Reply.
func Worst(handlers ...Handler) Handler {
	if len(handlers) == 1 {
		return handlers[0]
	}
	return worst(append([]Handler(nil), handlers...))
}

type worst []Handler

func (w worst) ServeAgent(ctx context.Context, q *Request) Reply {
	var r Reply
	for _, h := range w {
		r = r.Worst(h.ServeAgent(ctx, q))
	}
	return r
}
