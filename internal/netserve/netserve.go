// Package netserve runs the accept loops of a stream server and keeps count of its
// connections: one well-tested way to start, to survive a lack of file descriptors, and to
// stop.
//
//	var g netserve.Group
//	go g.Serve(listener, func(ctx context.Context, c net.Conn) { … })
//	…
//	err := g.Shutdown(ctx) // no new connections; waits for those that are served
//
// A Group owns the listeners and connections that it is given: it closes every connection when
// its handler returns, and every listener when its Serve returns. An accept error never ends
// Serve: it is retried after a growing pause (5 ms to 1 s), since the usual causes, ECONNABORTED
// and EMFILE, pass. Only the end of the listener itself does.
//
// The package knows nothing of protocols, deadlines, logs or panics: those belong to the handler.
package netserve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// ErrClosed is what Serve returns once Shutdown or Close was called.
var ErrClosed = errors.New("netserve: group closed")

// The pauses between failed accepts. The first is short, for a client that went away between
// SYN and accept; the last is short enough to be unnoticed once descriptors are free again.
const (
	minBackoff = 5 * time.Millisecond
	maxBackoff = time.Second
)

// Handler serves one connection. The context ends when the group is closed, not when it shuts
// down. The connection is closed when the handler returns.
type Handler func(ctx context.Context, c net.Conn)

// Group serves the connections of any number of listeners until Shutdown or Close. The zero
// value is ready to use. Its fields must not change after the first Serve; its methods may be
// called from several goroutines. A Group cannot be used again after Shutdown or Close.
type Group struct {
	// MaxConns bounds how many connections are served at the same time, over all listeners.
	// Beyond it each listener holds one accepted connection until there is room and leaves the
	// rest to the kernel's backlog. 0 means no bound.
	MaxConns int

	// AcceptError, if not nil, is told of every failed accept and of the pause that follows.
	// It is called from within Serve.
	AcceptError func(l net.Listener, err error, pause time.Duration)

	mu        sync.Mutex
	started   bool
	closing   bool
	lastID    uint64
	listeners map[uint64]net.Listener
	conns     map[uint64]net.Conn
	idle      chan struct{}      // closed when conns becomes empty; nil while nobody waits
	stop      chan struct{}      // closed when closing begins
	slots     chan struct{}      // one element for each served connection; nil without a bound
	ctx       context.Context    // what handlers get
	cancel    context.CancelFunc // called by Close
}

// Serve accepts connections of l and runs handle for each in a goroutine of its own. It blocks
// until Shutdown or Close, then returns ErrClosed, or until l is closed by somebody else, then
// returns the error of Accept. It closes l in each case. Connections may still be served when
// it returns; Shutdown waits for them.
func (g *Group) Serve(l net.Listener, handle Handler) error {
	defer l.Close()
	id, ok := g.addListener(l)
	if !ok {
		return ErrClosed
	}
	defer g.dropListener(id)

	var pause time.Duration
	for {
		c, err := l.Accept()
		if err != nil {
			if g.isClosing() {
				return ErrClosed
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("netserve: %w", err)
			}
			pause = min(max(2*pause, minBackoff), maxBackoff)
			if g.AcceptError != nil {
				g.AcceptError(l, err, pause)
			}
			if !g.sleep(pause) {
				return ErrClosed
			}
			continue
		}
		pause = 0
		cid, ok := g.addConn(c)
		if !ok {
			c.Close()
			return ErrClosed
		}
		if !g.acquire() {
			c.Close()
			g.dropConn(cid)
			return ErrClosed
		}
		go g.serveConn(cid, c, handle)
	}
}

// Shutdown closes the listeners and waits until every connection that was accepted before has
// been served. If ctx ends first it returns its error and leaves the connections open: call
// Close to end them. Waiting is also possible after Close: Shutdown then returns when the last
// handler has.
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

// Close closes the listeners and all connections and then ends the handlers' context, so that
// what a handler says because of that reaches nobody. It does not wait for handlers to return.
// It returns the first error of closing a listener.
func (g *Group) Close() error {
	err := g.beginClosing()
	g.mu.Lock()
	conns := make([]net.Conn, 0, len(g.conns))
	for _, c := range g.conns {
		conns = append(conns, c)
	}
	g.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
	g.cancel()
	return err
}

// serveConn owns one connection from its slot to its close, also when the handler panics.
func (g *Group) serveConn(id uint64, c net.Conn, handle Handler) {
	defer g.dropConn(id)
	defer g.release()
	defer c.Close()
	handle(g.ctx, c)
}

// beginClosing closes the listeners, once, and reports the first error.
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
	for _, l := range g.listeners {
		if err := l.Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// init makes the zero value usable. g.mu must be held.
func (g *Group) init() {
	if g.started {
		return
	}
	g.started = true
	g.listeners = make(map[uint64]net.Listener)
	g.conns = make(map[uint64]net.Conn)
	g.stop = make(chan struct{})
	g.ctx, g.cancel = context.WithCancel(context.Background())
	if g.MaxConns > 0 {
		g.slots = make(chan struct{}, g.MaxConns)
	}
}

func (g *Group) addListener(l net.Listener) (id uint64, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.init()
	if g.closing {
		return 0, false
	}
	g.lastID++
	g.listeners[g.lastID] = l
	return g.lastID, true
}

func (g *Group) dropListener(id uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.listeners, id)
}

func (g *Group) addConn(c net.Conn) (id uint64, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing {
		return 0, false
	}
	g.lastID++
	g.conns[g.lastID] = c
	return g.lastID, true
}

func (g *Group) dropConn(id uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, id)
	if len(g.conns) == 0 && g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

// whenIdle returns a channel that is closed when no connection is left, nil if none is.
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

func (g *Group) isClosing() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closing
}

// acquire waits for room under MaxConns. Shutdown does not end the wait, since the connection
// was accepted and will be served; Close does.
func (g *Group) acquire() bool {
	if g.slots == nil {
		return true
	}
	select {
	case g.slots <- struct{}{}:
		return true
	case <-g.ctx.Done():
		return false
	}
}

func (g *Group) release() {
	if g.slots != nil {
		<-g.slots
	}
}

// sleep pauses before the next accept; false when the group closes meanwhile.
func (g *Group) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-g.stop:
		return false
	}
}
