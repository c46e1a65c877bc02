// Package netserve accepts connections, continues to serve when file descriptors run out, and can
// stop without ending running connections.
//
// A Group serves listeners and counts their connections:
//
//	var g netserve.Group
//	go g.Serve(listener, func(ctx context.Context, c net.Conn) { … })
//	…
//	err := g.Shutdown(ctx) // no new connections; waits for the handlers that run
//
// A Loop is only an accept loop, for a server that counts its connections itself. Backoff and Spare
// are the parts of a Loop, for a server that calls accept(2) itself. An HTTPLimiter bounds the
// connections of an http.Server.
//
// If a Group or an HTTPLimiter is full, the source that holds the most connections makes room, as
// package fairshare describes.
//
// The package reads no protocol, sets no deadlines, writes no log, and does not recover from
// panics. The handler must do all this.
package netserve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/internal/fairshare"
)

// ErrClosed is the error of Group.Serve after Shutdown or Close, and of Loop.Run after Stop.
var ErrClosed = errors.New("netserve: group closed")

// Handler serves one connection; the Group closes it when Handler returns. Close cancels ctx, and
// Shutdown does not. Evicted, called with ctx, reports whether the Group has closed the connection
// to make room for another connection.
type Handler func(ctx context.Context, c net.Conn)

// Evicted reports whether a Group has closed a connection to make room for another one. ctx is the
// context of the connection's Handler.
func Evicted(ctx context.Context) bool {
	c, ok := ctx.Value(connKey{}).(*conn)
	return ok && c.evicted.Load()
}

type connKey struct{}

// Group serves the connections of any number of listeners until Shutdown or Close, which end its
// use. The zero value is ready to use. Its methods are safe for concurrent use; do not change the
// fields after the first Serve.
type Group struct {
	// MaxConns is the largest number of connections that are served at the same time, of all
	// listeners together. 0 means no limit.
	//
	// At the limit, a new connection replaces the oldest connection of another source, if that
	// source has more connections than its share (see package fairshare). If there is no such
	// source, the new connection waits until another connection ends. At most max(MaxConns, 128)
	// connections wait; the Group closes further connections.
	MaxConns int

	// Refused, if not nil, is called for each connection that the Group closes because too many
	// connections wait already. Several goroutines may call it at the same time.
	Refused func(net.Conn)

	// AcceptError, if not nil, is called after each failed accept. pause is the pause that follows.
	// The goroutine of Serve calls it.
	AcceptError func(l net.Listener, err error, pause time.Duration)

	mu        sync.Mutex
	started   bool
	closing   bool
	listeners map[*net.Listener]struct{} // the keys are pointers, because == cannot compare every type of listener
	conns     map[*conn]struct{}
	idle      chan struct{} // closed when conns becomes empty; nil while nobody waits
	stop      chan struct{} // closed when closing begins
	waiting   atomic.Int64  // connections that wait for room
	room      chan struct{} // has an element after a connection has ended
	served    fairshare.Table[*conn]
}

// conn is a connection whose handler has not returned yet.
type conn struct {
	net.Conn
	cancel  context.CancelFunc // cancels the handler's context
	begin   time.Time          // when the Group accepted the connection
	evicted atomic.Bool        // true if the Group closed the connection to make room; see Evicted
	share   fairshare.Entry[*conn]
}

// ShareEntry implements fairshare.Member.
func (c *conn) ShareEntry() *fairshare.Entry[*conn] { return &c.share }

// Idle implements fairshare.Member. The Group does not see the bytes, so the oldest connection
// counts as the one that has been idle for longest.
func (c *conn) Idle() time.Duration { return time.Since(c.begin) }

