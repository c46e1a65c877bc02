// Package netserve accepts connections, survives a lack of file descriptors, and stops in order.
//
// A Group serves listeners and counts their connections:
//
//	var g netserve.Group
//	go g.Serve(listener, func(ctx context.Context, c net.Conn) { … })
//	…
//	err := g.Shutdown(ctx) // no new connections; waits for the handlers that run
//
// A Loop is the accept loop alone, for a server that counts its connections itself. Backoff and
// Spare are its parts, for a server that calls accept(2) itself.
//
// The package has no protocols, deadlines, logs or panics: the handler deals with those.
package netserve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// ErrClosed is what Serve returns after Shutdown or Close, and Loop.Run after Stop.
var ErrClosed = errors.New("netserve: group closed")

// Handler serves one connection. Close cancels ctx; Shutdown does not. The Group closes the
// connection when the handler returns.
type Handler func(ctx context.Context, c net.Conn)

// Group serves the connections of any number of listeners until Shutdown or Close. The zero
// value is ready to use. Its fields must not change after the first Serve. Its methods may be
// called from several goroutines. A Group cannot be used again after Shutdown or Close.
type Group struct {
	// MaxConns bounds how many connections are served at the same time, over all listeners.
	// When the bound is reached, each listener accepts one more connection, holds it until
	// another ends, and leaves the rest in the kernel's backlog. 0 means no bound.
	MaxConns int

	// AcceptError, if not nil, is called after each failed accept with the pause that follows.
	// Serve calls it from its own goroutine.
	AcceptError func(l net.Listener, err error, pause time.Duration)

	mu        sync.Mutex
	started   bool
	closing   bool
	listeners map[*net.Listener]struct{} // by pointer, since a listener need not be comparable
	conns     map[*conn]struct{}
	idle      chan struct{} // closed when conns becomes empty; nil while nobody waits
	stop      chan struct{} // closed when closing begins
	slots     chan struct{} // one element for each connection that is served; nil without a bound
}

// conn is a connection from its accept to the return of its handler.
type conn struct {
	net.Conn
	cancel context.CancelFunc // of the handler's context
}

// Serve accepts the connections of l and calls handle for each in a new goroutine. Serve blocks
// until Shutdown or Close and then returns ErrClosed. When somebody else closes l, Serve returns
// the error of Accept. Serve closes l in both cases. Handlers may still run when Serve returns;
// Shutdown waits for them.
func (g *Group) Serve(l net.Listener, handle Handler) error {
	defer l.Close()
	if !g.addListener(&l) {
		return ErrClosed
	}
	defer g.removeListener(&l)

	loop := Loop{Listener: l, Stop: g.stop}
	if g.AcceptError != nil {
		loop.Failed = func(err error, pause time.Duration) { g.AcceptError(l, err, pause) }
	}
	err := loop.Run(func(nc net.Conn) {
		ctx, cancel := context.WithCancel(context.Background())
		c := &conn{nc, cancel}
		if !g.addConn(c) {
			c.close()
			return
		}
		if !g.acquireSlot(ctx) {
			c.close()
			g.removeConn(c)
			return
		}
		go g.serveConn(ctx, c, handle)
	})
	if err == ErrClosed {
		return err
	}
	return fmt.Errorf("netserve: %w", err)
}

// Shutdown closes the listeners and waits until the handlers of all accepted connections have
// returned. If ctx ends first, Shutdown returns the error of ctx and leaves the connections open;
// Close ends them. After Close, Shutdown waits for the handlers that still run.
func (g *Group) Shutdown(ctx context.Context) error {
	g.beginClosing()
	for {
		idle := g.whenIdle()
		if idle == nil {
			return nil
		}
		select {
		case <-idle:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close closes the listeners and all connections, and then cancels the contexts of the handlers.
// In this order, a handler cannot send an answer about its cancelled context. Close does not wait
// for handlers. It returns the first error of closing a listener.
func (g *Group) Close() error {
	err := g.beginClosing()
	g.mu.Lock()
	conns := make([]*conn, 0, len(g.conns))
	for c := range g.conns {
		conns = append(conns, c)
	}
	g.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
	for _, c := range conns {
		c.cancel()
	}
	return err
}

func (c *conn) close() {
	c.Close()
	c.cancel()
}

// serveConn calls the handler. It closes the connection also when the handler panics.
func (g *Group) serveConn(ctx context.Context, c *conn, handle Handler) {
	defer g.removeConn(c)
	defer g.releaseSlot()
	defer c.close()
	handle(ctx, c.Conn)
}

// beginClosing closes the listeners, once, and returns the first error.
func (g *Group) beginClosing() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.init()
	if g.closing {
		return nil
	}
	g.closing = true
	close(g.stop)
	var first error
	for l := range g.listeners {
		if err := (*l).Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// init makes the zero value usable. The caller holds g.mu.
func (g *Group) init() {
	if g.started {
		return
	}
	g.started = true
	g.listeners = make(map[*net.Listener]struct{})
	g.conns = make(map[*conn]struct{})
	g.stop = make(chan struct{})
	if g.MaxConns > 0 {
		g.slots = make(chan struct{}, g.MaxConns)
	}
}

// addListener returns false after Shutdown or Close.
func (g *Group) addListener(l *net.Listener) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.init()
	if g.closing {
		return false
	}
	g.listeners[l] = struct{}{}
	return true
}

func (g *Group) removeListener(l *net.Listener) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.listeners, l)
}

// addConn returns false after Shutdown or Close.
func (g *Group) addConn(c *conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing {
		return false
	}
	g.conns[c] = struct{}{}
	return true
}

func (g *Group) removeConn(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, c)
	if len(g.conns) == 0 && g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

// whenIdle returns a channel that is closed when the last connection has ended, or nil if there
// is no connection.
func (g *Group) whenIdle() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.conns) == 0 {
		return nil
	}
	if g.idle == nil {
		g.idle = make(chan struct{})
	}
	return g.idle
}

// acquireSlot waits for room under MaxConns. Shutdown does not end the wait, because the
// connection was accepted and will be served. Close ends it through ctx and returns false.
func (g *Group) acquireSlot(ctx context.Context) bool {
	if g.slots == nil {
		return true
	}
	select {
	case g.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (g *Group) releaseSlot() {
	if g.slots != nil {
		<-g.slots
	}
}