// Serve accepts the connections of l, and calls the function "handle" for each in a new goroutine.
// It returns ErrClosed after Shutdown or Close. If somebody else closes l, it returns the error of
// Accept. Serve closes l before it returns. Handlers may still run then; Shutdown waits for them.
func (g *Group) Serve(l net.Listener, handle Handler) error {
	defer l.Close()
	if !g.addListener(&l) {
		return ErrClosed
	}
	defer g.removeListener(&l)

	loop := Loop{Listener: l, Stop: g.stop, Failed: func(err error, pause time.Duration) (freed bool) {
		if IsOutOfDescriptors(err) {
			victims := g.served.Shed()
			for _, victim := range victims {
				victim.evict()
			}
			freed = len(victims) > 0
		}
		if g.AcceptError != nil {
			g.AcceptError(l, err, pause)
		}
		return freed
	}}
	err := loop.Run(func(nc net.Conn) {
		c := &conn{Conn: nc, begin: time.Now()}
		ctx, cancel := context.WithCancel(context.WithValue(context.Background(), connKey{}, c))
		c.cancel = cancel
		if !g.addConn(c) {
			c.close()
			return
		}
		go g.serveConn(ctx, c, handle, g.makeRoom(c))
	})
	if err == ErrClosed {
		return err
	}
	return fmt.Errorf("netserve: %w", err)
}

// Shutdown closes the listeners, and returns when the handlers of all accepted connections have
// returned. A call of Close during Shutdown closes the connections, but Shutdown still waits for the
// handlers.
//
// If ctx ends first, Shutdown returns the error of ctx, and the connections stay open until a call of
// Close.
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

// Close closes the listeners and all connections, and only then cancels the contexts of the
// handlers, so that no handler sends its client an answer about the cancelled context. It does not
// wait for handlers. It returns the first error of closing a listener.
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

// evict closes a connection that makes room for another one.
func (c *conn) evict() {
	c.evicted.Store(true)
	c.close()
}

// serveConn calls the handler, and closes the connection afterwards, even if the handler panics. If
// hasRoom is false, serveConn first waits until there is room, and only then calls the handler.
func (g *Group) serveConn(ctx context.Context, c *conn, handle Handler, hasRoom bool) {
	defer g.removeConn(c)
	defer g.giveRoom(c)
	defer c.close()
	if hasRoom || g.waitForRoom(ctx, c) {
		handle(ctx, c.Conn)
	}
}

// makeRoom reports whether the Group can serve a connection now. If the connection takes the place
// of an older connection, makeRoom closes the older connection.
func (g *Group) makeRoom(c *conn) bool {
	victim, err := g.served.AddServing(c, keyOf(c), false)
	if err != nil {
		return false
	}
	if victim != nil {
		victim.evict()
	}
	return true
}

// giveRoom is called when a connection no longer needs its place in the Group. It wakes one
// connection that waits for a place.
func (g *Group) giveRoom(c *conn) {
	g.served.Remove(c)
	g.wakeOne()
}

func (g *Group) wakeOne() {
	select {
	case g.room <- struct{}{}:
	default:
	}
}

// minWaiting is the smallest value for the limit of waiting connections that a Group computes from
// MaxConns; see Group.MaxConns.
const minWaiting = 128

// waitForRoom returns true when there is room for a connection, and false if Close ends ctx first
// or too many connections wait already. Shutdown does not end this wait: an accepted connection
// will be served.
func (g *Group) waitForRoom(ctx context.Context, c *conn) bool {
	defer g.waiting.Add(-1)
	if g.waiting.Add(1) > int64(max(g.MaxConns, minWaiting)) {
		if g.Refused != nil {
			g.Refused(c.Conn)
		}
		return false
	}
	for {
		select {
		case <-g.room:
			if g.makeRoom(c) {
				g.wakeOne() // several connections may have ended before one was woken
				return true
			}
		case <-ctx.Done():
			return false
		}
	}
}

// keyOf returns the key of the source to which package fairshare counts a connection. All
// connections without an IP address count to one source.
func keyOf(c net.Conn) fairshare.Key {
	if tcp, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return fairshare.KeyOf(tcp.AddrPort().Addr())
	}
	return 0
}

// beginClosing closes the listeners if they are not closed yet. It returns the first error.
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

// init initializes the fields of a zero Group. The caller holds g.mu.
func (g *Group) init() {
	if g.started {
		return
	}
	g.started = true
	g.listeners = make(map[*net.Listener]struct{})
	g.conns = make(map[*conn]struct{})
	g.stop = make(chan struct{})
	g.room = make(chan struct{}, 1)
	g.served.Max = g.MaxConns
}

// addListener records a listener, which Shutdown and Close close. After Shutdown or Close, it
// records nothing and returns false.
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

// addConn records a connection, for which Shutdown waits. After Shutdown or Close, it records
// nothing and returns false.
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

// whenIdle returns a channel that is closed when the last connection has ended. If there is no
// connection, it returns nil.
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
